//! The pictures that begin in a buffer, each with its parts.

use super::markers::{Markers, Part, find_start};

/// A buffer that holds more is noise; each costs an attempt to decode it.
const MAX_PICTURES: usize = 8;

/// One picture of a buffer.
#[derive(Debug, PartialEq)]
pub(super) struct Picture {
    pub(super) start: usize,
    /// Segments and scans in order; there is at least one scan.
    pub(super) parts: Vec<Part>,
    /// The index behind the end marker; `None` if there is none.
    pub(super) end: Option<usize>,
}

/// The pictures of `data` that hold a scan, in order.
///
/// A picture without an end marker ends where another begins, or with the buffer. What lies behind an end marker is
/// rubbish: noise, zeros, or what an older frame left there. It is not shown, even if it is a picture.
pub(super) struct Pictures<'a> {
    data: &'a [u8],
    /// Where the next picture begins; `None` at the end.
    next: Option<usize>,
    found: usize,
}

impl<'a> Pictures<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            next: find_start(data),
            found: 0,
        }
    }

    /// The picture that begins at `start`; `next` is then where the next may begin.
    fn read(&mut self, start: usize) -> Picture {
        let mut markers = Markers::new(start + 2);
        let mut parts = Vec::new();
        let mut has_scan = false;
        let mut end = None;
        self.next = None;
        loop {
            match markers.next(self.data) {
                Some(Part::Start(at)) => self.next = Some(at),
                Some(Part::End(at)) => {
                    end = Some(at);
                    if !has_scan {
                        self.next = find_start(&self.data[at..]).map(|n| at + n);
                    }
                }
                Some(part) => {
                    has_scan |= matches!(part, Part::Scan(_));
                    parts.push(part);
                    continue;
                }
                None => parts.extend(markers.open_scan(self.data)),
            }
            return Picture { start, parts, end };
        }
    }
}

impl Iterator for Pictures<'_> {
    type Item = Picture;

    fn next(&mut self) -> Option<Picture> {
        loop {
            let start = self.next?;
            let picture = self.read(start);
            let is_scan = |part: &Part| matches!(part, Part::Scan(_));
            if picture.parts.iter().any(is_scan) {
                self.found += 1;
                return (self.found <= MAX_PICTURES).then_some(picture);
            }
        }
    }
}
