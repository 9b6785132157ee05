//! The neural towers: ONNX files run by tract, described by a manifest beside them.
//!
//! An [`Encoder`] turns one preprocessed image into one embedding, a [`TextEncoder`] one tokenised prompt.
//! Nothing outside this folder knows tract. Exporters leave symbolic axes and intermediate shapes
//! in their files; both are dropped on loading and derived anew from the one input shape that is used.

mod manifest;
mod text;

pub use manifest::{EncoderManifest, Manifest, ManifestError, TextManifest};
pub use text::TextEncoder;

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::InferenceFact;

type Plan = Arc<TypedRunnableModel>;

/// Why a tower could not be loaded or run.
#[derive(Debug, Error)]
pub enum ModelError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("model {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "model {path}: its sha256 is {found}, the manifest {manifest} names {expected}; fetch the model again, or correct the manifest if the change is meant"
    )]
    Hash { path: PathBuf, manifest: PathBuf, expected: String, found: String },
    #[error("model {path}: not an ONNX model that can be run: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error("model {path}: there is no {direction} `{name}`; the model has {available}. Correct `{key}` in {manifest}")]
    NoSuch {
        path: PathBuf,
        manifest: PathBuf,
        direction: &'static str,
        key: &'static str,
        name: String,
        available: String,
    },
    #[error(
        "model {path}: input `{name}` has shape {found}, an image tower needs [N, 3, H, W]; is this the vision tower?"
    )]
    InputShape { path: PathBuf, name: String, found: String },
    #[error(
        "model {path}: does not take an input of shape {shape} at `{name}`: {reason}. Correct `input.size` in {manifest}"
    )]
    InputSize { path: PathBuf, manifest: PathBuf, name: String, shape: String, reason: String },
    #[error(
        "model {path}: needs the inputs {inputs}; a tower of one modality is wanted, so export the {modality} part alone"
    )]
    Inputs { path: PathBuf, inputs: String, modality: &'static str },
    #[error(
        "model {path}: output `{name}` has shape {found}, expected [1, {width}] as `output.width` in {manifest} says"
    )]
    OutputShape { path: PathBuf, manifest: PathBuf, name: String, found: String, width: usize },
    #[error("model {path}: {reason}")]
    Run { path: PathBuf, reason: String },
    #[error("model {path}: the embedding holds a value that is not a number; the model or its quantisation is damaged")]
    NotFinite { path: PathBuf },
}

/// The image tower: `[1, 3, size, size]` to `[width]`.
pub struct Encoder {
    plan: Plan,
    manifest: Manifest,
    path: PathBuf,
    sha256: String,
}

impl Encoder {
    /// Loads the tower that the manifest at `path` describes and checks it with one run.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let manifest = Manifest::read(path)?;
        let model_path = manifest.encoder_file();
        let sha256 = checked_sha256(&model_path, &manifest, manifest.encoder.sha256.as_deref())?;
        let size = manifest.input.size as usize;
        let input =
            TowerInput { name: &manifest.input.name, fact: f32::fact([1, 3, size, size]).into(), key: "input.name" };
        let width = manifest.output.width;
        let loader = Loader { path: &model_path, manifest: &manifest.path };
        let plan = loader.load(&[input], &manifest.output.name, "output.name", "vision")?;
        let encoder = Self { plan, path: model_path, sha256, manifest };
        let probe = vec![0.0; 3 * size * size];
        // Some shapes only meet while the graph runs.
        let found = encoder.plan_run(&probe).map_err(|e| ModelError::InputSize {
            path: encoder.path.clone(),
            manifest: encoder.manifest.path.clone(),
            name: encoder.manifest.input.name.clone(),
            shape: format!("[1, 3, {size}, {size}]"),
            reason: chain(&e),
        })?;
        if found.len() != width || found.shape().first() != Some(&1) {
            return Err(ModelError::OutputShape {
                path: encoder.path,
                manifest: encoder.manifest.path,
                name: encoder.manifest.output.name,
                found: format!("{:?}", found.shape()),
                width,
            });
        }
        Ok(encoder)
    }

    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Hash of the ONNX file, by which projections and class banks know their encoder; lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The embedding `[width]` of one input `[1, 3, size, size]`, as the tower gives it: not normalised.
    pub fn embed(&self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        let output = self.plan_run(input).map_err(|e| run_error(&self.path, &e))?;
        finite(&self.path, &output)
    }

    fn plan_run(&self, input: &[f32]) -> TractResult<Tensor> {
        let size = self.manifest.input.size as usize;
        let input = Tensor::from_shape(&[1, 3, size, size], input)?;
        let outputs = self.plan.run(tvec!(input.into()))?;
        Ok(outputs[0].clone().into_tensor())
    }
}

/// One of a tower's inputs: its name in the file and the shape that will be fed.
struct TowerInput<'a> {
    name: &'a str,
    fact: InferenceFact,
    /// Where the manifest names it.
    key: &'static str,
}

/// Loads one tower; keeps the two paths that its messages name.
struct Loader<'a> {
    path: &'a Path,
    manifest: &'a Path,
}

impl Loader<'_> {
    fn load(
        &self,
        inputs: &[TowerInput<'_>],
        output: &str,
        output_key: &'static str,
        modality: &'static str,
    ) -> Result<Plan, ModelError> {
        let mut model = self.parse()?;
        self.set_inputs(&mut model, inputs, modality)?;
        if !model.nodes().iter().any(|n| {
            n.outputs.iter().enumerate().any(|(slot, _)| model.outlet_label(OutletId::new(n.id, slot)) == Some(output))
        }) && model.node_by_name(output).is_err()
        {
            let available = labels(&model, model.output_outlets().unwrap_or_default());
            return Err(self.no_such("output", output_key, output, available));
        }
        model = model.with_outputs_by_name([output]).map_err(|e| self.parse_error(&e))?;
        let shape = |e: &TractError| ModelError::InputSize {
            path: self.path.into(),
            manifest: self.manifest.into(),
            name: inputs[0].name.into(),
            shape: format!("{:?}", inputs[0].fact.shape),
            reason: chain(e),
        };
        let typed = model.into_typed().map_err(|e| shape(&e))?;
        let optimized = typed.into_optimized().map_err(|e| self.parse_error(&e))?;
        optimized.into_runnable().map_err(|e| self.parse_error(&e))
    }

    fn parse(&self) -> Result<InferenceModel, ModelError> {
        if let Err(source) = std::fs::metadata(self.path) {
            return Err(ModelError::Read { path: self.path.into(), source });
        }
        tract_onnx::onnx()
            .with_ignore_value_info(true)
            .with_ignore_output_shapes(true)
            .model_for_path(self.path)
            .map_err(|e| self.parse_error(&e))
    }

    fn set_inputs(
        &self,
        model: &mut InferenceModel,
        inputs: &[TowerInput<'_>],
        modality: &'static str,
    ) -> Result<(), ModelError> {
        let outlets = model.input_outlets().map_err(|e| self.parse_error(&e))?.to_vec();
        let names: Vec<String> = outlets.iter().map(|o| model.node(o.node).name.clone()).collect();
        for input in inputs {
            let Some(slot) = names.iter().position(|n| n == input.name) else {
                return Err(self.no_such("input", input.key, input.name, names.join(", ")));
            };
            let declared = model.input_fact(slot).map_err(|e| self.parse_error(&e))?.clone();
            if modality == "vision" {
                self.check_image_input(input.name, &declared)?;
            }
            // The file's own axes may be symbols or a fixed batch; what is fed decides.
            model.set_input_fact(slot, input.fact.clone()).map_err(|e| self.parse_error(&e))?;
        }
        if names.len() > inputs.len() {
            let inputs = names.join(", ");
            return Err(ModelError::Inputs { path: self.path.into(), inputs, modality });
        }
        let order = inputs.iter().filter_map(|i| names.iter().position(|n| n == i.name));
        let ordered: Vec<OutletId> = order.map(|slot| outlets[slot]).collect();
        model.set_input_outlets(&ordered).map_err(|e| self.parse_error(&e))
    }

    /// An image tower's input has four axes of which the second is the three colours.
    fn check_image_input(&self, name: &str, fact: &InferenceFact) -> Result<(), ModelError> {
        let dims: Vec<Option<TDim>> = fact.shape.dims().map(Factoid::concretize).collect();
        let rank_known = !fact.shape.is_open();
        let channels = dims.get(1).cloned().flatten();
        let wrong_channels = channels.is_some_and(|c| c.to_i64().is_ok_and(|c| c != 3));
        if rank_known && (dims.len() != 4 || wrong_channels) {
            return Err(ModelError::InputShape {
                path: self.path.into(),
                name: name.into(),
                found: format!("{:?}", fact.shape),
            });
        }
        Ok(())
    }

    fn no_such(&self, direction: &'static str, key: &'static str, name: &str, available: String) -> ModelError {
        ModelError::NoSuch {
            path: self.path.into(),
            manifest: self.manifest.into(),
            direction,
            key,
            name: name.into(),
            available,
        }
    }

    fn parse_error(&self, error: &TractError) -> ModelError {
        ModelError::Parse { path: self.path.into(), reason: chain(error) }
    }
}

fn labels(model: &InferenceModel, outlets: &[OutletId]) -> String {
    let label = |&o: &OutletId| model.outlet_label(o).unwrap_or(&model.node(o.node).name).to_owned();
    outlets.iter().map(label).collect::<Vec<_>>().join(", ")
}

fn run_error(path: &Path, error: &TractError) -> ModelError {
    ModelError::Run { path: path.into(), reason: chain(error) }
}

fn finite(path: &Path, output: &Tensor) -> Result<Vec<f32>, ModelError> {
    let output = output.cast_to::<f32>().map_err(|e| run_error(path, &e))?;
    let values = output.try_as_plain_ram().and_then(|plain| Ok(plain.as_slice::<f32>()?.to_vec()));
    let values = values.map_err(|e| run_error(path, &e))?;
    if values.iter().all(|v| v.is_finite()) { Ok(values) } else { Err(ModelError::NotFinite { path: path.into() }) }
}

/// An error and what caused it, in one line.
fn chain(error: &TractError) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ").replace('\n', " ")
}

fn checked_sha256(path: &Path, manifest: &Manifest, expected: Option<&str>) -> Result<String, ModelError> {
    let found = sha256_of(path).map_err(|source| ModelError::Read { path: path.into(), source })?;
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(&found) => Err(ModelError::Hash {
            path: path.into(),
            manifest: manifest.path.clone(),
            expected: expected.into(),
            found,
        }),
        _ => Ok(found),
    }
}

/// SHA-256 of a file, lower-case hex.
pub fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut block)?;
        if n == 0 {
            break;
        }
        hasher.update(&block[..n]);
    }
    Ok(hasher.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}
