//! Why a tower cannot be quantised.

use crate::error::ModelError;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a tower cannot be quantised.
#[derive(Debug, Error)]
pub enum QuantiseError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "model {path}: it is quantised already (it has {operator}); give the fp32 file that it was made from"
    )]
    AlreadyQuantised { path: PathBuf, operator: String },
    #[error(
        "model {path}: its operators are of version {version}, int8 needs at least 11; export it again with `opset_version=17`"
    )]
    Opset { path: PathBuf, version: i64 },
    #[error(
        "model {path}: the weights of `{tensor}` hold a value that is not a number; the file is damaged or the training failed, fetch it again"
    )]
    NotFinite { path: PathBuf, tensor: String },
    #[error(
        "model {path}: it has no layers that can be quantised; `--format fp16` halves the file"
    )]
    NoLayers { path: PathBuf },
    #[error("model {path}: nothing would become smaller, its large weights are in fp16 already")]
    Nothing { path: PathBuf },
    #[error(
        "model {path}: the file would have {bytes} bytes, and an ONNX file can have 2 GiB at most; this tower is too large"
    )]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{path} cannot be written: {source}; {hint}")]
    Write {
        path: PathBuf,
        hint: String,
        source: std::io::Error,
    },
}

impl QuantiseError {
    /// The file at `path` is not a model.
    pub(super) fn parse(path: &Path, reason: String) -> Self {
        Self::Model(ModelError::Parse {
            path: path.into(),
            reason,
        })
    }

    /// The model at `path` does not run.
    pub(super) fn run(path: &Path, reason: String) -> Self {
        Self::Model(ModelError::Run {
            path: path.into(),
            reason,
        })
    }
}
