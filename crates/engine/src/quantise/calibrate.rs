//! Records the inputs of a tower's layers: a sample of the rows that each reads, over a few images.

use super::layers::{Group, Windows};
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

/// Adds windows of one image `[channels, height, width]` to a sample, as [`Activations::add`] does rows.
fn add_windows(
    rows: &mut Vec<f32>,
    values: &[f32],
    (height, width): (usize, usize),
    windows: Windows,
    (count, shift): (usize, usize),
) {
    let along = |pixels: usize, size: usize, pad: usize| {
        (pixels + 2 * pad).saturating_sub(size) / windows.stride + 1
    };
    let across = along(width, windows.size.1, windows.pad.1);
    let all = along(height, windows.size.0, windows.pad.0) * across;
    let count = count.min(all);
    for i in 0..count {
        let at = (i * all / count + shift) % all;
        let first = (at / across * windows.stride, at % across * windows.stride);
        for k in 0..windows.size.0 * windows.size.1 {
            let y = (first.0 + k / windows.size.1).checked_sub(windows.pad.0);
            let x = (first.1 + k % windows.size.1).checked_sub(windows.pad.1);
            let pixel = y.zip(x).filter(|&(y, x)| y < height && x < width);
            rows.extend((0..windows.channels).map(|c| match pixel {
                Some((y, x)) => values[(c * height + y) * width + x],
                None => 0.0,
            }));
        }
    }
}

/// Runs the tower on `images` (each `[1, 3, size, size]`) and records the input of each group, by
/// its key.
pub(super) fn record_activations(
    path: &Path,
    source: &Manifest,
    groups: &[Group],
    images: &[Vec<f32>],
    runtime: &Arc<Runtime>,
) -> Result<HashMap<String, Activations>, ModelError> {
    let failed = |e: TractError| ModelError::run(path, &e);
    let mut names: Vec<&str> = groups.iter().map(|g| g.input.as_str()).collect();
    names.sort_unstable();
    names.dedup();
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
        for (name, output) in names.iter().zip(outputs) {
            let output = output
                .into_tensor()
                .cast_to::<f32>()
                .map_err(failed)?
                .into_owned();
            let plain = output.try_as_plain_ram().map_err(failed)?;
            let values = plain.as_slice::<f32>().map_err(failed)?;
            for group in groups.iter().filter(|g| g.input == **name) {
                let activations = found.entry(group.key().to_owned()).or_default();
                match (group.convolution(), output.shape()) {
                    (Some((_, windows)), &[1, channels, height, width])
                        if channels == windows.channels =>
                    {
                        let size = (height, width);
                        add_windows(&mut activations.rows, values, size, windows, (count, i));
                    }
                    (Some(_), _) => {}
                    (None, _) => activations.add(values, group.layers[0].depth, count, i),
                }
            }
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
