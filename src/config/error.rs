//! Why a configuration is refused.

use std::path::PathBuf;
use thiserror::Error;

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("configuration {path}: {source}; name another with --config")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("configuration {path}: {message}\n  config/constancy.toml shows every key")]
    Parse { path: PathBuf, message: String },
    #[error("configuration {path}: `{key}` {problem}")]
    Value {
        path: PathBuf,
        key: String,
        problem: String,
    },
    #[error(
        "configuration {path}: `{key}` names {file}, which cannot be read: {source}. Correct the path or put the file there"
    )]
    Missing {
        path: PathBuf,
        key: String,
        file: PathBuf,
        source: std::io::Error,
    },
}
