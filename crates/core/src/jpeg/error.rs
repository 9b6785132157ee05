//! Why a JPEG is refused.

use thiserror::Error;

/// Why a JPEG is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum JpegError {
    #[error("its image data ends early")]
    CutShort,
    #[error("{0}")]
    Corrupt(&'static str),
    #[error("{0} pictures are not read")]
    Kind(&'static str),
}
