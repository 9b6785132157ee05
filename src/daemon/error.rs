//! The errors that end the daemon.

use crate::config::ConfigError;
use crate::publish::PublishError;
use crate::recognizer::RecognizerError;
use thiserror::Error;

/// Why the daemon could not start, or had to stop.
#[derive(Debug, Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Recognizer(#[from] RecognizerError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(
        "internal error: the model failed unexpectedly on {frames} frames in a row: {message}; `constancy classify` shows whether it runs at all"
    )]
    ModelPanics { frames: u32, message: String },
    #[error(
        "the configuration cannot be loaded, which ended unexpectedly: {message}; is the model, projection or class bank damaged?"
    )]
    LoadPanic { message: String },
    #[error("the system refuses a thread or a signal handler: {0}")]
    System(#[from] std::io::Error),
}
