//! The repair: from the bytes of a buffer or file to one JPEG that the decoder takes, and fails on if it is not whole.
//!
//! Cameras leave out end markers and Huffman tables, begin a buffer twice, put stray bytes before markers, and leave
//! rubbish behind the picture. libjpeg shows all of these, so they are mended. What libjpeg fills in with grey, because
//! the data of a scan ends early, is refused.

use super::entropy::Entropy;
use super::error::JpegError;
use super::header::{FrameHeader, ScanComponent, ScanHeader, is_frame};
use super::huffman::{STANDARD, places};
use super::markers::{DHT, DQT, DRI, EOI, Part, SOI, SOS};
use super::pictures::{Picture, Pictures};
use memchr::memchr;
use std::ops::Range;

/// Ones, in entropy-coded data. No Huffman code consists of ones only (T.81, C), so a decoder that reads on behind the
/// data of a scan fails. One that has all it needs never reads them.
///
/// The longest code and its value have 31 bits, and 16 more are no code.
const ONES: [u8; 16] = *b"\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0";

/// Zeros at the end of a buffer that are padding rather than data.
const PADDING: usize = 16;

/// The pictures that `data` may mean, best first; almost always one. Where the buffer begins twice, the second picture
/// follows.
///
/// ```
/// use constancy_core::jpeg::repair;
///
/// assert_eq!(repair(b"\xff\xd8\xff\xd9").count(), 0, "a picture needs a scan");
/// ```
pub fn repair(data: &[u8]) -> impl Iterator<Item = Result<Repaired<'_>, JpegError>> {
    Pictures::new(data).map(|picture| Repaired::read(data, picture))
}

/// Whether `data` holds a picture that needs no end marker to be whole.
///
/// It reads every code of the scans, which takes about as long as decoding. `accepts` is asked about each picture's
/// width and height first.
pub fn is_complete(data: &[u8], accepts: impl Fn(&Repaired<'_>) -> bool) -> bool {
    repair(data)
        .flatten()
        .any(|picture| accepts(&picture) && picture.check().is_ok())
}

/// Whether `data` is one picture with Huffman tables from its first byte to its last, that any program can show.
#[must_use]
pub fn is_plain(data: &[u8]) -> bool {
    let mut pictures = Pictures::new(data);
    let Some(Picture { start, parts, end }) = pictures.next() else {
        return false;
    };
    let has_tables = |part: &Part| matches!(part, Part::Segment { marker: DHT, .. });
    start == 0 && end == Some(data.len()) && parts.iter().any(has_tables)
}

/// A picture with its frame header read, and not yet mended.
#[derive(Debug)]
pub struct Repaired<'a> {
    data: &'a [u8],
    picture: Picture,
    frame: FrameHeader,
    scans: Scans,
}

/// How the picture's components are spread over its scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scans {
    /// All are in the first.
    One,
    /// Each has its own.
    Separate,
    /// Several scans bring all coefficients bit by bit.
    Progressive,
}

/// One component of a picture, as a grey JPEG.
pub struct Plane {
    pub width: u32,
    pub height: u32,
    pub jpeg: Vec<u8>,
}

impl<'a> Repaired<'a> {
    fn read(data: &'a [u8], picture: Picture) -> Result<Self, JpegError> {
        let mut frame = None;
        for part in &picture.parts {
            let Part::Segment { marker, body } = part else {
                break;
            };
            let body = &data[body.clone()];
            if is_frame(*marker) && frame.is_none() {
                frame = Some(FrameHeader::parse(*marker, body)?);
            }
            if let (SOS, Some(frame)) = (*marker, &frame) {
                let first = ScanHeader::parse(body, frame)?.components.len();
                let scans = match (frame.progressive, first) {
                    (true, _) => Scans::Progressive,
                    (false, all) if all == frame.components.len() => Scans::One,
                    (false, 1) => Scans::Separate,
                    (false, _) => return Err(JpegError::Kind("partly interleaved JPEG")),
                };
                return Ok(Self {
                    data,
                    frame: frame.clone(),
                    scans,
                    picture,
                });
            }
        }
        Err(JpegError::Corrupt("it has no frame header"))
    }

    /// Width and height in pixels; a corrupt header may claim any, and 0.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        let side = |pixels| u32::try_from(pixels).unwrap_or(u32::MAX);
        (side(self.frame.width), side(self.frame.height))
    }

    /// What decoding keeps beside the picture: all coefficients, or the components' planes.
    #[must_use]
    pub fn work_bytes(&self) -> u64 {
        let bytes_per_sample = match self.scans {
            Scans::One => return 0,
            Scans::Separate => 1,
            Scans::Progressive => 2,
        };
        let blocks = |index| {
            let (across, down) = self.frame.padded_blocks(index);
            (across * down) as u64
        };
        (0..self.frame.components.len()).map(blocks).sum::<u64>() * 64 * bytes_per_sample
    }

    /// The picture's kind, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.scans {
            Scans::One => "JPEG",
            Scans::Separate => "JPEG of separate scans",
            Scans::Progressive => "progressive JPEG",
        }
    }

    /// The EXIF data, from its TIFF header.
    #[must_use]
    pub fn exif(&self) -> Option<&'a [u8]> {
        self.segments(0xe1)
            .find_map(|body| body.strip_prefix(b"Exif\0\0"))
    }

    /// Whether the picture's end marker was there.
    #[must_use]
    pub fn has_end(&self) -> bool {
        self.picture.end.is_some()
    }

    /// A JPEG without anything that the decoder does not need, which it fails on if data is missing.
    pub fn rebuild(&self) -> Result<Vec<u8>, JpegError> {
        if self.scans == Scans::Progressive {
            self.check()?;
        }
        let ids = self.component_ids();
        let mut out = Vec::with_capacity(self.data.len() + 1024);
        out.extend([0xff, SOI]);
        // Before the tables: the decoder reads those of a progressive picture differently.
        self.push_frame(&ids, &mut out);
        if self.scans != Scans::One || self.lacks_tables()? {
            push_segment(DHT, STANDARD, &mut out);
        }
        for part in &self.picture.parts {
            match part {
                Part::Segment { marker, body } => {
                    let body = &self.data[body.clone()];
                    match *marker {
                        SOS => self.push_scan_header(body, &ids, &mut out)?,
                        DQT | DHT | DRI => push_segment(*marker, body, &mut out),
                        // It says how C M Y K are stored.
                        0xee if self.frame.components.len() == 4 => {
                            push_segment(*marker, body, &mut out);
                        }
                        _ => {}
                    }
                }
                Part::Scan(range) if self.scans == Scans::One => {
                    push_scan(&self.data[self.without_padding(range)], &mut out);
                    break;
                }
                Part::Scan(range) => out.extend(&self.data[self.without_padding(range)]),
                Part::Start(_) | Part::End(_) => {}
            }
        }
        out.extend([0xff, EOI]);
        Ok(out)
    }

    /// The components of a picture with separate scans, Y Cb Cr; `None` for other pictures, which the decoder takes
    /// whole.
    #[must_use]
    pub fn planes(&self) -> Option<Result<[Plane; 3], JpegError>> {
        (self.scans == Scans::Separate).then(|| self.separate_planes())
    }

    fn separate_planes(&self) -> Result<[Plane; 3], JpegError> {
        let mut planes = [None, None, None];
        let (mut tables, mut component) = (Vec::new(), None);
        if self.frame.components.len() != 3 || self.component_ids() == b"RGB" {
            return Err(JpegError::Kind("scan-by-scan RGB or CMYK JPEG"));
        }
        for part in &self.picture.parts {
            match part {
                Part::Segment { marker: SOS, body } => {
                    let header = ScanHeader::parse(&self.data[body.clone()], &self.frame)?;
                    let [own] = header.components[..] else {
                        return Err(JpegError::Kind("partly interleaved JPEG"));
                    };
                    component = Some(own);
                }
                Part::Segment { marker, body } if matches!(*marker, DQT | DHT | DRI) => {
                    push_segment(*marker, &self.data[body.clone()], &mut tables);
                }
                Part::Scan(range) => {
                    let scan = &self.data[self.without_padding(range)];
                    if let Some(own) = component.take() {
                        planes[own.index] = Some(self.plane(own, &tables, scan));
                    }
                }
                _ => {}
            }
        }
        match planes {
            [Some(y), Some(cb), Some(cr)] => Ok([y, cb, cr]),
            _ => Err(JpegError::CutShort),
        }
    }

    /// A scan as a grey JPEG, with the `tables` that are in force.
    fn plane(&self, own: ScanComponent, tables: &[u8], scan: &[u8]) -> Plane {
        let (width, height) = self.frame.samples(own.index);
        let [h1, h0] = height.to_be_bytes();
        let [w1, w0] = width.to_be_bytes();
        let quantisation = self.frame.components[own.index].quantisation;
        #[expect(clippy::cast_possible_truncation, reason = "read from four bits each")]
        let selector = (own.dc_table << 4 | own.ac_table) as u8;
        let mut jpeg = Vec::with_capacity(tables.len() + scan.len() + 1024);
        jpeg.extend([0xff, SOI]);
        push_segment(
            0xc1,
            &[8, h1, h0, w1, w0, 1, 1, 0x11, quantisation],
            &mut jpeg,
        );
        push_segment(DHT, STANDARD, &mut jpeg);
        jpeg.extend(tables);
        push_segment(SOS, &[1, 1, selector, 0, 63, 0], &mut jpeg);
        push_scan(scan, &mut jpeg);
        jpeg.extend([0xff, EOI]);
        Plane {
            width: width.into(),
            height: height.into(),
            jpeg,
        }
    }

    /// Whether the scans hold the whole picture.
    fn check(&self) -> Result<(), JpegError> {
        let mut entropy = Entropy::new(&self.frame)?;
        let mut header = None;
        for part in &self.picture.parts {
            match part {
                Part::Segment { marker: SOS, body } => {
                    header = Some(ScanHeader::parse(&self.data[body.clone()], &self.frame)?);
                }
                Part::Segment { marker, body } => {
                    entropy.segment(*marker, &self.data[body.clone()])?;
                }
                Part::Scan(range) => {
                    if let Some(header) = header.take() {
                        entropy.scan(&header, &self.data[self.without_padding(range)])?;
                    }
                    if self.scans == Scans::One {
                        break;
                    }
                }
                Part::Start(_) | Part::End(_) => {}
            }
        }
        entropy.is_whole().then_some(()).ok_or(JpegError::CutShort)
    }

    /// A scan's range, without the zeros that a camera without end markers may fill its buffer with. They would be
    /// read as codes.
    fn without_padding(&self, range: &Range<usize>) -> Range<usize> {
        let scan = &self.data[range.clone()];
        let zeros = scan.iter().rev().take_while(|&&b| b == 0).count();
        if range.end < self.data.len() || zeros <= PADDING {
            return range.clone();
        }
        // A scan may end with a zero, and with a stuffed one.
        range.start..range.end - zeros + 2
    }

    /// Whether the first scan needs a Huffman table that is not there.
    fn lacks_tables(&self) -> Result<bool, JpegError> {
        let mut there = Vec::new();
        for part in &self.picture.parts {
            match part {
                Part::Segment { marker: DHT, body } => {
                    there.extend(places(&self.data[body.clone()]));
                }
                Part::Segment { marker: SOS, body } => {
                    let header = ScanHeader::parse(&self.data[body.clone()], &self.frame)?;
                    let is_there = |place: usize| there.iter().any(|&t| usize::from(t) == place);
                    let both =
                        |c: &ScanComponent| is_there(c.dc_table) && is_there(16 + c.ac_table);
                    return Ok(!header.components.iter().all(both));
                }
                _ => {}
            }
        }
        Ok(true)
    }

    fn segments(&self, wanted: u8) -> impl Iterator<Item = &'a [u8]> {
        let data = self.data;
        self.picture
            .parts
            .iter()
            .filter_map(move |part| match part {
                Part::Segment { marker, body } if *marker == wanted => Some(&data[body.clone()]),
                _ => None,
            })
    }

    /// Names for the components that make the decoder read their colours as libjpeg does: R G B if Adobe's segment or
    /// their names say so and there is no JFIF segment, else Y Cb Cr.
    fn component_ids(&self) -> Vec<u8> {
        let components = &self.frame.components;
        let jfif = self.segments(0xe0).any(|body| body.starts_with(b"JFIF\0"));
        let mut adobe = self
            .segments(0xee)
            .filter(|body| body.starts_with(b"Adobe"));
        let transform = adobe.next().and_then(|body| body.get(11)).copied();
        let named = components.iter().map(|c| c.id).eq(*b"RGB");
        let is_rgb = !jfif && transform.map_or(named, |transform| transform == 0);
        if components.len() == 3 && is_rgb {
            b"RGB".to_vec()
        } else {
            (1..).take(components.len()).collect()
        }
    }

    fn push_frame(&self, ids: &[u8], out: &mut Vec<u8>) {
        let is_header =
            |part: &&Part| matches!(part, Part::Segment { marker, .. } if is_frame(*marker));
        let Some(Part::Segment { marker, body }) = self.picture.parts.iter().find(is_header) else {
            return;
        };
        let mut body = self.data[body.clone()].to_vec();
        body.truncate(6 + 3 * ids.len());
        for (component, id) in body[6..].chunks_exact_mut(3).zip(ids) {
            component[0] = *id;
        }
        push_segment(*marker, &body, out);
    }

    fn push_scan_header(
        &self,
        body: &[u8],
        ids: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), JpegError> {
        let header = ScanHeader::parse(body, &self.frame)?;
        let mut renamed = body[..4 + 2 * header.components.len()].to_vec();
        for (selector, component) in renamed[1..].chunks_exact_mut(2).zip(&header.components) {
            selector[0] = ids[component.index];
        }
        push_segment(SOS, &renamed, out);
        Ok(())
    }
}

fn push_segment(marker: u8, body: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(body.len() + 2).unwrap_or(u16::MAX);
    out.extend([0xff, marker]);
    out.extend(length.to_be_bytes());
    out.extend(body);
}

/// Appends a scan with ones where its data ends, and where each part before a restart marker does. The scan ends at the
/// first marker that is noise.
fn push_scan(scan: &[u8], out: &mut Vec<u8>) {
    let (mut from, mut at) = (0, 0);
    let end = loop {
        let Some(ahead) = memchr(0xff, &scan[at..]) else {
            break scan.len();
        };
        at += ahead;
        match scan.get(at + 1) {
            Some(0x00) => at += 2,
            Some(0xff) => at += 1,
            Some(0xd0..=0xd7) => {
                out.extend(&scan[from..at]);
                out.extend(ONES);
                (from, at) = (at, at + 2);
            }
            _ => break at,
        }
    };
    out.extend(&scan[from..end]);
    out.extend(ONES);
}
