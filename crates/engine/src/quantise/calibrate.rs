//! What the layers of a tower see: a sample of the rows that each reads, over a few images.

use super::super::chain;
use super::super::onnx::{Graph, OnnxFile};
use super::super::ops::{FusedNode, Precision, Runtime, pack};
use super::super::rewrite::{fuse_products, parse};
use super::super::{Manifest, ModelError, Plan};
use super::layers::Group;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tract_onnx::prelude::*;

/// Rows of each layer's input that errors are measured on, over all images.
const ROWS: usize = 480;

/// What the layers that read a value saw of it.
#[derive(Default)]
pub(super) struct Activations {
    /// `[rows, depth]`.
    pub(super) rows: Vec<f32>,
    /// Each channel's largest magnitude, over every row and not only those above.
    pub(super) most: Vec<f32>,
}

impl Activations {
    /// Takes note of `values`, and keeps `count` rows of them, evenly spread; `shift` makes these differ by image.
    fn add(&mut self, values: &[f32], depth: usize, count: usize, shift: usize) {
        self.most.resize(depth, 0.0);
        for row in values.chunks_exact(depth) {
            for (most, value) in self.most.iter_mut().zip(row) {
                *most = most.max(value.abs());
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

/// Runs the tower on `images` (each `[1, 3, size, size]`) and gives what each group's layers read, by the value.
pub(super) fn activations(
    path: &Path,
    source: &Manifest,
    groups: &[Group],
    images: &[Vec<f32>],
    runtime: &Arc<Runtime>,
) -> Result<HashMap<String, Activations>, ModelError> {
    let failed = |e: TractError| ModelError::Run {
        path: path.into(),
        reason: chain(&e),
    };
    let names: Vec<&str> = groups.iter().map(|g| g.input.as_str()).collect();
    let plan = plan(path, source, &names, runtime)?;
    let count = ROWS.div_ceil(images.len().max(1));
    let mut found: HashMap<String, Activations> = HashMap::new();
    for (i, image) in images.iter().enumerate() {
        let input = Tensor::from_shape(&source.input_shape(1), image).map_err(failed)?;
        let outputs = plan.run(tvec!(input.into())).map_err(failed)?;
        for (group, output) in groups.iter().zip(outputs) {
            let output = output
                .into_tensor()
                .cast_to::<f32>()
                .map_err(failed)?
                .into_owned();
            let plain = output.try_as_plain_ram().map_err(failed)?;
            let values = plain.as_slice::<f32>().map_err(failed)?;
            let seen = found.entry(group.input.clone()).or_default();
            seen.add(values, group.layers[0].depth, count, i);
        }
    }
    Ok(found)
}

/// The tower with the values that layers read as its outputs; products and normalisations run on our kernels, which
/// take the weights from the file.
fn plan(
    path: &Path,
    source: &Manifest,
    outputs: &[&str],
    runtime: &Arc<Runtime>,
) -> Result<Plan, ModelError> {
    let parse_error = |reason| ModelError::Parse {
        path: path.into(),
        reason,
    };
    let run_error = |e: TractError| ModelError::Run {
        path: path.into(),
        reason: chain(&e),
    };
    let mut graph = Graph::new(OnnxFile::open(path).map_err(parse_error)?);
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
        let mut model = parse(&graph, &node)?;
        model.set_input_fact(0, f32::fact(source.input_shape(1)).into())?;
        let model = model.with_outputs_by_name(outputs)?;
        model.into_typed()?.into_optimized()?.into_runnable()
    };
    planned().map_err(run_error)
}

#[cfg(test)]
mod tests {
    use super::Activations;

    #[test]
    fn rows_are_sampled_and_the_largest_are_those_of_all() {
        let mut seen = Activations::default();
        let values: Vec<f32> = (0..20)
            .map(|i| if i == 13 { -99.0 } else { i as f32 })
            .collect();
        seen.add(&values, 2, 3, 0);
        assert_eq!(seen.rows, [0.0, 1.0, 6.0, 7.0, 12.0, -99.0]);
        assert_eq!(seen.most, [18.0, 99.0]);
        seen.add(&values, 2, 100, 1);
        assert_eq!(seen.rows.len(), 13 * 2);
    }
}
