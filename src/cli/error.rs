//! The error of every subcommand.

use crate::capture::CaptureError;
use crate::config::ConfigError;
use crate::daemon::DaemonError;
use crate::daemon::control_journal::JournalError;
use crate::embedding_cache::{CacheError, EmbedError};
use crate::files::ImagesError;
use crate::publish::BrokerError;
use crate::recognizer::{FrameError, RecognizerError};
use constancy_core::classify::BankError;
use constancy_core::classify::calibrate::CalibrationError;
use constancy_core::icm::captions::CaptionError;
use constancy_core::icm::{FitError, FoldersError, MomentsError, ProjectionError, SelectError};
use constancy_core::preprocess::DecodeError;
use constancy_engine::{ModelError, QuantiseError};
use std::path::PathBuf;
use thiserror::Error;

/// Every error of a subcommand; each has one message and one exit code.
#[derive(Debug, Error)]
pub enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error("camera {camera}: {reason}")]
    Refused { camera: String, reason: String },
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Recognizer(#[from] RecognizerError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Quantise(#[from] QuantiseError),
    #[error("{path}: {source}")]
    Image { path: PathBuf, source: DecodeError },
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Embed(#[from] EmbedError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Folders(#[from] FoldersError),
    #[error(transparent)]
    Caption(#[from] CaptionError),
    #[error("moments: {0}")]
    Moments(#[from] MomentsError),
    #[error("moments {path}: {source}")]
    MomentsFile { path: PathBuf, source: MomentsError },
    #[error("no map can be chosen: {0}")]
    Select(#[from] SelectError),
    #[error("no map can be fitted: {0}")]
    Fit(#[from] FitError),
    #[error("the projection cannot be written: {0}")]
    Projection(#[from] ProjectionError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(
        "{source}; while the daemon runs on camera {camera}, its controls are the daemon's: stop it first (`systemctl stop constancy`)"
    )]
    Busy {
        camera: String,
        source: CaptureError,
    },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the light could not be set: `{command}` {reason}")]
    Light { command: String, reason: String },
    #[error("{path}, line {line}: {reason}")]
    PairLine {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    #[error(
        "stopped by signal {signal}; what was moved is put back, and the pairs so far are kept"
    )]
    Stopped { signal: usize },
    #[error(transparent)]
    Images(#[from] ImagesError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Bank(#[from] BankError),
    #[error("the bank cannot be calibrated: {0}")]
    Calibration(#[from] CalibrationError),
    #[error("{path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {reason}; renew it with `--renew`")]
    Reference { path: PathBuf, reason: String },
    #[error("{path} cannot be written: {source}")]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} cannot be written: {reason}")]
    Unwritable { path: PathBuf, reason: String },
    #[error("cannot start {program}: {source}; {hint}")]
    Start {
        program: String,
        source: std::io::Error,
        hint: &'static str,
    },
    #[error("the daemon stopped during the demo ({status}); its last log line: {last_log_line}")]
    DaemonEnded {
        status: String,
        last_log_line: String,
    },
    #[error("stdout: {0}")]
    Output(#[from] std::io::Error),
    #[error("cannot convert to or from JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{failed} of {total} images could not be read; see above")]
    SomeFailed { failed: usize, total: usize },
    #[error("{failed} of {total} checks failed; see above")]
    CheckFailed {
        failed: usize,
        total: usize,
        code: u8,
    },
}

impl CliError {
    /// A camera on which something cannot be done.
    pub(super) fn refused(camera: &str, reason: &str) -> Self {
        Self::Refused {
            camera: camera.into(),
            reason: reason.into(),
        }
    }
}
