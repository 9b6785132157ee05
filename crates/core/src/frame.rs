//! A frame in the camera's own pixel format, with its capture time.
//!
//! A frame is decoded, by [`crate::preprocess`], only when it is about to be used. A frame that is dropped costs no
//! decoding.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// The layout of a [`Frame`]'s bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// One JPEG image from an MJPEG camera, as the camera sent it: [`crate::jpeg`] repairs it.
    Jpeg,
    /// A JPEG, PNG, WebP, BMP or TIFF file; its EXIF orientation applies.
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

/// Range and matrix of the YUV formats; other formats ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ColorEncoding {
    /// Luma spans 0–255 rather than 16–235.
    pub full_range: bool,
    /// ITU-R BT.709 rather than BT.601 coefficients.
    pub bt709: bool,
}

/// When a frame was captured, by the monotonic clock and by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// Nanoseconds of `CLOCK_MONOTONIC`, which V4L2 stamps its buffers with.
    pub monotonic_ns: u64,
    /// Nanoseconds since the Unix epoch, UTC.
    pub unix_ns: i64,
    /// Whether the kernel considered the wall clock synchronised at that moment.
    pub clock_synced: bool,
}

/// One undecoded image.
///
/// ```
/// use constancy_core::frame::{Frame, PixelFormat, Timestamp};
///
/// let captured_at = Timestamp { monotonic_ns: 1_000, unix_ns: 0, clock_synced: false };
/// let frame = Frame::rgb(vec![0; 4 * 2 * 3], 4, 2, captured_at);
/// assert_eq!(frame.format, PixelFormat::Rgb24);
/// assert_eq!(frame.stride_bytes, 12);
///
/// // A compressed frame's size is in its header.
/// let jpeg = Frame::compressed(PixelFormat::Jpeg, vec![0xff, 0xd8], captured_at);
/// assert_eq!((jpeg.width, jpeg.height), (0, 0));
/// ```
#[derive(Debug, Clone)]
pub struct Frame {
    pub data: Vec<u8>,
    pub format: PixelFormat,
    /// Pixels; 0 for compressed formats, whose header has the size.
    pub width: u32,
    /// Pixels; 0 for compressed formats.
    pub height: u32,
    /// Bytes from one row of the first plane to the next; 0 for compressed formats.
    pub stride_bytes: usize,
    pub color: ColorEncoding,
    pub captured_at: Timestamp,
    /// The file of a replayed frame.
    pub file: Option<Arc<PathBuf>>,
    /// The content of a rendered frame.
    pub truth: Option<Arc<GroundTruth>>,
}

/// The true content of a rendered frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroundTruth {
    /// Condition and part, in the form of a class name: "cracked gear".
    pub class: String,
    pub part: String,
    pub condition: String,
    /// Name of the environment.
    pub environment: String,
    /// With the environment's name, reproduces the scene.
    pub seed: u64,
}

impl Frame {
    /// A compressed frame; its size is in its own header.
    #[must_use]
    pub fn compressed(format: PixelFormat, data: Vec<u8>, captured_at: Timestamp) -> Self {
        Self {
            data,
            format,
            width: 0,
            height: 0,
            stride_bytes: 0,
            color: ColorEncoding::default(),
            captured_at,
            file: None,
            truth: None,
        }
    }

    /// A frame of packed `R G B` rows without padding, `3 · width · height` bytes.
    #[must_use]
    pub fn rgb(data: Vec<u8>, width: u32, height: u32, captured_at: Timestamp) -> Self {
        Self {
            width,
            height,
            stride_bytes: width as usize * 3,
            ..Self::compressed(PixelFormat::Rgb24, data, captured_at)
        }
    }
}
