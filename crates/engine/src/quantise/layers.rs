//! The layers of a tower that can be quantised: its products with constant matrices, grouped by the
//! value that they read, and its convolutions over all channels.

use crate::onnx::{
    ElementType, Graph, Index, OnnxFile, attribute_float, attribute_int, nth_input, pb,
};
use crate::ops::SHALLOW;
use crate::rewrite::{norm_specs, steps};
use crate::spec::NormSpec;
use std::collections::{HashMap, HashSet};

/// The first version of ONNX's operators in which `DequantizeLinear` takes a scale per column.
const MIN_CONVOLUTION_OPSET: i64 = 13;

/// The windows of a convolution, which are the rows of its product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    pub(super) channels: usize,
    /// Lines and columns.
    pub(super) size: (usize, usize),
    pub(super) stride: usize,
    /// Lines above and columns left of the image in the first window.
    pub(super) pad: (usize, usize),
}

/// A product with a constant matrix.
pub(super) struct Layer {
    /// Name of its output, which identifies its node.
    pub(super) output: String,
    /// Name of its node in the file.
    pub(super) name: String,
    weight: String,
    transposed: bool,
    pub(super) depth: usize,
    pub(super) columns: usize,
    /// Of a convolution, whose weights are `[columns, channels, lines, columns of the window]` in the file.
    pub(super) windows: Option<Windows>,
}

/// Products that read the same value, and so share its quantisation and the normalisation before
/// it.
pub(super) struct Group {
    pub(super) input: String,
    pub(super) layers: Vec<Layer>,
    /// The normalisation that makes the value, if nothing else reads it.
    pub(super) norm: Option<NormSpec>,
}

impl Group {
    /// The convolution that this group consists of, and its windows.
    pub(super) fn convolution(&self) -> Option<(&Layer, Windows)> {
        let layer = self.layers.first()?;
        Some((layer, layer.windows?))
    }

    /// What tells this group from all others: a convolution shares its windows with no other layer.
    pub(super) fn key(&self) -> &str {
        self.convolution()
            .map_or(&self.input, |(layer, _)| &layer.output)
    }
}

/// The graph of a tower and the layers in it that can be quantised.
pub(super) struct Layers {
    graph: Graph,
    index: Index,
    pub(super) groups: Vec<Group>,
}

impl Layers {
    /// Finds the layers that `output` needs; no others can be measured. Readers of a value are
    /// looked for in the whole graph.
    pub(super) fn find(path: &std::path::Path, output: &str) -> Result<Self, String> {
        let file = OnnxFile::open(path)?;
        let names = node_names(&file.model);
        let captured = captured(&file.model);
        let mut kept = Graph::new(OnnxFile::open(path)?);
        kept.keep_only(output);
        let needed = kept.index();
        let graph = Graph::new(file);
        let index = graph.index();
        let mut found = Self {
            graph,
            index,
            groups: Vec::new(),
        };
        for node in &found.graph.nodes {
            let wanted = needed.producer(&node.name).is_some();
            let Some(mut layer) = found.layer(node).filter(|_| wanted) else {
                continue;
            };
            if let Some(name) = names.get(&layer.output) {
                layer.name.clone_from(name);
            }
            let input = nth_input(node, 0);
            let same = |g: &Group| g.input == *input && g.convolution().is_none();
            let group = found.groups.iter_mut().find(|g| same(g));
            match group.filter(|_| layer.windows.is_none()) {
                Some(group) => group.layers.push(layer),
                None => found.groups.push(Group {
                    input: input.to_owned(),
                    layers: vec![layer],
                    norm: None,
                }),
            }
        }
        let norms: HashMap<String, NormSpec> = norm_specs(&found.graph)
            .into_iter()
            .map(|n| (n.name.clone(), n))
            .collect();
        for i in 0..found.groups.len() {
            let group = &found.groups[i];
            let alone = group.convolution().is_none()
                && !captured.contains(&group.input)
                && found.feeds_only(group);
            found.groups[i].norm = norms.get(&group.input).filter(|_| alone).cloned();
        }
        Ok(found)
    }

    /// The layer that `node` is, if it is one.
    fn layer(&self, node: &pb::NodeProto) -> Option<Layer> {
        let mut transposed = false;
        match node.op_type.as_str() {
            "MatMul" => {}
            "Conv" => return self.convolution(node),
            "Gemm" => {
                let plain = |name| {
                    attribute_float(node, name).is_none_or(|v| (v - 1.0).abs() < f32::EPSILON)
                };
                if attribute_int(node, "transA").unwrap_or(0) != 0
                    || !plain("alpha")
                    || !plain("beta")
                {
                    return None;
                }
                transposed = attribute_int(node, "transB").unwrap_or(0) != 0;
            }
            _ => return None,
        }
        if !node.domain.is_empty()
            || self
                .graph
                .constant(&self.index, node.input.first()?)
                .is_some()
        {
            return None;
        }
        let weight = node.input.get(1)?;
        let constant = self.graph.constant(&self.index, weight)?;
        let &[rows, columns] = constant.shape.as_slice() else {
            return None;
        };
        let float = matches!(constant.element, ElementType::F32 | ElementType::F16);
        let (depth, columns) = if transposed {
            (columns, rows)
        } else {
            (rows, columns)
        };
        (float && depth > 0 && columns > 0).then(|| Layer {
            output: node.name.clone(),
            name: node.name.clone(),
            weight: weight.clone(),
            transposed,
            depth,
            columns,
            windows: None,
        })
    }

    /// The layer that a convolution is: over all channels of an image that has more than a few.
    fn convolution(&self, node: &pb::NodeProto) -> Option<Layer> {
        let weight = nth_input(node, 1);
        let constant = self.graph.constant(&self.index, weight)?;
        let &[columns, channels, lines, across] = constant.shape.as_slice() else {
            return None;
        };
        let (stride, pad) = steps(node)?;
        let depth = lines * across * channels;
        let fits = node.domain.is_empty()
            && self.graph.opset() >= MIN_CONVOLUTION_OPSET
            && attribute_int(node, "group").unwrap_or(1) == 1
            && matches!(constant.element, ElementType::F32 | ElementType::F16)
            && channels >= SHALLOW
            && columns > 0
            && depth > 0;
        fits.then(|| Layer {
            output: node.name.clone(),
            name: node.name.clone(),
            weight: weight.to_owned(),
            transposed: true,
            depth,
            columns,
            windows: Some(Windows {
                channels,
                size: (lines, across),
                stride,
                pad,
            }),
        })
    }

    /// Whether every reader of a group's input is one of its layers, which reads it once, or needs
    /// only its shape.
    fn feeds_only(&self, group: &Group) -> bool {
        let once = |&i: &usize| {
            let node = &self.graph.nodes[i];
            let layer = group.layers.iter().any(|l| l.output == node.name);
            node.op_type == "Shape"
                || layer && node.input.iter().filter(|n| **n == group.input).count() == 1
        };
        !self.index.is_output(&group.input) && self.index.consumers(&group.input).iter().all(once)
    }

    /// The weights of a layer, `[depth, columns]`.
    pub(super) fn weights(&self, layer: &Layer) -> Vec<f32> {
        let Some(constant) = self.graph.constant(&self.index, &layer.weight) else {
            return Vec::new();
        };
        let mut values = constant.floats();
        constant.data.release();
        if let Some(windows) = layer.windows {
            values = channels_last(&values, windows);
        }
        if !layer.transposed {
            return values;
        }
        let mut transposed = vec![0.0; values.len()];
        for (c, row) in values.chunks_exact(layer.depth).enumerate() {
            for (d, &value) in row.iter().enumerate() {
                transposed[d * layer.columns + c] = value;
            }
        }
        transposed
    }
}

/// Filters `[columns, channels, pixels]` as `[columns, pixels, channels]`.
fn channels_last(filters: &[f32], windows: Windows) -> Vec<f32> {
    let (channels, pixels) = (windows.channels, windows.size.0 * windows.size.1);
    let filters = filters.chunks_exact(channels * pixels);
    filters
        .flat_map(|filter| {
            (0..pixels).flat_map(move |p| (0..channels).map(move |c| filter[c * pixels + p]))
        })
        .collect()
}

/// The names of nodes, by their first outputs.
fn node_names(model: &pb::ModelProto) -> HashMap<String, String> {
    let nodes = model.graph.iter().flat_map(|g| &g.node);
    let named = nodes.filter(|n| !n.name.is_empty());
    named
        .filter_map(|n| Some((n.output.first()?.clone(), n.name.clone())))
        .collect()
}

/// The values of the graph that the bodies of branches and loops may read.
pub(super) fn captured(model: &pb::ModelProto) -> HashSet<String> {
    fn visit(graph: &pb::GraphProto, found: &mut HashSet<String>) {
        for node in &graph.node {
            found.extend(node.input.iter().cloned());
            subgraphs(node).for_each(|g| visit(g, found));
        }
        found.extend(graph.output.iter().map(|o| o.name.clone()));
    }
    let mut found = HashSet::new();
    for node in model.graph.iter().flat_map(|g| &g.node) {
        subgraphs(node).for_each(|g| visit(g, &mut found));
    }
    found
}

fn subgraphs(node: &pb::NodeProto) -> impl Iterator<Item = &pb::GraphProto> {
    node.attribute
        .iter()
        .flat_map(|a| a.g.iter().chain(&a.graphs))
}
