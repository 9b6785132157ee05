//! Why an image is skipped, and why the work stops.

use constancy_core::icm::{EmbeddingError, SourceError};
use constancy_core::preprocess::DecodeError;
use constancy_engine::ModelError;
use std::path::Path;
use thiserror::Error;

/// Why images could not be embedded.
#[derive(Debug, Error)]
pub enum EmbedError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A bug in this program.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Why an image was skipped.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the file changed while it was read")]
    Changed,
}

impl EmbedError {
    /// An internal error with an image.
    pub(super) fn internal(path: &Path, problem: &str) -> Self {
        Self::Internal(format!("{}: {problem}", path.display()))
    }
}
