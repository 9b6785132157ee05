//! Why a source delivers no frames.

use crate::files::ImagesError;
use std::path::PathBuf;
use thiserror::Error;

/// Why a source delivers no frames.
#[derive(Debug, Error)]
pub enum CaptureError {
    #[error("{device} cannot be opened: {source}; {hint}")]
    Open {
        device: PathBuf,
        source: std::io::Error,
        hint: &'static str,
    },
    #[error("{device} is no camera: {reason}; `constancy camera list` shows the cameras")]
    NotACamera {
        device: PathBuf,
        reason: &'static str,
    },
    #[error("{device} is busy: another program uses it")]
    Busy { device: PathBuf },
    #[error("{device}: {action} failed: {source}")]
    Device {
        device: PathBuf,
        action: &'static str,
        source: std::io::Error,
    },
    #[error("{device} offers no format that can be read (it has {available}); expected {wanted}")]
    Format {
        device: PathBuf,
        available: String,
        wanted: String,
    },
    #[error("{device}: control `{control}` {problem}")]
    Control {
        device: PathBuf,
        control: String,
        problem: String,
    },
    #[error("`{program}` cannot be started: {source}; is it installed?")]
    Spawn {
        program: String,
        source: std::io::Error,
    },
    #[error("`{program}` ended ({status}){last_line}")]
    Ended {
        program: String,
        status: String,
        /// `: ` and the last line on stderr, or nothing.
        last_line: String,
    },
    #[error("`{program}` sends yuv4mpeg that cannot be read: {reason}")]
    Y4m { program: String, reason: String },
    #[error(transparent)]
    Images(#[from] ImagesError),
    #[error("no frame for {seconds:.1} s")]
    Stalled { seconds: f64 },
    #[error("no frame for {seconds:.1} s that can be decoded; the last one: {reason}")]
    Undecodable { seconds: f64, reason: String },
    #[error("the same picture, bit for bit, for {seconds:.0} s")]
    Frozen { seconds: f64 },
    /// A bug in this program.
    #[error("internal error: {0}")]
    Internal(String),
}

impl CaptureError {
    /// What tells this fault from others. Faults that report what just came are the same fault whatever came.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Stalled { .. } => "stalled".into(),
            Self::Undecodable { .. } => "undecodable".into(),
            Self::Frozen { .. } => "frozen".into(),
            other => other.to_string(),
        }
    }
}
