//! A camera's frame as it left the camera, and when that was.
//!
//! A frame stays in the camera's own pixel format until it is known that it will be looked at:
//! decoding belongs to [`crate::preprocess`], so that a frame nobody waits for costs nothing.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// How the bytes of a [`Frame`] are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// One JPEG image, as MJPEG cameras send it (the Huffman tables may be missing).
    Jpeg,
    /// A whole JPEG, PNG or WebP file; its EXIF orientation applies.
    ImageFile,
    /// Packed 4:2:2, `Y0 U Y1 V`.
    Yuyv,
    /// Packed 4:2:2, `U Y0 V Y1`.
    Uyvy,
    /// A luma plane, then a plane of interleaved `U V` at half width and height.
    Nv12,
    /// Three planes, chroma at half width and height, rounded up.
    I420,
    /// Three planes, chroma at half width, rounded up.
    I422,
    /// Three planes of the same size.
    I444,
    /// One luma plane.
    Grey,
    /// Packed 8-bit `R G B`.
    Rgb24,
}

/// Which numbers the YUV formats use for the colours; ignored by the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ColorEncoding {
    /// Luma spans 0–255 rather than 16–235.
    pub full_range: bool,
    /// ITU-R BT.709 rather than BT.601 coefficients.
    pub bt709: bool,
}

/// When a frame was taken, by the clock that never jumps and by the one that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// Nanoseconds of `CLOCK_MONOTONIC`, the clock of V4L2's buffers.
    pub monotonic_ns: u64,
    /// Nanoseconds since the Unix epoch, UTC.
    pub unix_ns: i64,
    /// Whether the kernel held the wall clock for synchronised at that moment.
    pub clock_synced: bool,
}

/// One picture, undecoded.
#[derive(Debug, Clone)]
pub struct Frame {
    pub data: Vec<u8>,
    pub format: PixelFormat,
    /// Pixels; 0 for compressed formats, whose header says it.
    pub width: u32,
    /// Pixels; 0 for compressed formats.
    pub height: u32,
    /// Bytes from one row of the first plane to the next; 0 for compressed formats.
    pub stride_bytes: usize,
    pub color: ColorEncoding,
    pub taken: Timestamp,
    /// The file that a replayed frame was read from.
    pub file: Option<Arc<PathBuf>>,
    /// What a rendered frame shows.
    pub truth: Option<Arc<Truth>>,
}

/// What a rendered frame shows, known because it was drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Condition and part, as class names have them: "cracked gear".
    pub class: String,
    pub part: String,
    pub condition: String,
    /// The name of the environment it is seen in.
    pub environment: String,
    /// By which the scene can be drawn again, with the environment.
    pub seed: u64,
}

impl Frame {
    /// A compressed frame, whose size stands in its own header.
    #[must_use]
    pub fn compressed(format: PixelFormat, data: Vec<u8>, taken: Timestamp) -> Self {
        Self {
            data,
            format,
            width: 0,
            height: 0,
            stride_bytes: 0,
            color: ColorEncoding::default(),
            taken,
            file: None,
            truth: None,
        }
    }

    /// Rows of `R G B` without gaps, `3 · width · height` bytes.
    #[must_use]
    pub fn rgb(data: Vec<u8>, width: u32, height: u32, taken: Timestamp) -> Self {
        Self {
            width,
            height,
            stride_bytes: width as usize * 3,
            ..Self::compressed(PixelFormat::Rgb24, data, taken)
        }
    }
}
