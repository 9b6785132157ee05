//! Why a tower cannot be loaded or run.

use crate::gpu::GpuError;
use crate::manifest::ManifestError;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tract_onnx::prelude::TractError;

/// Why a tower cannot be loaded or run.
#[derive(Debug, Error)]
pub enum ModelError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("model {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("model {path}: {source}; `{key}` in {manifest} names it")]
    Named {
        path: PathBuf,
        source: std::io::Error,
        key: &'static str,
        manifest: PathBuf,
    },
    #[error(
        "model {path}: its sha256 is {found}, the manifest {manifest} names {expected}; fetch the model again, or correct the manifest if the change is meant"
    )]
    Hash {
        path: PathBuf,
        manifest: PathBuf,
        expected: String,
        found: String,
    },
    #[error(
        "model {path}: the manifest {manifest} names the sha256 of this file alone, but its weights lie in {}; with them the sha256 is {found}: if the files are the right ones, correct the manifest",
        listed(data_files)
    )]
    HashOfGraph {
        path: PathBuf,
        manifest: PathBuf,
        found: String,
        data_files: Vec<PathBuf>,
    },
    #[error("model {path}: not an ONNX model that can be run: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error(
        "model {path}: there is no {direction} `{name}`; the model has {available}. Correct `{key}` in {manifest}"
    )]
    NoSuch {
        path: PathBuf,
        manifest: PathBuf,
        direction: &'static str,
        key: &'static str,
        name: String,
        available: String,
    },
    #[error(
        "model {path}: input `{name}` has shape {found}, an image tower needs [N, 3, H, W], or [N, H, W, 3]; is this the vision tower? If so, correct `input.layout` in {manifest}"
    )]
    InputShape {
        path: PathBuf,
        manifest: PathBuf,
        name: String,
        found: String,
    },
    #[error(
        "model {path}: input `{name}` takes bytes in a shape {found}, which leaves open whether images come as [N, 3, H, W] or as [N, H, W, 3]; set `layout = \"nchw\"` or `layout = \"nhwc\"` under [input] in {manifest}"
    )]
    InputLayout {
        path: PathBuf,
        manifest: PathBuf,
        name: String,
        found: String,
    },
    #[error("model {path}: input `{name}` takes {found}; {reason}")]
    InputType {
        path: PathBuf,
        name: String,
        found: String,
        reason: String,
    },
    #[error(
        "model {path}: does not take an input of shape {shape} at `{name}`: {reason}. Correct `{key}` in {manifest}"
    )]
    InputSize {
        path: PathBuf,
        key: &'static str,
        manifest: PathBuf,
        name: String,
        shape: String,
        reason: String,
    },
    #[error(
        "model {path}: {operators} not supported; the file uses opset {opset}. Export it to opset 17 with ONNX's own operators, unquantised and without an optimiser's"
    )]
    Operators {
        path: PathBuf,
        operators: String,
        opset: i64,
    },
    #[error(
        "model {path}: its graph cannot be typed: {reason}. The file uses opset {opset}; if that is not 17, export it to opset 17"
    )]
    Untyped {
        path: PathBuf,
        reason: String,
        opset: i64,
    },
    #[error(
        "model {path}: needs the inputs {inputs}; a tower of one modality is wanted, so export the {modality} part alone"
    )]
    Inputs {
        path: PathBuf,
        inputs: String,
        modality: &'static str,
    },
    #[error(
        "model {path}: output `{name}` has shape {found}, expected [1, {width}] as `output.width` in {manifest} says"
    )]
    OutputShape {
        path: PathBuf,
        manifest: PathBuf,
        name: String,
        found: String,
        width: usize,
    },
    #[error("the system refuses {threads} threads for inference: {source}")]
    Threads {
        threads: usize,
        source: std::io::Error,
    },
    #[error(
        "model {path}: its static quantisation cannot be computed as ONNX Runtime does: {reason}. Export it in fp32 and quantise that with `constancy model quantise`"
    )]
    Quantised { path: PathBuf, reason: String },
    #[error("model {path}: {reason}")]
    Run { path: PathBuf, reason: String },
    #[error(
        "model {path}: there is no manifest {manifest} beside it, and without one {reason}; write one after those in `models/`"
    )]
    Undescribed {
        path: PathBuf,
        manifest: PathBuf,
        reason: String,
    },
    #[error("model {path}: {source}")]
    Gpu { path: PathBuf, source: GpuError },
    #[error(
        "model {path}: the embedding holds a value that is not a number; the model or its quantisation is damaged"
    )]
    NotFinite { path: PathBuf },
    #[error(
        "model {path}: the embedding is all zeros, which resembles every class alike; the model or its quantisation is damaged"
    )]
    Zero { path: PathBuf },
    #[error(
        "model {path}: the code that reads and runs models fails on it ({reason}); the file is damaged, or of a kind that is not supported"
    )]
    Panicked { path: PathBuf, reason: String },
    #[error(
        "model manifest {manifest}: `text.pad_token_id` is {id}, but the text tower {path} knows the tokens 0 to {last}"
    )]
    PadToken {
        path: PathBuf,
        manifest: PathBuf,
        id: i64,
        last: i64,
    },
}

impl ModelError {
    /// A failed run of the model at `path`.
    pub(crate) fn run(path: &Path, error: &TractError) -> Self {
        Self::Run {
            path: path.into(),
            reason: error_chain(error),
        }
    }
}

fn listed(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    names.join(", ")
}

/// An error and its causes, in one line.
pub(crate) fn error_chain(error: &TractError) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ").replace('\n', " ")
}
