//! The options of a quantisation, its progress and its report.

use crate::agreement::Agreement;
use serde::Serialize;
use std::path::PathBuf;

/// A layer whose output has a larger relative error in int8 is stored in fp16. Layers that int8
/// suits have errors of 0.01 to 0.02; an error of `e` in every layer lowers the cosine of the
/// embedding by about `e²`.
pub const DEFAULT_MAX_ERROR: f64 = 0.05;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageFormat {
    /// Linear layers in int8, other large weights in fp16.
    Int8,
    /// All large weights in fp16; computed in f32.
    Fp16,
}

impl StorageFormat {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Fp16 => "fp16",
        }
    }
}

/// How a tower is quantised.
#[derive(Debug, Clone)]
pub struct QuantiseOptions {
    pub format: StorageFormat,
    /// A layer is stored in fp16 if int8 gives its output a larger error, relative to how much the
    /// output varies.
    pub max_error: f64,
    /// Whether normalisations may be changed to even out the channels of their outputs.
    pub smooth: bool,
    /// Threads to measure with; defaults to all performance cores.
    pub threads: Option<usize>,
}

/// The progress of one step.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub step: &'static str,
    pub done: usize,
    pub total: usize,
}

/// A file that was read or written.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    pub file: PathBuf,
    pub sha256: String,
    pub bytes: u64,
}

/// How one layer is stored.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    pub name: String,
    /// `int8` or `fp16`.
    pub form: &'static str,
    /// Strength of the smoothing of its input, 0 without smoothing.
    pub alpha: f32,
    /// Error of its output on the calibration images, relative to how much the output varies.
    pub error: f64,
    pub depth: usize,
    pub columns: usize,
}

/// The result of a quantisation.
#[derive(Debug, Serialize)]
pub struct QuantiseReport {
    pub format: StorageFormat,
    pub source: FileReport,
    pub written: FileReport,
    pub manifest: PathBuf,
    /// Between the embeddings of the source and of the written file.
    pub cosine: Agreement,
    pub layers: Vec<LayerReport>,
    /// Number of tensors that are stored in fp16.
    #[serde(rename = "halved")]
    pub fp16_tensors: usize,
}
