//! Records the inputs of a tower's layers: a sample of the rows that each reads, over a few images.

use super::layers::Group;
use crate::error::ModelError;
use crate::input::ImageFormat;
use crate::load::{Loader, Plan};
use crate::manifest::Manifest;
use crate::onnx::{Graph, OnnxFile};
use crate::ops::{FusedNode, pack};
use crate::precision::Precision;
use crate::rewrite::{fuse_products, to_tract};
use crate::runtime::Runtime;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tract_onnx::prelude::*;

/// Number of recorded rows for each input, over all images.
const ROWS: usize = 480;

/// The recorded input of a group of layers.
#[derive(Default)]
pub(super) struct Activations {
    /// A sample, `[rows, depth]`.
    pub(super) rows: Vec<f32>,
    /// The largest magnitude of each channel, `[depth]`, over all rows and not only the sample.
    pub(super) max_inputs: Vec<f32>,
}

impl Activations {
    /// Adds the rows of one image: `count` of them, evenly spread, to the sample. `shift` selects
    /// different rows for each image.
    fn add(&mut self, values: &[f32], depth: usize, count: usize, shift: usize) {
        self.max_inputs.resize(depth, 0.0);
        for row in values.chunks_exact(depth) {
            for (max, value) in self.max_inputs.iter_mut().zip(row) {
                *max = max.max(value.abs());
            }
        }
        let rows = values.len() / depth;
        let count = count.min(rows);
        for i in 0..count {
            let row = (i * rows / count + shift) % rows;
            self.rows
                .extend_from_slice(&values[row * depth..(row + 1) * depth]);
        }
    }
}

/// Runs the tower on `images` (each `[1, 3, size, size]`) and records the input of each group, by
/// its name.
pub(super) fn record_activations(
    path: &Path,
    source: &Manifest,
    groups: &[Group],
    images: &[Vec<f32>],
    runtime: &Arc<Runtime>,
) -> Result<HashMap<String, Activations>, ModelError> {
    let failed = |e: TractError| ModelError::run(path, &e);
    let names: Vec<&str> = groups.iter().map(|g| g.input.as_str()).collect();
    let file = OnnxFile::open(path).map_err(|reason| ModelError::Parse {
        path: path.into(),
        reason,
    })?;
    let loader = Loader {
        file: &file,
        path,
        manifest: &source.path,
    };
    let declared = loader.declared_input(&source.input.name, "input.name")?;
    let format = ImageFormat::of(&declared, path, source)?;
    let plan = plan(&loader, source, format, &names, runtime)?;
    let count = ROWS.div_ceil(images.len().max(1));
    let mut found: HashMap<String, Activations> = HashMap::new();
    for (i, image) in images.iter().enumerate() {
        let input = format.tensor(source, image, 1).map_err(failed)?;
        let outputs = plan.run(tvec!(input.into())).map_err(failed)?;
        for (group, output) in groups.iter().zip(outputs) {
            let output = output
                .into_tensor()
                .cast_to::<f32>()
                .map_err(failed)?
                .into_owned();
            let plain = output.try_as_plain_ram().map_err(failed)?;
            let values = plain.as_slice::<f32>().map_err(failed)?;
            let activations = found.entry(group.input.clone()).or_default();
            activations.add(values, group.layers[0].depth, count, i);
        }
    }
    Ok(found)
}

/// The tower with the inputs of the layers as its outputs. Products and normalisations are fused,
/// since only fused operators read the weights straight from the file.
fn plan(
    loader: &Loader<'_>,
    source: &Manifest,
    format: ImageFormat,
    outputs: &[&str],
    runtime: &Arc<Runtime>,
) -> Result<Plan, ModelError> {
    let path = loader.path;
    let mut graph = Graph::new(loader.file.clone());
    graph.keep_only(&source.output.name);
    let specs = fuse_products(&mut graph);
    let operators = pack(&specs, runtime, Precision::Fp32).map_err(|e| ModelError::Run {
        path: path.into(),
        reason: e.to_string(),
    })?;
    let node = |name: &str| {
        Some(FusedNode::packed(
            specs.get(name)?,
            Arc::clone(operators.get(name)?),
        ))
    };
    let planned = || {
        let mut model = to_tract(&graph, &node)?;
        model.set_input_fact(0, format.fact(source, 1).into())?;
        let model = model.with_outputs_by_name(outputs)?;
        model.into_typed()?.into_optimized()?.into_runnable()
    };
    planned().map_err(|e| ModelError::run(path, &e))
}

#[cfg(test)]
mod tests {
    use super::Activations;

    #[test]
    fn rows_are_sampled_and_the_largest_magnitudes_are_those_of_all_rows() {
        let mut activations = Activations::default();
        let values: Vec<f32> = (0..20)
            .map(|i| if i == 13 { -99.0 } else { i as f32 })
            .collect();
        activations.add(&values, 2, 3, 0);
        assert_eq!(activations.rows, [0.0, 1.0, 6.0, 7.0, 12.0, -99.0]);
        assert_eq!(activations.max_inputs, [18.0, 99.0]);
        activations.add(&values, 2, 100, 1);
        assert_eq!(activations.rows.len(), 13 * 2);
    }
}
