//! Splits a byte stream into JPEG images.

use constancy_core::jpeg::{Markers, Part, find_start};
use constancy_core::preprocess::is_complete_jpeg;

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
/// An image ends at its end marker. Some cameras send none: an image that is whole also ends where the next begins. A start
/// without image data behind it is passed over, since some cameras begin twice.
#[derive(Default)]
pub(super) struct Splitter {
    buffer: Vec<u8>,
    /// The image at the buffer's start, once its start marker has arrived.
    image: Option<Arriving>,
}

/// An image whose end has not arrived.
struct Arriving {
    markers: Markers,
    has_scan: bool,
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
        loop {
            if self.image.is_none() && !self.find_start() {
                return None;
            }
            let image = self.image.as_mut()?;
            let has_scan = image.has_scan;
            match image.markers.next(&self.buffer) {
                Some(Part::Segment { .. }) => {}
                Some(Part::Scan(_)) => image.has_scan = true,
                // Without a scan it is damaged, which its decoding tells.
                Some(Part::End(end)) => return Some(Piece::Image(self.cut(end))),
                Some(Part::Start(end)) => {
                    let image = self.cut(end);
                    if has_scan {
                        return Some(judge(image));
                    }
                }
                None if self.buffer.len() > MAX_IMAGE_BYTES => {
                    *self = Self::default();
                    return Some(Piece::Incomplete);
                }
                None => return None,
            }
        }
    }

    /// The image that the end of the stream interrupts, if there is one.
    pub(super) fn finish(&mut self) -> Option<Piece> {
        let image = self.image.take()?;
        let buffer = std::mem::take(&mut self.buffer);
        let has_scan = image.has_scan || image.markers.open_scan(&buffer).is_some();
        has_scan.then(|| judge(buffer))
    }

    /// Takes the first `end` bytes, which are an image.
    fn cut(&mut self, end: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(end);
        self.image = None;
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Drops everything before the next start-of-image marker; returns whether there is one.
    fn find_start(&mut self) -> bool {
        let Some(at) = find_start(&self.buffer) else {
            // The buffer may end in the middle of a marker.
            let keep = self.buffer.len().min(2);
            self.buffer.drain(..self.buffer.len() - keep);
            return false;
        };
        self.buffer.drain(..at);
        self.image = Some(Arriving {
            markers: Markers::new(2),
            has_scan: false,
        });
        true
    }
}

/// What an image without an end marker is.
fn judge(image: Vec<u8>) -> Piece {
    if is_complete_jpeg(&image) {
        Piece::Image(image)
    } else {
        Piece::Incomplete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageEncoder;
    use image::codecs::jpeg::JpegEncoder;
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

    /// A picture that can be decoded.
    fn picture() -> Vec<u8> {
        let mut bytes = Vec::new();
        let pixels: Vec<u8> = (0..64 * 48 * 3u32).map(|i| (i * 37 % 251) as u8).collect();
        JpegEncoder::new(&mut bytes)
            .write_image(&pixels, 64, 48, image::ExtendedColorType::Rgb8)
            .expect("JPEG in memory");
        bytes
    }

    #[test]
    fn an_image_without_an_end_marker_is_one_if_it_is_whole() {
        let whole = picture();
        let open = &whole[..whole.len() - 2];
        let cut = &whole[..whole.len() / 2];
        let stream = [open, open, cut, &whole, open].concat();
        let mut splitter = Splitter::default();
        splitter.push(&stream);
        let mut pieces: Vec<Piece> = std::iter::from_fn(|| splitter.next()).collect();
        pieces.extend(splitter.finish());
        let image = |bytes: &[u8]| Piece::Image(bytes.to_vec());
        assert_eq!(
            pieces,
            [
                image(open),
                image(open),
                Piece::Incomplete,
                image(&whole),
                image(open)
            ]
        );
    }

    #[test]
    fn an_image_that_begins_twice_is_one_image() {
        let whole = image(b"abc");
        // The start marker twice, and a part of the header before the whole image.
        let stream = [&whole[..2], &whole, &whole[..9], &whole].concat();
        let images = [Piece::Image(whole.clone()), Piece::Image(whole)];
        for piece in [1, 5, 100] {
            assert_eq!(split(&stream, piece), images, "in pieces of {piece}");
        }
    }
}
