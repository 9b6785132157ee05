//! Why a picture could not be decoded.

use super::limits::TooLarge;
use crate::frame::PixelFormat;
use crate::jpeg::JpegError;
use thiserror::Error;

/// Why a frame could not be decoded.
#[derive(Debug, Error)]
pub enum DecodeError {
    #[error("the JPEG is cut short ({bytes} bytes hold no whole picture)")]
    Truncated { bytes: usize },
    #[error("the JPEG is corrupt: {reason}")]
    Jpeg { reason: String },
    #[error("{kind} pictures are not read; {way_out}")]
    Kind {
        kind: &'static str,
        way_out: &'static str,
    },
    #[error("not a readable JPEG, PNG, WebP, BMP or TIFF picture: {reason}")]
    Image { reason: String },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("a decoder failed on it, which is a fault of the decoder: {message}")]
    Panic { message: String },
    #[error("a {format:?} frame of {width}×{height} holds {bytes} bytes and needs {needed}")]
    Short {
        format: PixelFormat,
        width: u32,
        height: u32,
        bytes: usize,
        needed: usize,
    },
    #[error("a {format:?} frame of {width}×{height} could not be converted: {reason}")]
    Convert {
        format: PixelFormat,
        width: u32,
        height: u32,
        reason: String,
    },
    #[error("an image of {width}×{height} could not be resized: {reason}")]
    Resize {
        width: u32,
        height: u32,
        reason: String,
    },
}

impl From<JpegError> for DecodeError {
    fn from(error: JpegError) -> Self {
        match error {
            JpegError::Kind(kind) => Self::Kind {
                kind,
                way_out: "save it as an ordinary JPEG",
            },
            error => Self::Jpeg {
                reason: error.to_string(),
            },
        }
    }
}
