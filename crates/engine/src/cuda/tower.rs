//! [`DeviceTower`]: the tower that the worker runs.

use super::ops::Shared;
use super::plan::DevicePlan;
use super::transform::transform;
use super::wire::{Wired, upload, wire};
use crate::error::ModelError;
use crate::gpu::MAX_BATCH;
use crate::input::ImageFormat;
use crate::load::{Loader, TowerInput};
use crate::manifest::Manifest;
use crate::onnx::OnnxFile;
use crate::ops::FusedNode;
use crate::output::finite_values;
use crate::rewrite::{fuse_blocks, to_tract};
use crate::spec::{Spec, Specs};
use std::collections::BTreeMap;
use std::sync::Arc;
use tract_onnx::prelude::*;

/// Batches are padded to one of these sizes, which limits the number of plans.
const BATCH_SIZES: [usize; 7] = [1, 2, 4, 8, 16, 32, MAX_BATCH];

/// A tower on the GPU. Only the thread that created it may use it: tract has one stream for each
/// thread.
pub(crate) struct DeviceTower {
    manifest: Manifest,
    file: OnnxFile,
    dt: DatumType,
    /// `None` if the tower runs on tract's operators alone.
    shared: Option<Arc<Shared>>,
    wired: Wired,
    plans: BTreeMap<usize, DevicePlan>,
}

impl DeviceTower {
    /// Loads the tower, in fp16 or in f32, and makes the plan for one image. With `plain`, it runs
    /// on tract's operators alone.
    pub(crate) fn load(
        manifest: Manifest,
        half_precision: bool,
        plain: bool,
    ) -> Result<Self, ModelError> {
        let dt = if half_precision {
            DatumType::F16
        } else {
            DatumType::F32
        };
        let path = manifest.encoder_file();
        let failed = |e: TractError| ModelError::run(&path, &e);
        let file = OnnxFile::open(&path).map_err(|reason| ModelError::Parse {
            path: path.clone(),
            reason,
        })?;
        let (wired, shared) = if plain {
            (Wired::new(), None)
        } else {
            let loader = Loader {
                file: &file,
                path: &path,
                manifest: &manifest.path,
            };
            let specs = specs(&loader, &manifest)?;
            let shared = Arc::new(Shared::new(head_depth(&specs)).map_err(failed)?);
            (upload(&specs, dt, &shared).map_err(failed)?, Some(shared))
        };
        let mut tower = Self {
            manifest,
            file,
            dt,
            shared,
            wired,
            plans: BTreeMap::new(),
        };
        tower.plan(1)?;
        Ok(tower)
    }

    /// The embeddings `[batch, width]` of images `[batch, 3, size, size]`, given as bytes of the
    /// tower's number format; `images` has room for [`MAX_BATCH`].
    pub(crate) fn embed(
        &mut self,
        images: &mut [u8],
        batch: usize,
    ) -> Result<Vec<f32>, ModelError> {
        let path = self.manifest.encoder_file();
        let (room, images) = self.padded(images, batch);
        let output = self
            .plan(room)?
            .run(images)
            .map_err(|e| ModelError::run(&path, &e))?;
        let mut values = finite_values(&path, &output)?;
        values.truncate(batch * self.manifest.output.width);
        Ok(values)
    }

    /// Kind, number of calls and total nanoseconds of the operators; each is waited for before the
    /// next.
    pub(crate) fn profile(
        &mut self,
        images: &mut [u8],
        batch: usize,
    ) -> Result<Vec<(String, usize, u64)>, ModelError> {
        let path = self.manifest.encoder_file();
        let (room, images) = self.padded(images, batch);
        self.plan(room)?
            .profile(images)
            .map_err(|e| ModelError::run(&path, &e))
    }

    /// The batch padded with zeros to a size that has a plan, and that size.
    fn padded<'a>(&self, images: &'a mut [u8], batch: usize) -> (usize, &'a [u8]) {
        let one = self.manifest.input_len() * self.dt.size_of();
        let room = BATCH_SIZES
            .into_iter()
            .find(|&b| b >= batch)
            .unwrap_or(MAX_BATCH);
        images[batch * one..room * one].fill(0);
        (room, &images[..room * one])
    }

    fn plan(&mut self, batch: usize) -> Result<&mut DevicePlan, ModelError> {
        if !self.plans.contains_key(&batch) {
            let plan = self.new_plan(batch)?;
            self.plans.insert(batch, plan);
        }
        let path = self.manifest.encoder_file();
        self.plans.get_mut(&batch).ok_or_else(|| ModelError::Run {
            path,
            reason: "no plan".into(),
        })
    }

    fn new_plan(&self, batch: usize) -> Result<DevicePlan, ModelError> {
        let path = self.manifest.encoder_file();
        let failed = |e: TractError| ModelError::run(&path, &e);
        let loader = Loader {
            file: &self.file,
            path: &path,
            manifest: &self.manifest.path,
        };
        let input = TowerInput::image(&self.manifest, ImageFormat::F32, batch);
        let output = &self.manifest.output.name;
        let model = self.typed(&loader, &input, output)?;
        let graph = transform(model, self.dt, self.shared.clone()).map_err(failed)?;
        DevicePlan::new(graph, self.manifest.input_shape(batch), self.dt).map_err(failed)
    }

    /// The graph with our operators in it, or as in the file if it has no known blocks.
    fn typed(
        &self,
        loader: &Loader<'_>,
        input: &TowerInput<'_>,
        output: &str,
    ) -> Result<TypedModel, ModelError> {
        let mut graph = loader.graph(output)?;
        let specs =
            fuse_blocks(&mut graph, &[(input.name, input.fact.clone())]).unwrap_or_default();
        let known = !specs.is_empty() && specs.keys().all(|name| self.wired.contains_key(name));
        let (graph, specs) = if known {
            (graph, specs)
        } else {
            (loader.graph(output)?, Specs::new())
        };
        let node = |name: &str| {
            let steps = self.wired.get(name)?.clone();
            Some(FusedNode::wired(
                specs.get(name)?,
                Arc::new(move |prefix, model, inputs| wire(&steps, prefix, model, inputs)),
            ))
        };
        let model = to_tract(&graph, &node).map_err(|e| ModelError::run(loader.path, &e))?;
        loader.typed(
            model,
            std::slice::from_ref(input),
            output,
            "output.name",
            "vision",
        )
    }
}

/// Pins `memory`, so that the GPU copies from and to it directly. If the system refuses, copies are
/// slower.
pub(crate) fn pin(memory: &mut [u8]) {
    // SAFETY: the memory is mapped until the process ends.
    let pinned = unsafe {
        cudarc::driver::sys::cuMemHostRegister_v2(memory.as_mut_ptr().cast(), memory.len(), 0)
    };
    if let Err(e) = pinned.result() {
        log::debug!("images cannot be pinned, so the driver copies them twice: {e:?}");
    }
}

fn specs(loader: &Loader<'_>, manifest: &Manifest) -> Result<Specs, ModelError> {
    let input = TowerInput::image(manifest, ImageFormat::F32, 1);
    let mut graph = loader.graph(&manifest.output.name)?;
    Ok(fuse_blocks(&mut graph, &[(input.name, input.fact)]).unwrap_or_default())
}

/// The depth of the tower's attention heads, for which the kernel is compiled.
fn head_depth(specs: &Specs) -> Option<usize> {
    specs.values().find_map(|spec| {
        if let Spec::Attention(spec) = spec {
            Some(spec.depth)
        } else {
            None
        }
    })
}
