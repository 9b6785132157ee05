//! What parent and child say to each other.

use constancy_engine::Precision;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What the child does, and how.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) job: Job,
    pub(super) precision: Precision,
    pub(super) threads: Option<usize>,
    pub(super) plain: bool,
    /// The process that waits; the child does not outlive it.
    pub(super) parent: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// Load the image tower of a manifest, and embed one image.
    Image { manifest: RawPath },
    /// The same of a manifest or a bare ONNX file.
    Described { model: RawPath },
    /// Load tokenizer and text tower, and make a class bank.
    Bank {
        manifest: RawPath,
        labels: Vec<String>,
        templates: Vec<String>,
    },
}

/// A path that may not be UTF-8.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RawPath(Vec<u8>);

impl RawPath {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }

    pub(super) fn path(&self) -> PathBuf {
        OsString::from_vec(self.0.clone()).into()
    }
}

/// What the child says, one line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// What it does next, which must show progress within `seconds`, in so much memory.
    Begin {
        what: String,
        seconds: u64,
        memory_mb: u64,
    },
    /// It gets on.
    Progress,
    /// A warning for the log.
    Warning(String),
    /// The job is done; a result of so many bytes follows.
    Done { bytes: usize },
    /// The job failed.
    Failed { message: String, exit_code: u8 },
    /// The job panicked.
    Panicked(String),
}
