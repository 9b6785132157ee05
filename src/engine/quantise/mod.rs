//! Writes a tower's small form: most weights in bytes, the rest in halves, as one ONNX file that runs everywhere.
//!
//! [`layers`] finds what can be quantised, [`calibrate`] records what these layers see of a few images, [`measure`]
//! chooses for each how it is stored, [`edit`] changes the graph. The result is then loaded and compared with the
//! original on the same images, and only then takes its name.

mod calibrate;
mod edit;
mod layers;
mod measure;
mod partial;

use super::onnx::{Constant, Element, Graph, MOST_BYTES, OnnxFile};
use super::{Agreement, Encoder, EngineOptions, Manifest, ModelError, checked_sha256};
use edit::Edit;
use layers::{Group, Layers};
use measure::Choice;
use partial::Partial;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// The relative error of its output beyond which a layer is stored in halves. Layers that bytes suit are at 0.01 to
/// 0.02; an error of `e` in every layer costs the embedding about `e²` of cosine.
pub const DEFAULT_MAX_ERROR: f64 = 0.05;

/// Operators that say that a file holds bytes already.
const QUANTISED: [&str; 9] = [
    "DynamicQuantizeLinear",
    "QuantizeLinear",
    "DequantizeLinear",
    "MatMulInteger",
    "ConvInteger",
    "QLinearMatMul",
    "QLinearConv",
    "MatMulNBits",
    "DynamicQuantizeMatMul",
];

/// The first version of ONNX's operators that has `DynamicQuantizeLinear`.
const LEAST_OPSET: i64 = 11;

/// Why a tower could not be written in its small form.
#[derive(Debug, Error)]
pub enum QuantiseError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("model {path}: it is quantised already (it has {operator}); give the fp32 file that it was made from")]
    AlreadyQuantised { path: PathBuf, operator: String },
    #[error(
        "model {path}: its operators are of version {version}, bytes need 11 at least; export it again with `opset_version=17`"
    )]
    Opset { path: PathBuf, version: i64 },
    #[error("model {path}: it computes in fp16, which cannot be quantised; give the fp32 file that it was made from")]
    ComputesInHalves { path: PathBuf },
    #[error(
        "model {path}: the weights of `{tensor}` hold a value that is not a number; the file is damaged or the training failed, fetch it again"
    )]
    NotFinite { path: PathBuf, tensor: String },
    #[error(
        "model {path}: it has no linear layers with constant weights; `--format fp16` halves the file of a convolutional tower"
    )]
    NoLayers { path: PathBuf },
    #[error("model {path}: nothing would become smaller, its large weights are in fp16 already")]
    Nothing { path: PathBuf },
    #[error("model {path}: {bytes} bytes would be written, and ONNX files end at 2 GiB; this tower is too large")]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{path} cannot be written: {source}; {hint}")]
    Write { path: PathBuf, hint: String, source: std::io::Error },
}

/// In what weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageFormat {
    /// Linear layers in bytes, other large weights in halves.
    Int8,
    /// All large weights in halves; computed in f32.
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

/// How the small form is made.
#[derive(Debug, Clone)]
pub struct QuantiseOptions {
    pub format: StorageFormat,
    /// Error of a layer's output, relative to how much that varies, beyond which it is stored in halves.
    pub max_error: f64,
    /// Whether normalisations may be changed to even out their channels.
    pub smooth: bool,
    pub threads: Option<usize>,
    /// What the images are, for the file's metadata.
    pub images: String,
}

/// How far the work is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub step: &'static str,
    pub done: usize,
    pub total: usize,
}

/// A file.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    pub file: PathBuf,
    pub sha256: String,
    pub bytes: u64,
}

/// What became of one layer.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    pub name: String,
    /// `int8` or `fp16`.
    pub form: &'static str,
    /// Strength of the smoothing of its input; 0 where there is none.
    pub alpha: f32,
    /// Of its output on the calibration images, relative to how much that varies.
    pub error: f64,
    pub depth: usize,
    pub columns: usize,
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct QuantiseReport {
    pub format: StorageFormat,
    pub source: FileReport,
    pub written: FileReport,
    pub manifest: PathBuf,
    /// Cosines between the embeddings of the source and of what was written.
    pub cosine: Agreement,
    pub layers: Vec<LayerReport>,
    /// Tensors that are stored in halves.
    pub halved: usize,
}

/// Writes the tower that `source` describes to `out`, and its manifest beside it.
///
/// `images` (each `[1, 3, size, size]`) are what errors are measured on; one at least.
pub fn quantise(
    source: &Manifest,
    out: &Path,
    images: &[Vec<f32>],
    options: &QuantiseOptions,
    told: &mut dyn FnMut(Progress),
) -> Result<QuantiseReport, QuantiseError> {
    let path = source.encoder_file();
    check(&path, options.format)?;
    let sha256 = checked_sha256(&path, source, source.encoder.sha256.as_deref())?;
    let mut partial = Partial::create(out)?;
    let engine = EngineOptions { threads: options.threads, ..EngineOptions::default() };
    let before = embeddings(source.clone(), images, &engine, "original", told)?;
    let (file, layers, halved) = converted(source, &path, images, options, &engine, told)?;
    if file.written_len() > MOST_BYTES {
        return Err(QuantiseError::TooLarge { path, bytes: file.written_len() });
    }
    partial.write(&file)?;
    drop(file);
    let as_written = source.of_other_form(&out.with_extension("toml"), partial.path(), String::new());
    let trial = Manifest { encoder: super::EncoderManifest { sha256: None, ..as_written.encoder }, ..as_written };
    let after = embeddings(trial, images, &engine, "result", told)?;
    let cosine = Agreement::of(&before, &after).ok_or_else(|| run_error(&path, "no image to measure on"))?;
    partial.describe(&metadata(&path, &sha256, options, &cosine, &layers))?;
    let written = partial.report()?;
    let manifest = source.of_other_form(&out.with_extension("toml"), out, written.sha256.clone());
    partial.finish(&manifest)?;
    let bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
    Ok(QuantiseReport {
        format: options.format,
        source: FileReport { file: path, sha256, bytes },
        written,
        manifest: manifest.path,
        cosine,
        layers,
        halved,
    })
}

/// The changed model, what became of its layers, and how many tensors are in halves.
fn converted(
    source: &Manifest,
    path: &Path,
    images: &[Vec<f32>],
    options: &QuantiseOptions,
    engine: &EngineOptions,
    told: &mut dyn FnMut(Progress),
) -> Result<(OnnxFile, Vec<LayerReport>, usize), QuantiseError> {
    let mut edit = Edit::open(path).map_err(|reason| parse_error(path, reason))?;
    let mut reports = Vec::new();
    if options.format == StorageFormat::Int8 {
        let layers = Layers::find(path, &source.output.name).map_err(|reason| parse_error(path, reason))?;
        if layers.groups.is_empty() {
            return Err(QuantiseError::NoLayers { path: path.into() });
        }
        let runtime = Arc::new(engine.runtime()?);
        told(Progress { step: "calibration", done: 0, total: 1 });
        let seen = calibrate::activations(path, source, &layers.groups, images, &runtime)?;
        for (i, group) in layers.groups.iter().enumerate() {
            told(Progress { step: "layers", done: i, total: layers.groups.len() });
            let Some(seen) = seen.get(&group.input) else { continue };
            let choice = measure::choose(&layers, group, seen, options.max_error, options.smooth, &runtime)
                .map_err(|e| run_error(path, &measure::reason(&e)))?;
            apply(&mut edit, &layers, group, &choice);
            reports.extend(report(group, &choice));
        }
    }
    edit.halve();
    let halved = edit.halved;
    if halved == 0 && !reports.iter().any(|r| r.form == "int8") {
        return Err(QuantiseError::Nothing { path: path.into() });
    }
    Ok((edit.finish(), reports, halved))
}

/// Changes the graph as was chosen for one group.
fn apply(edit: &mut Edit, layers: &Layers, group: &Group, choice: &Choice) {
    if !choice.int8 {
        return;
    }
    let factors = choice.smoothing.as_ref().zip(group.norm.as_ref());
    let factors = factors.and_then(|(factors, norm)| edit.fold(norm, factors).then_some(factors));
    let bytes = |layer: &layers::Layer| {
        let weights = layers.weights(layer);
        match factors {
            Some(factors) => measure::quantised(&measure::smoothed(&weights, factors), layer.columns),
            None => measure::quantised(&weights, layer.columns),
        }
    };
    edit.quantise(group, group.layers.iter().map(bytes).collect());
}

fn report<'a>(group: &'a Group, choice: &'a Choice) -> impl Iterator<Item = LayerReport> + 'a {
    group.layers.iter().zip(&choice.errors).map(|(layer, &error)| LayerReport {
        name: layer.name.clone(),
        form: if choice.int8 { "int8" } else { "fp16" },
        alpha: choice.alpha,
        error,
        depth: layer.depth,
        columns: layer.columns,
    })
}

/// Whether a file can be made smaller at all.
fn check(path: &Path, format: StorageFormat) -> Result<(), QuantiseError> {
    if let Err(source) = std::fs::metadata(path) {
        return Err(ModelError::Read { path: path.into(), source }.into());
    }
    let file = OnnxFile::open(path).map_err(|reason| parse_error(path, reason))?;
    let nodes = || file.model.graph.iter().flat_map(|g| &g.node);
    if let Some(node) = nodes().find(|n| QUANTISED.contains(&n.op_type.as_str())) {
        return Err(QuantiseError::AlreadyQuantised { path: path.into(), operator: node.op_type.clone() });
    }
    let opset = file.model.opset_import.iter().find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let version = opset.map_or(0, |o| o.version);
    if format == StorageFormat::Int8 && version < LEAST_OPSET {
        return Err(QuantiseError::Opset { path: path.into(), version });
    }
    let graph = Graph::new(file);
    let index = graph.index();
    let initializers = graph.initializer_names();
    let half = |name: &String| {
        initializers.contains(name) && graph.constant(&index, name).is_some_and(|c| c.element == Element::F16)
    };
    // Stored halves are cast to floats before anything computes with them.
    if graph.nodes.iter().any(|n| !matches!(n.op_type.as_str(), "Cast" | "Identity") && n.input.iter().any(half)) {
        return Err(QuantiseError::ComputesInHalves { path: path.into() });
    }
    for name in initializers.clone() {
        let finite = |c: Constant| {
            let finite = c.floats().iter().all(|v| v.is_finite());
            c.data.forget();
            finite
        };
        if graph.constant(&index, &name).is_some_and(|c| !finite(c)) {
            return Err(QuantiseError::NotFinite { path: path.into(), tensor: name });
        }
    }
    Ok(())
}

/// The embeddings of `images`, by a tower that is let go of again.
fn embeddings(
    manifest: Manifest,
    images: &[Vec<f32>],
    engine: &EngineOptions,
    step: &'static str,
    told: &mut dyn FnMut(Progress),
) -> Result<Vec<Vec<f32>>, ModelError> {
    let encoder = Encoder::open(manifest, engine)?;
    let one = |(done, image): (usize, &Vec<f32>)| {
        told(Progress { step, done, total: images.len() });
        encoder.embed(image)
    };
    images.iter().enumerate().map(one).collect()
}

/// What the file says of how it was made.
fn metadata(
    path: &Path,
    sha256: &str,
    options: &QuantiseOptions,
    cosine: &Agreement,
    layers: &[LayerReport],
) -> Vec<(&'static str, String)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    vec![
        ("constancy.tool", concat!("constancy ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("constancy.source", name),
        ("constancy.source_sha256", sha256.to_owned()),
        ("constancy.format", options.format.name().to_owned()),
        ("constancy.max_error", options.max_error.to_string()),
        ("constancy.images", options.images.clone()),
        ("constancy.cosine_median", format!("{:.6}", cosine.median)),
        ("constancy.cosine_least", format!("{:.6}", cosine.least)),
        ("constancy.layers", serde_json::to_string(layers).unwrap_or_default()),
    ]
}

fn parse_error(path: &Path, reason: String) -> QuantiseError {
    ModelError::Parse { path: path.into(), reason }.into()
}

fn run_error(path: &Path, reason: &str) -> QuantiseError {
    ModelError::Run { path: path.into(), reason: reason.to_owned() }.into()
}
