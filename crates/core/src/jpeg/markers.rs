//! The markers of a JPEG: where segments and scans begin and end. Works on bytes that are still arriving.

use memchr::{memchr, memmem};
use std::ops::Range;

pub(super) const SOI: u8 = 0xd8;
pub(super) const EOI: u8 = 0xd9;
pub(super) const SOS: u8 = 0xda;
pub(super) const DQT: u8 = 0xdb;
pub(super) const DHT: u8 = 0xc4;
pub(super) const DRI: u8 = 0xdd;

/// How a picture begins: SOI, then another marker.
const START: [u8; 3] = [0xff, SOI, 0xff];

/// What comes next in a picture. Ranges are indices into the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A segment's content, behind its length.
    Segment { marker: u8, body: Range<usize> },
    /// Entropy-coded data, restart markers and stuffed bytes included.
    Scan(Range<usize>),
    /// The start marker of another picture; this one ends here without an end marker.
    Start(usize),
    /// The picture ends; its end marker lies before this index.
    End(usize),
}

/// Where the first picture of `bytes` begins.
///
/// ```
/// use constancy_core::jpeg::find_start;
///
/// assert_eq!(find_start(b"\r\n\xff\xd8\xff\xe0"), Some(2));
/// ```
#[must_use]
pub fn find_start(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, &START)
}

/// Walks over the parts of one picture.
///
/// Segments are passed over by their lengths, so a thumbnail inside one does not end the picture.
///
/// ```
/// use constancy_core::jpeg::{Markers, Part};
///
/// let bytes = b"\xff\xd8\xff\xda\x00\x03\x00\x12\xff\x00\x34\xff\xd9";
/// let mut markers = Markers::new(2);
/// assert_eq!(markers.next(bytes), Some(Part::Segment { marker: 0xda, body: 6..7 }));
/// assert_eq!(markers.next(bytes), Some(Part::Scan(7..11)));
/// assert_eq!(markers.next(bytes), Some(Part::End(13)));
/// ```
#[derive(Debug)]
pub struct Markers {
    /// Everything before it is known.
    at: usize,
    /// Where the scan began that `at` lies in.
    scan: Option<usize>,
}

impl Markers {
    /// Walks from `at`, behind a start marker.
    #[must_use]
    pub fn new(at: usize) -> Self {
        Self { at, scan: None }
    }

    /// The next part; `None` if more bytes must arrive first.
    pub fn next(&mut self, bytes: &[u8]) -> Option<Part> {
        if let Some(from) = self.scan {
            self.at = end_of_scan(bytes, self.at);
            if bytes.len() < self.at + 2 {
                return None;
            }
            self.scan = None;
            return Some(Part::Scan(from..self.at));
        }
        loop {
            match *bytes.get(self.at..self.at + 2)? {
                [0xff, 0xff] => self.at += 1,
                // A marker without a segment, a reserved one, or noise.
                [0xff, 0x00..=0xbf | 0xd0..=0xd7] => self.at += 2,
                [0xff, SOI] => {
                    self.at += 2;
                    return Some(Part::Start(self.at - 2));
                }
                [0xff, EOI] => {
                    self.at += 2;
                    return Some(Part::End(self.at));
                }
                [0xff, marker] => return self.segment(marker, bytes),
                // There is no marker where one must be: search for the next.
                _ => {
                    let ahead = memchr(0xff, &bytes[self.at..]);
                    self.at = ahead.map_or(bytes.len(), |n| self.at + n);
                }
            }
        }
    }

    /// What belongs to the scan that has not ended with `bytes`.
    #[must_use]
    pub fn open_scan(&self, bytes: &[u8]) -> Option<Part> {
        self.scan.map(|from| Part::Scan(from..bytes.len()))
    }

    fn segment(&mut self, marker: u8, bytes: &[u8]) -> Option<Part> {
        let length = bytes.get(self.at + 2..self.at + 4)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
        let body = self.at + 4..self.at + 2 + length;
        // A picture that broke off inside a segment: the length covers the beginning of the next picture. Application
        // segments and comments may hold a thumbnail, so there the missing marker behind them must tell.
        let opaque = matches!(marker, 0xe0..=0xef | 0xfe);
        let broken = !opaque || *bytes.get(body.end)? != 0xff;
        let content = bytes.get(body.start..body.end + if broken { 2 } else { 0 })?;
        if broken && let Some(start) = memmem::find(content, &START) {
            self.at = body.start + start + 2;
            return Some(Part::Start(self.at - 2));
        }
        self.at = body.end;
        self.scan = (marker == SOS).then_some(body.end);
        Some(Part::Segment { marker, body })
    }
}

/// The index of the marker that ends the scan which `from` lies in. If there is none yet, the index of a last byte that
/// may be the beginning of one, or the number of bytes.
fn end_of_scan(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(ahead) = bytes.get(at..).and_then(|rest| memchr(0xff, rest)) {
        at += ahead;
        match bytes.get(at + 1) {
            None => return at,
            Some(0xff) => at += 1,
            Some(&marker) if ends_scan(marker) => return at,
            Some(_) => at += 2,
        }
    }
    bytes.len().max(from)
}

/// Whether a marker ends a scan. Stuffed bytes and restart markers belong to it; other codes are noise, since no segment
/// with them may follow a scan.
fn ends_scan(marker: u8) -> bool {
    matches!(
        marker,
        DHT | 0xcc | SOI | EOI | SOS | DQT | 0xdc | DRI | 0xe0..=0xef | 0xfe
    )
}
