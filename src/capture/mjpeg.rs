//! Splits a byte stream into JPEG images.

/// An image that grows larger has lost its end marker: one of 64 megapixels at high quality has less.
const MAX_IMAGE_BYTES: usize = 16 << 20;

/// A part of the stream.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Image(Vec<u8>),
    /// An image that another one interrupted, or that never ended.
    Incomplete,
}

/// Splits a byte stream into JPEG images.
///
/// It skips segments by their lengths, so a thumbnail inside a segment does not end the image.
#[derive(Default)]
pub(super) struct Splitter {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are known to belong to the image at its start.
    scanned: usize,
    in_image: bool,
    in_scan: bool,
}

impl Splitter {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What came and belongs to no piece yet.
    pub(super) fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// The next image, once its end has arrived.
    pub(super) fn next(&mut self) -> Option<Piece> {
        if !self.in_image && !self.find_start() {
            return None;
        }
        if let Some(end) = self.find_end() {
            let rest = self.buffer.split_off(end);
            let image = std::mem::replace(&mut self.buffer, rest);
            (self.scanned, self.in_image, self.in_scan) = (0, false, false);
            return Some(if image.ends_with(&[0xff, 0xd9]) {
                Piece::Image(image)
            } else {
                Piece::Incomplete
            });
        }
        if self.buffer.len() > MAX_IMAGE_BYTES {
            *self = Self::default();
            return Some(Piece::Incomplete);
        }
        None
    }

    /// Drops everything before the next start-of-image marker; returns whether there is one.
    fn find_start(&mut self) -> bool {
        let start = self.buffer.windows(3).position(|w| w == [0xff, 0xd8, 0xff]);
        let Some(at) = start else {
            // The buffer may end in the middle of a marker.
            let keep = self.buffer.len().min(2);
            self.buffer.drain(..self.buffer.len() - keep);
            return false;
        };
        self.buffer.drain(..at);
        (self.scanned, self.in_image, self.in_scan) = (2, true, false);
        true
    }

    /// The index after the image's last byte, once it has arrived.
    fn find_end(&mut self) -> Option<usize> {
        loop {
            let at = self.scanned;
            if self.in_scan {
                let ahead = self.buffer.get(at..)?;
                let Some(step) = ahead
                    .windows(2)
                    .position(|w| w[0] == 0xff && !matches!(w[1], 0x00 | 0xd0..=0xd7 | 0xff))
                else {
                    self.scanned = self.buffer.len().saturating_sub(1).max(at);
                    return None;
                };
                self.scanned = at + step;
                self.in_scan = false;
                continue;
            }
            let &[marker_start, marker] = self.buffer.get(at..at + 2)? else {
                return None;
            };
            match (marker_start, marker) {
                (0xff, 0xd9) => return Some(at + 2),
                // Another image begins: this one is incomplete.
                (0xff, 0xd8) => return Some(at),
                (0xff, 0xff) => self.scanned += 1,
                (0xff, 0x01 | 0xd0..=0xd7) => self.scanned += 2,
                (0xff, _) => {
                    let &[high, low] = self.buffer.get(at + 2..at + 4)? else {
                        return None;
                    };
                    self.scanned = at + 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
                    self.in_scan = marker == 0xda;
                }
                // There is no marker where one must be: search for the next.
                _ => self.in_scan = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A minimal image: a segment that contains an end marker, and a scan with stuffed bytes and restart markers.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = b"\xff\xd8\xff\xe1\x00\x06\xff\xd9\xff\xd8\xff\xda\x00\x03\x01".to_vec();
        for &byte in payload {
            image.push(byte);
            if byte == 0xff {
                image.push(0);
            }
        }
        image.extend(b"\xff\xd0\x12\xff\xd9");
        image
    }

    fn split(stream: &[u8], piece: usize) -> Vec<Piece> {
        let mut splitter = Splitter::default();
        let mut images = Vec::new();
        for bytes in stream.chunks(piece) {
            splitter.push(bytes);
            images.extend(std::iter::from_fn(|| splitter.next()));
        }
        images
    }

    proptest! {
        #[test]
        fn images_come_out_as_they_went_in(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6),
            garbage in prop::collection::vec(0u8..0xff, 0..20),
            piece in 1usize..300,
        ) {
            let images: Vec<Vec<u8>> = payloads.iter().map(|p| image(p)).collect();
            let stream: Vec<u8> = images.iter().flat_map(|i| [&garbage[..], i].concat()).collect();
            prop_assert_eq!(split(&stream, piece), images.into_iter().map(Piece::Image).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_survived(stream in prop::collection::vec(any::<u8>(), 0..2000), piece in 1usize..300) {
            let len = |piece: &Piece| if let Piece::Image(image) = piece { image.len() } else { 0 };
            prop_assert!(split(&stream, piece).iter().map(len).sum::<usize>() <= stream.len());
        }
    }

    #[test]
    fn an_incomplete_image_does_not_swallow_the_next() {
        let whole = image(b"abc");
        let cut = &whole[..whole.len() - 4];
        let stream = [cut, &whole[..], &whole[..]].concat();
        assert_eq!(
            split(&stream, 7),
            [
                Piece::Incomplete,
                Piece::Image(whole.clone()),
                Piece::Image(whole)
            ]
        );
    }
}
