//! What can go wrong in loading and in recognising.

use crate::files::{self, MAX_TENSOR_BYTES};
use constancy_core::classify::{BankError, TextError};
use constancy_core::icm::ProjectionError;
use constancy_core::preprocess::DecodeError;
use constancy_engine::{ManifestError, ModelError};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a part could not be loaded, or does not match the others.
#[derive(Debug, Error)]
pub enum RecognizerError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{what} {path}: {source}")]
    Read {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("projection {path}: {source}")]
    Projection {
        path: PathBuf,
        source: ProjectionError,
    },
    #[error("class bank {path}: {source}")]
    Bank { path: PathBuf, source: BankError },
    #[error("class bank: {0}")]
    Probe(BankError),
    #[error(
        "`{key}` needs a class bank that knows how far to trust its answers; calibrate it with `constancy calibrate`, or set `classes.threshold`"
    )]
    NotCalibrated { key: &'static str },
    #[error(
        "`classes.max_false_accept` needs a class bank of at least three classes, each of which was left out in turn; this one has {classes}. Add classes, or set `classes.threshold`"
    )]
    FewClasses { classes: usize },
    #[error(
        "`classes.max_false_accept` needs a class bank that was calibrated on images in one folder per class, each of which was left out in turn; calibrate it so with `constancy calibrate`, or set `classes.threshold`"
    )]
    NoneLeftOut,
    #[error(
        "`light.adapt` is \"auto\", but the class bank {0}; set it to \"propose\", or calibrate the bank on more images with `constancy calibrate`"
    )]
    MayNotFollow(String),
    #[error("`{key}` names `{label}`, but the classes are {labels}; correct the name")]
    NoSuchClass {
        key: &'static str,
        label: String,
        labels: String,
    },
    #[error("tokenizer {path}: {source}; `text.tokenizer` in {manifest} names it")]
    TokenizerFile {
        path: PathBuf,
        source: std::io::Error,
        manifest: PathBuf,
    },
    #[error("tokenizer {path}: {source}")]
    Tokenizer { path: PathBuf, source: TextError },
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(
        "tokenizer {tokenizer}: it has the token {id}, but the text tower {tower} knows the tokens 0 to {last}: the two are of different models. Correct `text.tokenizer` or `text.file` in {manifest}"
    )]
    Token {
        tokenizer: PathBuf,
        tower: PathBuf,
        manifest: PathBuf,
        id: i64,
        last: i64,
    },
    #[error(transparent)]
    Vetting(#[from] VettingError),
}

/// Why a model did not pass its trial in a child process.
#[derive(Debug, Error)]
pub enum VettingError {
    /// An ordinary error, in its own words and with its exit code.
    #[error("{message}")]
    Refused { message: String, exit_code: u8 },
    /// The child did not survive `what`.
    #[error("{what}: {reason}")]
    Died { what: String, reason: String },
    #[error("loading was given up, because the program is to stop")]
    Stopped,
}

impl From<ManifestError> for RecognizerError {
    fn from(error: ManifestError) -> Self {
        Self::Model(error.into())
    }
}

/// Why a frame has no embedding or decision.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The frame cannot be decoded. Other frames are not affected.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A decoder panicked on the frame. Other frames are not affected.
    #[error("decoding it failed unexpectedly: {0}")]
    DecodePanic(String),
    /// The model panicked.
    #[error("the model failed unexpectedly: {0}")]
    ModelPanic(String),
    /// A bug in this program.
    #[error("internal error: {0}")]
    Internal(String),
}

pub(super) fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, RecognizerError> {
    files::read(path, MAX_TENSOR_BYTES).map_err(|source| RecognizerError::Read {
        what,
        path: path.into(),
        source,
    })
}
