//! The errors that end the daemon.

use crate::config::ConfigError;
use crate::publish::PublishError;
use crate::recognizer::RecognizerError;
use constancy_engine::ModelError;
use thiserror::Error;

/// Why the daemon could not start, or had to stop.
#[derive(Debug, Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Recognizer(#[from] RecognizerError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("the system refuses a thread or a signal handler: {0}")]
    System(#[from] std::io::Error),
}
