//! The neural towers: ONNX files run by tract, described by a manifest beside them.
//!
//! An [`Encoder`] turns one preprocessed image into one embedding, a [`TextEncoder`] one tokenised prompt.
//! Nothing outside this folder knows tract. Exporters leave symbolic axes and intermediate shapes
//! in their files; both are dropped on loading and derived anew from the one input shape that is used.

mod agreement;
mod cores;
#[cfg(feature = "gpu")]
mod cuda;
mod describe;
mod gpu;
mod load;
mod manifest;
mod onnx;
mod ops;
mod quantise;
mod rewrite;
mod text;

pub use agreement::Agreement;
pub use constancy_kernels::Isa;
pub use cores::performance_cores;
pub use describe::{Described, describe};
pub use gpu::{CudaVersion, Device, Driver, GpuDevice, GpuError, gpu_is_starting};
pub use manifest::{EncoderManifest, Manifest, ManifestError, TextManifest};
pub use ops::Precision;
pub use quantise::{
    DEFAULT_MAX_ERROR, LayerReport, Progress, QuantiseError, QuantiseOptions, QuantiseReport,
    Quantiser, StorageFormat,
};
pub use text::TextEncoder;

use constancy_kernels::{Kernels, Pool};
use ops::{FusedOp, Operators, Runtime};

use gpu::{GpuTower, Order, Tower};
use load::{Fusing, Loaded, Loader, TowerInput};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{EvalContext, OpState, TypedNode};

type Plan = Arc<TypedRunnableModel>;

/// Of the image on which a GPU is compared with the CPU.
const TRIAL_SEED: u64 = 8;

/// Why a tower could not be loaded or run.
#[derive(Debug, Error)]
pub enum ModelError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("model {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
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
        "model {path}: input `{name}` has shape {found}, an image tower needs [N, 3, H, W]; is this the vision tower?"
    )]
    InputShape {
        path: PathBuf,
        name: String,
        found: String,
    },
    #[error(
        "model {path}: does not take an input of shape {shape} at `{name}`: {reason}. Correct `input.size` in {manifest}"
    )]
    InputSize {
        path: PathBuf,
        manifest: PathBuf,
        name: String,
        shape: String,
        reason: String,
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
}

/// How towers are run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default = "EngineOptions::of_daemon")]
pub struct EngineOptions {
    /// In which numbers products are computed.
    pub precision: Precision,
    /// Threads that share an image, 1 to 64; all performance cores unless given.
    pub threads: Option<usize>,
    /// Where the image tower runs. The CPU's is loaded in any case, and takes over where the GPU fails.
    pub device: Device,
    /// Without operators of ours, on tract alone: to compare.
    #[serde(skip)]
    pub plain: bool,
}

impl EngineOptions {
    /// A daemon's, unless its configuration says otherwise: on the GPU where there is one.
    #[must_use]
    pub fn of_daemon() -> Self {
        Self {
            device: Device::Auto,
            ..Self::default()
        }
    }

    /// How blocks are fused, if they are to be.
    fn fusing<'a>(&self, runtime: &'a Arc<Runtime>) -> Option<Fusing<'a>> {
        (!self.plain).then_some(Fusing {
            precision: self.precision,
            runtime,
        })
    }

    fn runtime(&self) -> Result<Runtime, ModelError> {
        let threads = self.threads.unwrap_or_else(cores::performance_cores);
        let pool = Pool::new(threads).map_err(|source| ModelError::Threads { threads, source })?;
        Ok(Runtime {
            kernels: Kernels::best(),
            pool,
        })
    }
}

/// What a tower runs on.
#[derive(Debug, Clone)]
pub struct EngineInfo {
    /// The GPU, if there is one, and in which numbers it computes.
    pub gpu: Option<String>,
    pub isa: Isa,
    pub threads: usize,
    /// Of the fused operators.
    pub weight_bytes: usize,
}

/// The image tower: `[1, 3, size, size]` to `[width]`.
pub struct Encoder {
    plan: Plan,
    operators: Operators,
    /// Plans for several images at once, made when they are first wanted; `None` where the file cannot.
    batches: Mutex<BTreeMap<usize, Option<Plan>>>,
    tower: Option<GpuTower>,
    runtime: Arc<Runtime>,
    manifest: Manifest,
    path: PathBuf,
    sha256: String,
}

impl Encoder {
    /// Loads the tower that the manifest at `path` describes and checks it with one run.
    pub fn load(path: &Path, options: &EngineOptions) -> Result<Self, ModelError> {
        Self::open(Manifest::read(path)?, options)
    }

    /// The same for a manifest that is read already.
    pub fn open(manifest: Manifest, options: &EngineOptions) -> Result<Self, ModelError> {
        let model_path = manifest.encoder_file();
        let sha256 = checked_sha256(&model_path, &manifest, manifest.encoder.sha256.as_deref())?;
        let input = image_input(&manifest, 1);
        let width = manifest.output.width;
        let runtime = Arc::new(options.runtime()?);
        let loader = Loader {
            path: &model_path,
            manifest: &manifest.path,
        };
        let output = &manifest.output.name;
        let fusing = options.fusing(&runtime);
        let Loaded { plan, operators } =
            loader.load(&[input], output, "output.name", "vision", fusing)?;
        let mut encoder = Self {
            plan,
            operators,
            batches: Mutex::default(),
            tower: None,
            runtime,
            path: model_path,
            sha256,
            manifest,
        };
        let probe = vec![0.0; encoder.manifest.input_len()];
        // Some shapes only meet while the graph runs.
        let found =
            encoder
                .plan_run(&encoder.plan, &probe, 1)
                .map_err(|e| ModelError::InputSize {
                    path: encoder.path.clone(),
                    manifest: encoder.manifest.path.clone(),
                    name: encoder.manifest.input.name.clone(),
                    shape: format!("{:?}", encoder.manifest.input_shape(1)),
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
        encoder.tower = encoder.take_seat(options)?;
        Ok(encoder)
    }

    /// A tower on the GPU, checked against the CPU on a fixed input.
    fn take_seat(&self, options: &EngineOptions) -> Result<Option<GpuTower>, ModelError> {
        let failed = |source| ModelError::Gpu {
            path: self.path.clone(),
            source,
        };
        let Some(gpu) = gpu::find(options.device).map_err(failed)? else {
            return Ok(None);
        };
        let trial = self.manifest.noise(1, TRIAL_SEED);
        let expected = self.embed(&trial)?;
        let halves = options.precision != Precision::Fp32;
        let order = Order {
            manifest: self.manifest.path.clone(),
            halves,
            plain: options.plain,
        };
        let runtime = Arc::clone(&self.runtime);
        gpu::tower(
            options.device,
            &gpu,
            Tower {
                order,
                runtime,
                trial,
                expected,
            },
        )
        .map_err(failed)
    }

    /// How often the CPU has embedded in the place of the GPU that [`Encoder::info`] names: while it was lost, or an
    /// embedding was too large for its numbers. 0 where there is no GPU.
    #[must_use]
    pub fn stood_in(&self) -> usize {
        self.tower.as_ref().map_or(0, GpuTower::stood_in)
    }

    /// An error, and its reason, where the CPU has stood in for the GPU: what was measured is not the GPU's.
    pub fn gpu_held(&self) -> Result<(), ModelError> {
        let refused = self.tower.as_ref().and_then(GpuTower::refused);
        refused.map_or(Ok(()), |(_, source)| {
            Err(ModelError::Gpu {
                path: self.path.clone(),
                source,
            })
        })
    }

    /// This tower with a tower on a GPU that is lost after as many runs; its embeddings are an image's sum, its first
    /// value, and zeros.
    #[cfg(test)]
    pub(crate) fn on_a_gpu_for(mut self, runs: usize) -> Self {
        let (image, width) = (self.manifest.input_len(), self.manifest.output.width);
        self.tower = Some(gpu::tests::gpu_tower(image, width, runs));
        self
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
        if let Some(embedding) = self
            .tower
            .as_ref()
            .and_then(|tower| tower.embed(input, 1, &self.runtime.pool))
        {
            return Ok(embedding);
        }
        self.embed_with(&self.plan, input, 1)
    }

    /// The embeddings `[batch, width]` of inputs `[batch, 3, size, size]`, the same as one after the other, but the
    /// weights are read once for all.
    pub fn embed_batch(&self, input: &[f32], batch: usize) -> Result<Vec<f32>, ModelError> {
        if let Some(embeddings) = self
            .tower
            .as_ref()
            .and_then(|tower| tower.embed(input, batch, &self.runtime.pool))
        {
            return Ok(embeddings);
        }
        if let Some(plan) = self.batch_plan(batch) {
            return self.embed_with(&plan, input, batch);
        }
        let one = input.len() / batch.max(1);
        let rows = input
            .chunks_exact(one.max(1))
            .map(|image| self.embed(image))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(rows.concat())
    }

    fn embed_with(&self, plan: &Plan, input: &[f32], batch: usize) -> Result<Vec<f32>, ModelError> {
        let output = self
            .plan_run(plan, input, batch)
            .map_err(|e| run_error(&self.path, &e))?;
        finite(&self.path, &output)
    }

    /// The plan for `batch` images; `None` where they go one after the other.
    fn batch_plan(&self, batch: usize) -> Option<Plan> {
        if batch < 2 || self.operators.is_empty() {
            return (batch == 1).then(|| Arc::clone(&self.plan));
        }
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let loader = Loader {
                path: &self.path,
                manifest: &self.manifest.path,
            };
            let input = image_input(&self.manifest, batch);
            let plan = loader.plan_again(&self.operators, &[input], &self.manifest.output.name)?;
            let probe = vec![0.0; batch * self.manifest.input_len()];
            let found = self.plan_run(&plan, &probe, batch).ok()?;
            (found.shape() == [batch, self.manifest.output.width]).then_some(plan)
        };
        batches.entry(batch).or_insert_with(make).clone()
    }

    /// What the tower runs on.
    #[must_use]
    pub fn info(&self) -> EngineInfo {
        let fused = self
            .plan
            .model()
            .nodes()
            .iter()
            .filter_map(|n| n.op_as::<FusedOp>());
        EngineInfo {
            gpu: self.tower.as_ref().map(|tower| tower.name().to_owned()),
            isa: self.runtime.kernels.isa,
            threads: self.runtime.pool.threads(),
            weight_bytes: fused.map(|op| op.0.weight_bytes()).sum(),
        }
    }

    /// Kind, calls and time of the operators that one run takes.
    pub fn profile(
        &self,
        input: &[f32],
        batch: usize,
    ) -> Result<Vec<(String, usize, Duration)>, ModelError> {
        if let Some(profiled) = self.tower.as_ref().and_then(|tower| tower.profile(batch)) {
            return profiled.map_err(|source| ModelError::Gpu {
                path: self.path.clone(),
                source,
            });
        }
        let failed = |e: TractError| run_error(&self.path, &e);
        let mut kinds: BTreeMap<String, (usize, Duration)> = BTreeMap::new();
        let plan = self.batch_plan(batch);
        let (plan, together) = plan.as_ref().map_or((&self.plan, 1), |plan| (plan, batch));
        for images in input.chunks_exact(self.manifest.input_len() * together) {
            let inputs = tvec!(self.tensor(images, together).map_err(failed)?.into());
            let mut state = plan.spawn().map_err(failed)?;
            let timed = |ctx: &EvalContext<'_>,
                         state: Option<&mut dyn OpState>,
                         node: &TypedNode,
                         inputs| {
                let start = Instant::now();
                let result = tract_onnx::tract_core::plan::eval(ctx, state, node, inputs);
                let kind = node
                    .op_as::<FusedOp>()
                    .map_or_else(|| node.op.name().to_string(), |op| op.0.kind().into());
                let (calls, time) = kinds.entry(kind).or_default();
                *calls += 1;
                *time += start.elapsed();
                result
            };
            state.run_plan_with_eval(inputs, timed).map_err(failed)?;
        }
        Ok(kinds
            .into_iter()
            .map(|(kind, (calls, time))| (kind, calls, time))
            .collect())
    }

    fn tensor(&self, input: &[f32], batch: usize) -> TractResult<Tensor> {
        Tensor::from_shape(&self.manifest.input_shape(batch), input)
    }

    fn plan_run(&self, plan: &Plan, input: &[f32], batch: usize) -> TractResult<Tensor> {
        let outputs = plan.run(tvec!(self.tensor(input, batch)?.into()))?;
        Ok(outputs[0].clone().into_tensor())
    }
}

/// What `constancy gpu-worker` does: runs a tower on the GPU for the process that started it.
#[cfg(feature = "gpu")]
pub fn serve_gpu() -> std::io::Result<()> {
    gpu::worker::serve()
}

fn image_input(manifest: &Manifest, batch: usize) -> TowerInput<'_> {
    TowerInput {
        name: &manifest.input.name,
        fact: f32::fact(manifest.input_shape(batch)).into(),
        key: "input.name",
    }
}

fn run_error(path: &Path, error: &TractError) -> ModelError {
    ModelError::Run {
        path: path.into(),
        reason: chain(error),
    }
}

fn finite(path: &Path, output: &Tensor) -> Result<Vec<f32>, ModelError> {
    let output = output.cast_to::<f32>().map_err(|e| run_error(path, &e))?;
    let values = output
        .try_as_plain_ram()
        .and_then(|plain| Ok(plain.as_slice::<f32>()?.to_vec()));
    let values = values.map_err(|e| run_error(path, &e))?;
    if values.iter().all(|v| v.is_finite()) {
        Ok(values)
    } else {
        Err(ModelError::NotFinite { path: path.into() })
    }
}

/// An error and what caused it, in one line.
fn chain(error: &TractError) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ").replace('\n', " ")
}

fn checked_sha256(
    path: &Path,
    manifest: &Manifest,
    expected: Option<&str>,
) -> Result<String, ModelError> {
    let found = sha256_of(path).map_err(|source| ModelError::Read {
        path: path.into(),
        source,
    })?;
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
    Ok(hasher
        .finalize()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
}
