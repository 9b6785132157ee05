//! Why a source delivers no frames.

use super::arrived::Instead;
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
    #[error(
        "`{program}` cannot be started: {source}; is it installed? Each argument of `command` is a string of its own"
    )]
    Spawn {
        program: String,
        source: std::io::Error,
    },
    #[error("`{program}` ended ({status}){last_line}{}", since_last_frame(instead.as_ref()))]
    Ended {
        program: String,
        status: String,
        /// `: ` and the last line on stderr, or nothing.
        last_line: String,
        /// What came behind its last frame.
        instead: Option<Instead>,
    },
    #[error("`{program}` sends yuv4mpeg that cannot be read: {reason}")]
    Y4m { program: String, reason: String },
    #[error(transparent)]
    Images(#[from] ImagesError),
    #[error("no frame for {seconds:.1} s")]
    Stalled { seconds: f64 },
    #[error("{fault}: {instead}")]
    Silent {
        fault: Box<CaptureError>,
        instead: Instead,
    },
    #[error("no frame for {seconds:.1} s that can be decoded; the last one: {reason}")]
    Undecodable { seconds: f64, reason: String },
    #[error("the same picture, bit for bit, for {seconds:.0} s")]
    Frozen { seconds: f64 },
    /// A bug in this program.
    #[error("internal error: {0}")]
    Internal(String),
}

fn since_last_frame(instead: Option<&Instead>) -> String {
    instead.map_or_else(String::new, |i| format!("; without a frame, {i}"))
}

impl CaptureError {
    /// The fault of a source that stalled, with what came instead of a frame.
    pub(crate) fn with_what_came(self, instead: Option<Instead>) -> Self {
        match (self, instead) {
            (fault @ Self::Stalled { .. }, Some(instead)) => Self::Silent {
                fault: Box::new(fault),
                instead,
            },
            (fault, _) => fault,
        }
    }

    /// What tells this fault from others. Faults that report what just came are the same fault whatever came, and so are
    /// a program's ends whose last words differ in figures: time stamps, process numbers.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Silent { fault, instead } => format!("{}: {}", fault.kind(), instead.text()),
            Self::Ended {
                program,
                status,
                last_line,
                instead,
            } => format!(
                "{program} {status}{} {}",
                last_line.replace(|c: char| c.is_ascii_digit(), ""),
                instead.as_ref().map_or("", Instead::text)
            ),
            Self::Stalled { .. } => "stalled".into(),
            Self::Undecodable { .. } => "undecodable".into(),
            Self::Frozen { .. } => "frozen".into(),
            other => other.to_string(),
        }
    }
}
