//! A tower on an NVIDIA GPU, by tract-cuda and fused operators of ours.
//!
//! The graph is rewritten as for the CPU ([`super::rewrite`]); what is recognised becomes operators of [`ops`], whose
//! weights are floats again even where the file has bytes: a GPU multiplies halves faster than anything that has to be
//! quantised first. tract translates the rest.

mod blas;
mod convolve;
mod library;
mod ops;
mod plan;
mod transform;
mod wire;

use super::gpu::MOST;
use super::load::{Loader, TowerInput};
use super::manifest::Manifest;
use super::ops::FusedNode;
use super::rewrite::{Spec, Specs, fuse, parse};
use super::{ModelError, finite, image_input, run_error};
use ops::Shared;
use plan::DevicePlan;
use std::collections::BTreeMap;
use std::sync::Arc;
use tract_onnx::prelude::*;
use wire::Wired;

/// Images are filled up to one of these numbers, so that there are few plans.
const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, MOST];

/// A tower on the GPU. It is used by the thread that made it: tract's streams are a thread's own.
pub(super) struct DeviceTower {
    manifest: Manifest,
    dt: DatumType,
    /// None on tract's operators alone.
    shared: Option<Arc<Shared>>,
    wired: Wired,
    plans: BTreeMap<usize, DevicePlan>,
}

impl DeviceTower {
    /// Loads the tower, in halves or in f32, and makes the plan for one image; `plain`: on tract's operators alone.
    pub(super) fn load(manifest: Manifest, halves: bool, plain: bool) -> Result<Self, ModelError> {
        let dt = if halves {
            DatumType::F16
        } else {
            DatumType::F32
        };
        let path = manifest.encoder_file();
        let failed = |e: TractError| run_error(&path, &e);
        let (wired, shared) = if plain {
            (Wired::new(), None)
        } else {
            let loader = Loader {
                path: &path,
                manifest: &manifest.path,
            };
            let specs = specs(&loader, &manifest)?;
            let shared = Arc::new(Shared::new(depth_of_heads(&specs)).map_err(failed)?);
            (
                wire::upload(&specs, dt, &shared).map_err(failed)?,
                Some(shared),
            )
        };
        let mut tower = Self {
            manifest,
            dt,
            shared,
            wired,
            plans: BTreeMap::new(),
        };
        tower.plan(1)?;
        Ok(tower)
    }

    /// The embeddings `[batch, width]` of images `[batch, 3, size, size]`, as bytes of the tower's numbers; `images` has
    /// room for [`MOST`].
    pub(super) fn embed(
        &mut self,
        images: &mut [u8],
        batch: usize,
    ) -> Result<Vec<f32>, ModelError> {
        let path = self.manifest.encoder_file();
        let (room, images) = self.filled(images, batch);
        let output = self
            .plan(room)?
            .run(images)
            .map_err(|e| run_error(&path, &e))?;
        let mut values = finite(&path, &output)?;
        values.truncate(batch * self.manifest.output.width);
        Ok(values)
    }

    /// Kind, calls and nanoseconds of the operators, each waited for.
    pub(super) fn profile(
        &mut self,
        images: &mut [u8],
        batch: usize,
    ) -> Result<Vec<(String, usize, u64)>, ModelError> {
        let path = self.manifest.encoder_file();
        let (room, images) = self.filled(images, batch);
        self.plan(room)?
            .profile(images)
            .map_err(|e| run_error(&path, &e))
    }

    /// The number of images that there is a plan for, and as many, black ones behind those that are wanted.
    fn filled<'a>(&self, images: &'a mut [u8], batch: usize) -> (usize, &'a [u8]) {
        let one = self.manifest.input_len() * self.dt.size_of();
        let room = BATCHES.into_iter().find(|&b| b >= batch).unwrap_or(MOST);
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
        let failed = |e: TractError| run_error(&path, &e);
        let loader = Loader {
            path: &path,
            manifest: &self.manifest.path,
        };
        let input = image_input(&self.manifest, batch);
        let output = &self.manifest.output.name;
        let model = self.typed(&loader, &input, output)?;
        let graph = transform::transform(model, self.dt, self.shared.clone()).map_err(failed)?;
        DevicePlan::new(graph, self.manifest.input_shape(batch), self.dt).map_err(failed)
    }

    /// The graph with our operators in it, or as it is in the file where none is known.
    fn typed(
        &self,
        loader: &Loader<'_>,
        input: &TowerInput<'_>,
        output: &str,
    ) -> Result<TypedModel, ModelError> {
        let mut graph = loader.open(output)?;
        let specs = fuse(&mut graph, &[(input.name, input.fact.clone())]).unwrap_or_default();
        let known = !specs.is_empty() && specs.keys().all(|name| self.wired.contains_key(name));
        let (graph, specs) = if known {
            (graph, specs)
        } else {
            (loader.open(output)?, Specs::new())
        };
        let node = |name: &str| {
            let steps = self.wired.get(name)?.clone();
            Some(FusedNode::wired(
                specs.get(name)?,
                Arc::new(move |prefix, model, inputs| wire::wire(&steps, prefix, model, inputs)),
            ))
        };
        let model = parse(&graph, &node).map_err(|e| run_error(loader.path, &e))?;
        loader.typed(
            model,
            std::slice::from_ref(input),
            output,
            "output.name",
            "vision",
        )
    }
}

/// Lets the GPU read and write `memory` itself, which is then to stay where it is; where the system does not, copies
/// are slower.
pub(super) fn pin(memory: &mut [u8]) {
    // SAFETY: the memory is mapped until the process ends.
    let pinned = unsafe {
        cudarc::driver::sys::cuMemHostRegister_v2(memory.as_mut_ptr().cast(), memory.len(), 0)
    };
    if let Err(e) = pinned.result() {
        log::debug!("images are copied to the GPU by way of the driver's memory: {e:?}");
    }
}

fn specs(loader: &Loader<'_>, manifest: &Manifest) -> Result<Specs, ModelError> {
    let input = image_input(manifest, 1);
    let mut graph = loader.open(&manifest.output.name)?;
    Ok(fuse(&mut graph, &[(input.name, input.fact)]).unwrap_or_default())
}

/// The depth of the tower's attention heads, which the kernel is compiled for.
fn depth_of_heads(specs: &Specs) -> Option<usize> {
    specs.values().find_map(|spec| {
        if let Spec::Attention(spec) = spec {
            Some(spec.depth)
        } else {
            None
        }
    })
}
