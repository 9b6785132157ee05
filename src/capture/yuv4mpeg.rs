//! Splits a byte stream into yuv4mpeg frames, with 8 bits a sample.

mod header;

use crate::clock;
use constancy_core::frame::Frame;
use header::{Header, Layout, Subsampling};
use memchr::memmem;

const STREAM_MAGIC: &[u8] = b"YUV4MPEG2 ";
const FRAME_MAGIC: &[u8] = b"FRAME";
/// A header line, and the line before a frame; longer ones are none.
const MAX_LINE_BYTES: usize = 1024;
/// What may arrive together with a frame's last byte: one read from a pipe.
const SLACK_BYTES: usize = 1 << 16;

/// A part of the stream.
#[derive(Debug)]
pub(super) enum Piece {
    Frame(Frame),
    /// A frame that another stream's header interrupted.
    Incomplete,
}

/// Splits a byte stream into frames.
///
/// Bytes before the header and between frames are skipped: `gst-launch-1.0` and shell scripts write messages there. A
/// header in mid-stream begins the stream anew, in the middle of a frame too: a script may start its program again.
#[derive(Default)]
pub(super) struct Splitter {
    /// Between frames: what has not been looked at. In a frame: its bytes so far, and what follows them.
    buffer: Vec<u8>,
    header: Option<Header>,
    in_frame: bool,
}

/// A line that introduces something.
enum Line {
    Stream(Vec<u8>),
    Frame,
}

impl Splitter {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What came and belongs to no piece yet.
    pub(super) fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// The next frame, once its last byte has arrived. An error is a header that is refused.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, String> {
        loop {
            if let (Some(header), true) = (self.header, self.in_frame) {
                return Ok(self.take_frame(&header));
            }
            match self.take_line() {
                None => return Ok(None),
                Some(Line::Stream(line)) => self.header = Some(Header::parse(&line)?),
                Some(Line::Frame) => self.in_frame = true,
            }
        }
    }

    /// Removes the next line that introduces a stream or, if there is a header, a frame, and everything before it.
    fn take_line(&mut self) -> Option<Line> {
        loop {
            let Some((at, is_stream)) = self.find_magic() else {
                // The buffer may end in the middle of one.
                let keep = self.buffer.len().min(STREAM_MAGIC.len() - 1);
                self.buffer.drain(..self.buffer.len() - keep);
                return None;
            };
            self.buffer.drain(..at);
            let within = self.buffer.len().min(MAX_LINE_BYTES);
            let Some(end) = memchr::memchr(b'\n', &self.buffer[..within]) else {
                if within < MAX_LINE_BYTES {
                    return None;
                }
                self.buffer.drain(..1);
                continue;
            };
            // `FRAME`, or `FRAME` and its parameters; another word that begins like it is none.
            if !is_stream && !matches!(self.buffer[FRAME_MAGIC.len()], b'\n' | b' ') {
                self.buffer.drain(..1);
                continue;
            }
            let line: Vec<u8> = self.buffer.drain(..=end).take(end).collect();
            return Some(if is_stream {
                Line::Stream(line)
            } else {
                Line::Frame
            });
        }
    }

    /// The index of the next magic, and whether it is a stream's.
    fn find_magic(&self) -> Option<(usize, bool)> {
        let stream = memmem::find(&self.buffer, STREAM_MAGIC);
        let before = &self.buffer[..stream.unwrap_or(self.buffer.len())];
        let frame = self.header.and_then(|_| memmem::find(before, FRAME_MAGIC));
        frame
            .map(|at| (at, false))
            .or_else(|| stream.map(|at| (at, true)))
    }

    fn take_frame(&mut self, header: &Header) -> Option<Piece> {
        // Sizes that do not fit were refused with the header.
        let needed = usize::try_from(header.frame_bytes()).ok()?;
        if self.buffer.len() < needed {
            let wanted = needed + SLACK_BYTES;
            self.buffer
                .reserve_exact(wanted.saturating_sub(self.buffer.len()));
            return None;
        }
        self.in_frame = false;
        let reach = self.buffer.len().min(needed + STREAM_MAGIC.len() - 1);
        if let Some(at) = memmem::find(&self.buffer[..reach], STREAM_MAGIC) {
            self.buffer.drain(..at);
            return Some(Piece::Incomplete);
        }
        let rest = self.buffer.split_off(needed);
        let samples = std::mem::replace(&mut self.buffer, rest);
        // Its end may be the beginning of another stream's header. Stray bytes before one do no harm.
        let begun = &samples[samples.len() - begun_magic(&samples)..];
        self.buffer.splice(..0, begun.iter().copied());
        Some(Piece::Frame(frame(header, samples)))
    }
}

/// How many bytes at the end may be the beginning of a stream's magic.
fn begun_magic(bytes: &[u8]) -> usize {
    let mut lengths = (1..STREAM_MAGIC.len()).rev();
    lengths
        .find(|&n| bytes.ends_with(&STREAM_MAGIC[..n]))
        .unwrap_or(0)
}

/// The frame with these samples.
fn frame(header: &Header, samples: Vec<u8>) -> Frame {
    let (width, height) = (header.width as usize, header.height as usize);
    let Layout {
        subsampling,
        depth_bits,
        has_alpha,
    } = header.layout;
    let mut data = if depth_bits > 8 {
        to_eight_bits(&samples, depth_bits)
    } else {
        samples
    };
    if has_alpha {
        data.truncate(data.len() - width * height);
    }
    if subsampling == Subsampling::C411 {
        data = widen_chroma(&data, width, height);
    }
    Frame {
        width: header.width,
        height: header.height,
        stride_bytes: width,
        color: header.color,
        ..Frame::compressed(subsampling.pixel_format(), data, clock::now())
    }
}

/// Rounds little-endian samples of 9 to 16 bits.
fn to_eight_bits(samples: &[u8], depth_bits: u32) -> Vec<u8> {
    let shift = depth_bits - 8;
    let half = 1 << (shift - 1);
    let round = |pair: &[u8]| {
        let sample = u32::from(u16::from_le_bytes([pair[0], pair[1]]));
        u8::try_from((sample + half) >> shift).unwrap_or(u8::MAX)
    };
    samples.chunks_exact(2).map(round).collect()
}

/// Turns 4:1:1 into 4:2:2 by giving each chroma sample twice.
fn widen_chroma(data: &[u8], width: usize, height: usize) -> Vec<u8> {
    let (luma, chroma) = data.split_at(width * height);
    let (narrow, _) = Subsampling::C411.chroma(width, height);
    let (wide, _) = Subsampling::C422.chroma(width, height);
    let mut widened = luma.to_vec();
    for row in chroma.chunks_exact(narrow) {
        widened.extend((0..wide).map(|x| row[x / 2]));
    }
    widened
}

#[cfg(test)]
mod tests;
