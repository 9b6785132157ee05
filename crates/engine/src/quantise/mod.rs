//! Writes a tower's small form: most weights in bytes, the rest in halves, as one ONNX file that runs everywhere.
//!
//! [`layers`] finds what can be quantised, [`calibrate`] records what these layers see of a few images, [`measure`]
//! chooses for each how it is stored, [`edit`] changes the graph; [`widen`] prepares towers that compute in fp16. The result is then loaded and compared with the
//! original on the same images, and only then takes its name.

mod calibrate;
mod edit;
mod layers;
mod measure;
mod partial;
mod widen;

use super::onnx::{Constant, Graph, MOST_BYTES, OnnxFile};
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
    #[error(
        "model {path}: it is quantised already (it has {operator}); give the fp32 file that it was made from"
    )]
    AlreadyQuantised { path: PathBuf, operator: String },
    #[error(
        "model {path}: its operators are of version {version}, bytes need 11 at least; export it again with `opset_version=17`"
    )]
    Opset { path: PathBuf, version: i64 },
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
    #[error(
        "model {path}: {bytes} bytes would be written, and ONNX files end at 2 GiB; this tower is too large"
    )]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{path} cannot be written: {source}; {hint}")]
    Write {
        path: PathBuf,
        hint: String,
        source: std::io::Error,
    },
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

/// A tower that can be made smaller, and the place of its small form.
pub struct Quantiser {
    /// As it is read: the source, or what [`widen`] made of it.
    source: Manifest,
    given: FileReport,
    out: PathBuf,
    options: QuantiseOptions,
    partial: Partial,
    /// Gone with the job.
    _widened: Option<Partial>,
}

impl Quantiser {
    /// Of the tower that `source` describes, to be written to `out`: refuses what cannot be quantised or written before
    /// anything is measured.
    pub fn open(
        source: &Manifest,
        out: &Path,
        options: QuantiseOptions,
    ) -> Result<Self, QuantiseError> {
        let path = source.encoder_file();
        let in_halves = check(&path, options.format)?;
        let sha256 = checked_sha256(&path, source, source.encoder.sha256.as_deref())?;
        let bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
        let partial = Partial::create(out)?;
        let given = FileReport {
            file: path.clone(),
            sha256,
            bytes,
        };
        let (source, widened) = if in_halves {
            widened(source, out)?
        } else {
            (source.clone(), None)
        };
        Ok(Self {
            source,
            given,
            out: out.into(),
            options,
            partial,
            _widened: widened,
        })
    }

    /// Writes the small form and its manifest beside it.
    ///
    /// `images` (each `[1, 3, size, size]`) are what errors are measured on, one at least; `described` says in the
    /// file's metadata what they are.
    pub fn run(
        mut self,
        images: &[Vec<f32>],
        described: &str,
        told: &mut dyn FnMut(Progress),
    ) -> Result<QuantiseReport, QuantiseError> {
        let (path, options) = (self.source.encoder_file(), &self.options);
        let engine = EngineOptions {
            threads: options.threads,
            ..EngineOptions::default()
        };
        let before = embeddings(self.source.clone(), images, &engine, "original", told)?;
        let (file, layers, halved) =
            converted(&self.source, &path, images, options, &engine, told)?;
        if file.written_len() > MOST_BYTES {
            return Err(QuantiseError::TooLarge {
                path,
                bytes: file.written_len(),
            });
        }
        self.partial.write(&file)?;
        drop(file);
        let manifest_path = self.out.with_extension("toml");
        let mut trial =
            self.source
                .of_other_form(&manifest_path, self.partial.path(), String::new());
        trial.encoder.sha256 = None;
        let after = embeddings(trial, images, &engine, "result", told)?;
        let cosine = Agreement::of(&before, &after)
            .ok_or_else(|| run_error(&path, "no image to measure on"))?;
        self.partial
            .describe(&self.metadata(described, &cosine, &layers))?;
        let written = self.partial.report()?;
        let manifest = self
            .source
            .of_other_form(&manifest_path, &self.out, written.sha256.clone());
        self.partial.finish(&manifest)?;
        let (format, source) = (options.format, self.given);
        Ok(QuantiseReport {
            format,
            source,
            written,
            manifest: manifest_path,
            cosine,
            layers,
            halved,
        })
    }

    /// What the file says of how it was made.
    fn metadata(
        &self,
        images: &str,
        cosine: &Agreement,
        layers: &[LayerReport],
    ) -> Vec<(&'static str, String)> {
        let source = self.given.file.file_name().unwrap_or_default();
        vec![
            (
                "constancy.tool",
                concat!("constancy ", env!("CARGO_PKG_VERSION")).to_owned(),
            ),
            ("constancy.source", source.to_string_lossy().into_owned()),
            ("constancy.source_sha256", self.given.sha256.clone()),
            ("constancy.format", self.options.format.name().to_owned()),
            ("constancy.max_error", self.options.max_error.to_string()),
            ("constancy.images", images.to_owned()),
            ("constancy.cosine_median", format!("{:.6}", cosine.median)),
            ("constancy.cosine_least", format!("{:.6}", cosine.least)),
            (
                "constancy.layers",
                serde_json::to_string(layers).unwrap_or_default(),
            ),
        ]
    }
}

/// The tower of `source` in f32, in a file beside `out` that goes with what holds it.
fn widened(source: &Manifest, out: &Path) -> Result<(Manifest, Option<Partial>), QuantiseError> {
    let path = source.encoder_file();
    let file = OnnxFile::open(&path).map_err(|reason| parse_error(&path, reason))?;
    let mut widened = Partial::create(&out.with_extension("widened"))?;
    widened.write(&widen::widen(file))?;
    let mut source = source.clone();
    source.encoder.file =
        std::path::absolute(widened.path()).unwrap_or_else(|_| widened.path().into());
    source.encoder.sha256 = None;
    Ok((source, Some(widened)))
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
        let layers =
            Layers::find(path, &source.output.name).map_err(|reason| parse_error(path, reason))?;
        if layers.groups.is_empty() {
            return Err(QuantiseError::NoLayers { path: path.into() });
        }
        let runtime = Arc::new(engine.runtime()?);
        told(Progress {
            step: "calibration",
            done: 0,
            total: 1,
        });
        let seen = calibrate::activations(path, source, &layers.groups, images, &runtime)?;
        for (i, group) in layers.groups.iter().enumerate() {
            told(Progress {
                step: "layers",
                done: i,
                total: layers.groups.len(),
            });
            let Some(seen) = seen.get(&group.input) else {
                continue;
            };
            let choice = measure::choose(
                &layers,
                group,
                seen,
                options.max_error,
                options.smooth,
                &runtime,
            )
            .map_err(|e| run_error(path, &measure::reason(&e)))?;
            apply(&mut edit, &layers, group, &choice);
            reports.extend(report(group, &choice));
        }
    }
    edit.halve();
    if edit.halved == 0 && !reports.iter().any(|r| r.form == "int8") {
        return Err(QuantiseError::Nothing { path: path.into() });
    }
    let file = edit.finish();
    let halves = file
        .model
        .graph
        .iter()
        .flat_map(|g| &g.initializer)
        .filter(|t| t.data_type == widen::HALF)
        .count();
    Ok((file, reports, halves))
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
            Some(factors) => {
                measure::quantised(&measure::smoothed(&weights, factors), layer.columns)
            }
            None => measure::quantised(&weights, layer.columns),
        }
    };
    edit.quantise(group, group.layers.iter().map(bytes).collect());
}

fn report<'a>(group: &'a Group, choice: &'a Choice) -> impl Iterator<Item = LayerReport> + 'a {
    group
        .layers
        .iter()
        .zip(&choice.errors)
        .map(|(layer, &error)| LayerReport {
            name: layer.name.clone(),
            form: if choice.int8 { "int8" } else { "fp16" },
            alpha: choice.alpha,
            error,
            depth: layer.depth,
            columns: layer.columns,
        })
}

/// Refuses a file that cannot be made smaller; whether it computes in halves.
fn check(path: &Path, format: StorageFormat) -> Result<bool, QuantiseError> {
    if let Err(source) = std::fs::metadata(path) {
        return Err(ModelError::Read {
            path: path.into(),
            source,
        }
        .into());
    }
    let file = OnnxFile::open(path).map_err(|reason| parse_error(path, reason))?;
    let nodes = || file.model.graph.iter().flat_map(|g| &g.node);
    if let Some(node) = nodes().find(|n| QUANTISED.contains(&n.op_type.as_str())) {
        return Err(QuantiseError::AlreadyQuantised {
            path: path.into(),
            operator: node.op_type.clone(),
        });
    }
    let opset = file
        .model
        .opset_import
        .iter()
        .find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    let version = opset.map_or(0, |o| o.version);
    if format == StorageFormat::Int8 && version < LEAST_OPSET {
        return Err(QuantiseError::Opset {
            path: path.into(),
            version,
        });
    }
    let graph = Graph::new(file);
    let index = graph.index();
    for name in graph.initializer_names() {
        let finite = |c: Constant| {
            let finite = c.floats().iter().all(|v| v.is_finite());
            c.data.forget();
            finite
        };
        if graph.constant(&index, &name).is_some_and(|c| !finite(c)) {
            return Err(QuantiseError::NotFinite {
                path: path.into(),
                tensor: name,
            });
        }
    }
    Ok(widen::computes_in_halves(&graph))
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
        told(Progress {
            step,
            done,
            total: images.len(),
        });
        encoder.embed(image)
    };
    images.iter().enumerate().map(one).collect()
}

fn parse_error(path: &Path, reason: String) -> QuantiseError {
    ModelError::Parse {
        path: path.into(),
        reason,
    }
    .into()
}

fn run_error(path: &Path, reason: &str) -> QuantiseError {
    ModelError::Run {
        path: path.into(),
        reason: reason.to_owned(),
    }
    .into()
}
