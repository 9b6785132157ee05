//! The image tower: preprocessed images to embeddings, on the GPU or on the CPU.

#[cfg(test)]
mod tests;

use crate::digest::HashedModel;
use crate::error::{ModelError, error_chain};
use crate::gpu::{self, GpuError, GpuTower, TowerSetup, WorkerConfig};
use crate::guard::catch_panic;
use crate::input::ImageFormat;
use crate::load::{LoadedTower, Loader, Plan, TowerInput, explained};
use crate::manifest::Manifest;
use crate::onnx::OnnxFile;
use crate::ops::{FusedOp, Operators};
use crate::options::EngineOptions;
use crate::output::finite_values;
use crate::precision::Precision;
use crate::runtime::Runtime;
use constancy_kernels::Isa;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{EvalContext, OpState, TypedNode};

/// Seed of the noise image that compares a GPU with the CPU.
const GPU_CHECK_SEED: u64 = 8;

/// What a tower runs on.
#[derive(Debug, Clone)]
pub struct EngineInfo {
    /// Name and number format of the GPU, if the tower runs on one.
    pub gpu: Option<String>,
    pub isa: Isa,
    pub threads: usize,
    /// Memory that the weights of the fused operators take; 0 where nothing is fused.
    pub weight_bytes: usize,
}

/// The image tower: `[1, 3, size, size]` to `[width]`.
pub struct Encoder {
    plan: Plan,
    format: ImageFormat,
    operators: Operators,
    /// Plans for several images at once, made on first use; `None` where the file cannot take them.
    batch_plans: Mutex<BTreeMap<usize, Option<Plan>>>,
    gpu: Option<GpuTower>,
    runtime: Arc<Runtime>,
    manifest: Manifest,
    /// More plans are made from the same bytes as the first, even if the file has been replaced.
    file: OnnxFile,
    path: PathBuf,
    sha256: String,
}

impl Encoder {
    /// Loads the tower that the manifest at `path` describes and checks it with one run.
    pub fn load(path: &Path, options: &EngineOptions) -> Result<Self, ModelError> {
        Self::open(Manifest::read(path)?, options)
    }

    /// Like [`Encoder::load`], with a manifest that is already read.
    pub fn open(manifest: Manifest, options: &EngineOptions) -> Result<Self, ModelError> {
        let path = manifest.encoder_file();
        let output = manifest.output.name.clone();
        let opened = catch_panic(|| Self::open_on_cpu(path.clone(), manifest, options));
        let mut encoder = opened
            .unwrap_or_else(|reason| {
                Err(ModelError::Panicked {
                    path: path.clone(),
                    reason,
                })
            })
            .map_err(|e| explained(e, &path, &output))?;
        encoder.gpu = encoder.start_on_gpu(options)?;
        Ok(encoder)
    }

    fn open_on_cpu(
        path: PathBuf,
        manifest: Manifest,
        options: &EngineOptions,
    ) -> Result<Self, ModelError> {
        let HashedModel { file, sha256 } =
            HashedModel::open(&path, &manifest, manifest.encoder.sha256.as_deref())?;
        let runtime = Arc::new(options.runtime()?);
        let loader = Loader {
            file: &file,
            path: &path,
            manifest: &manifest.path,
        };
        let declared = loader.declared_input(&manifest.input.name, "input.name")?;
        let format = ImageFormat::of(&declared, &path, &manifest)?;
        let LoadedTower { plan, operators } = loader.load(
            &[TowerInput::image(&manifest, format, 1)],
            &manifest.output.name,
            "output.name",
            "vision",
            options.fusion(&runtime),
        )?;
        let encoder = Self {
            plan,
            format,
            operators,
            batch_plans: Mutex::default(),
            gpu: None,
            runtime,
            file,
            path,
            sha256,
            manifest,
        };
        encoder.check_shapes()?;
        Ok(encoder)
    }

    /// Runs the tower on zeros: some shapes conflict only while the graph runs.
    fn check_shapes(&self) -> Result<(), ModelError> {
        let zeros = vec![0.0; self.manifest.input_len()];
        let found = self
            .run_plan(&self.plan, &zeros, 1)
            .map_err(|e| ModelError::InputSize {
                key: "input.size",
                path: self.path.clone(),
                manifest: self.manifest.path.clone(),
                name: self.manifest.input.name.clone(),
                shape: format!("{:?}", self.manifest.input_shape(1)),
                reason: error_chain(&e),
            })?;
        let width = self.manifest.output.width;
        if found.len() != width || found.shape().first() != Some(&1) {
            return Err(ModelError::OutputShape {
                path: self.path.clone(),
                manifest: self.manifest.path.clone(),
                name: self.manifest.output.name.clone(),
                found: format!("{:?}", found.shape()),
                width,
            });
        }
        Ok(())
    }

    /// The same tower on a GPU, checked against the CPU on a noise image; `None` where it is to run
    /// on the CPU.
    fn start_on_gpu(&self, options: &EngineOptions) -> Result<Option<GpuTower>, ModelError> {
        let failed = |source| ModelError::Gpu {
            path: self.path.clone(),
            source,
        };
        let Some(device) = gpu::find_device(options.device).map_err(failed)? else {
            return Ok(None);
        };
        if let Some(unusual) = self.format.unusual() {
            let reason = format!("{unusual}, which the CPU's tower alone takes");
            return gpu::fall_back_if_auto(options.device, Err(GpuError::Failed { reason }))
                .map_err(failed);
        }
        let test_image = self.manifest.noise(1, GPU_CHECK_SEED);
        let expected = self.embed(&test_image)?;
        let setup = TowerSetup {
            config: WorkerConfig {
                manifest: self.manifest.path.clone(),
                half_precision: options.precision != Precision::Fp32,
                plain: options.plain,
            },
            runtime: Arc::clone(&self.runtime),
            test_image,
            expected,
        };
        gpu::start_tower(options.device, &device, setup).map_err(failed)
    }

    /// How often the CPU has embedded in place of the GPU that [`Encoder::info`] names: because the
    /// GPU was lost, or because an embedding overflowed its number format. 0 without a GPU.
    #[must_use]
    pub fn cpu_fallbacks(&self) -> usize {
        self.gpu.as_ref().map_or(0, GpuTower::cpu_fallbacks)
    }

    /// An error with the reason if the CPU has ever embedded in place of the GPU: what was measured
    /// is then not the GPU's.
    pub fn ensure_no_fallback(&self) -> Result<(), ModelError> {
        let fallback = self.gpu.as_ref().and_then(GpuTower::last_fallback);
        fallback.map_or(Ok(()), |(_, source)| {
            Err(ModelError::Gpu {
                path: self.path.clone(),
                source,
            })
        })
    }

    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the ONNX file and its external data, lower-case hex; projections and class banks
    /// name their encoder by it.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Size of the ONNX file and its external data.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// The embedding `[width]` of one input `[1, 3, size, size]`, as the tower computes it: not
    /// normalised.
    pub fn embed(&self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        if let Some(embedding) = self.embed_on_gpu(input, 1) {
            return self.complete(embedding, 1);
        }
        self.embed_with(&self.plan, input, 1)
    }

    /// The embeddings `[batch, width]` of inputs `[batch, 3, size, size]`, the same as one at a
    /// time; the weights are read once for the whole batch.
    pub fn embed_batch(&self, input: &[f32], batch: usize) -> Result<Vec<f32>, ModelError> {
        if let Some(embeddings) = self.embed_on_gpu(input, batch) {
            return self.complete(embeddings, batch);
        }
        if let Some(plan) = self.batch_plan(batch) {
            return self.embed_with(&plan, input, batch);
        }
        let image_len = input.len() / batch.max(1);
        let rows = input
            .chunks_exact(image_len.max(1))
            .map(|image| self.embed(image))
            .collect::<Result<Vec<_>, _>>()?;
        self.complete(rows.concat(), batch)
    }

    /// `values`, if they are one embedding for each of `batch` images: with any other number, nobody
    /// knows whose they are.
    fn complete(&self, values: Vec<f32>, batch: usize) -> Result<Vec<f32>, ModelError> {
        let width = self.manifest.output.width;
        if values.len() == batch * width {
            let is_zero = |image: &[f32]| image.iter().all(|v| *v == 0.0);
            if values.chunks_exact(width.max(1)).any(is_zero) {
                return Err(ModelError::Zero {
                    path: self.path.clone(),
                });
            }
            return Ok(values);
        }
        Err(ModelError::Run {
            path: self.path.clone(),
            reason: format!(
                "the encoder returned {} values for {batch} images, not {width} each",
                values.len()
            ),
        })
    }

    /// `None` where there is no GPU, or where it has failed and the CPU takes over.
    fn embed_on_gpu(&self, input: &[f32], batch: usize) -> Option<Vec<f32>> {
        self.gpu.as_ref()?.embed(input, batch, &self.runtime.pool)
    }

    fn embed_with(&self, plan: &Plan, input: &[f32], batch: usize) -> Result<Vec<f32>, ModelError> {
        // Some operators panic on values that only some images give them.
        let output = catch_panic(|| self.run_plan(plan, input, batch))
            .map_err(|reason| ModelError::Panicked {
                path: self.path.clone(),
                reason,
            })?
            .map_err(|e| ModelError::run(&self.path, &e))?;
        self.complete(finite_values(&self.path, &output)?, batch)
    }

    /// The plan for `batch` images; `None` where the images are embedded one at a time.
    fn batch_plan(&self, batch: usize) -> Option<Plan> {
        if batch < 2 || self.operators.is_empty() {
            return (batch == 1).then(|| Arc::clone(&self.plan));
        }
        let mut plans = self
            .batch_plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        plans
            .entry(batch)
            .or_insert_with(|| catch_panic(|| self.new_batch_plan(batch)).ok().flatten())
            .clone()
    }

    fn new_batch_plan(&self, batch: usize) -> Option<Plan> {
        let loader = Loader {
            file: &self.file,
            path: &self.path,
            manifest: &self.manifest.path,
        };
        let input = TowerInput::image(&self.manifest, self.format, batch);
        let plan = loader.plan_for_batch(&self.operators, &[input], &self.manifest.output.name)?;
        let zeros = vec![0.0; batch * self.manifest.input_len()];
        let found = self.run_plan(&plan, &zeros, batch).ok()?;
        (found.shape() == [batch, self.manifest.output.width]).then_some(plan)
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
            gpu: self.gpu.as_ref().map(|tower| tower.name().to_owned()),
            isa: self.runtime.kernels.isa,
            threads: self.runtime.pool.threads(),
            weight_bytes: fused.map(|op| op.0.weight_bytes()).sum(),
        }
    }

    /// Kind, number of calls and total time of the operators in a run on `input`, which holds a
    /// multiple of `batch` images.
    pub fn profile(
        &self,
        input: &[f32],
        batch: usize,
    ) -> Result<Vec<(String, usize, Duration)>, ModelError> {
        if let Some(profiled) = self.gpu.as_ref().and_then(|tower| tower.profile(batch)) {
            return profiled.map_err(|source| ModelError::Gpu {
                path: self.path.clone(),
                source,
            });
        }
        let failed = |e: TractError| ModelError::run(&self.path, &e);
        let mut kinds: BTreeMap<String, (usize, Duration)> = BTreeMap::new();
        let plan = self.batch_plan(batch);
        let (plan, images_per_run) = plan.as_ref().map_or((&self.plan, 1), |plan| (plan, batch));
        for images in input.chunks_exact(self.manifest.input_len() * images_per_run) {
            let inputs = tvec!(self.tensor(images, images_per_run).map_err(failed)?.into());
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
        self.format.tensor(&self.manifest, input, batch)
    }

    fn run_plan(&self, plan: &Plan, input: &[f32], batch: usize) -> TractResult<Tensor> {
        let outputs = plan.run(tvec!(self.tensor(input, batch)?.into()))?;
        Ok(outputs[0].clone().into_tensor())
    }
}
