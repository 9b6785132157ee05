//! Why a configuration is refused.

use std::io::ErrorKind;
use std::path::PathBuf;
use thiserror::Error;

/// `missing` where a file is missing: other errors have a way out of their own.
fn way_out<'m>(error: &std::io::Error, missing: &'m str) -> &'m str {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => missing,
        _ => "",
    }
}

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(
        "configuration {path}: {source}{}",
        way_out(source, "; name another with --config")
    )]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("configuration {path}: {message}; config/constancy.toml shows every key")]
    Parse { path: PathBuf, message: String },
    #[error("configuration {path}: `{key}` has become {now}; write it there")]
    Moved {
        path: PathBuf,
        key: String,
        now: &'static str,
    },
    #[error("configuration {path}: `{key}` {problem}")]
    Value {
        path: PathBuf,
        key: String,
        problem: String,
    },
    #[error(
        "configuration {path}: `{key}` names {file}, which cannot be read: {source}{}",
        way_out(source, "; correct the path or put the file there")
    )]
    Missing {
        path: PathBuf,
        key: String,
        file: PathBuf,
        source: std::io::Error,
    },
}
