//! What of a tower can be quantised: its products with constant matrices, grouped by the value that they read.

use super::super::onnx::{Element, Graph, Index, OnnxFile, attribute_float, attribute_int, pb};
use super::super::rewrite::{NormSpec, norm_specs};
use std::collections::{HashMap, HashSet};

/// A product with a constant matrix.
pub(super) struct Layer {
    /// The value that it makes, by which its node is found.
    pub(super) output: String,
    /// What the file calls its node.
    pub(super) name: String,
    weight: String,
    transposed: bool,
    pub(super) depth: usize,
    pub(super) columns: usize,
}

/// Products that read the same value: they share its quantisation, and the normalisation before it.
pub(super) struct Group {
    pub(super) input: String,
    pub(super) layers: Vec<Layer>,
    /// The normalisation that makes the value, where nothing else reads it.
    pub(super) norm: Option<NormSpec>,
}

/// A tower's graph and what of it can be quantised.
pub(super) struct Layers {
    graph: Graph,
    index: Index,
    pub(super) groups: Vec<Group>,
}

impl Layers {
    /// Looks through the whole graph, but takes only what `output` needs: nothing else can be measured.
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
            let input = &node.input[0];
            match found.groups.iter_mut().find(|g| g.input == *input) {
                Some(group) => group.layers.push(layer),
                None => found.groups.push(Group {
                    input: input.clone(),
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
            let alone = !captured.contains(&group.input) && found.feeds_only(group);
            found.groups[i].norm = norms.get(&group.input).filter(|_| alone).cloned();
        }
        Ok(found)
    }

    fn layer(&self, node: &pb::NodeProto) -> Option<Layer> {
        let mut transposed = false;
        match node.op_type.as_str() {
            "MatMul" => {}
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
        let float = matches!(constant.element, Element::F32 | Element::F16);
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
        })
    }

    /// Whether every reader of a group's value is one of its layers, which reads it once, or wants its shape alone.
    fn feeds_only(&self, group: &Group) -> bool {
        let once = |&i: &usize| {
            let node = &self.graph.nodes[i];
            let layer = group.layers.iter().any(|l| l.output == node.name);
            node.op_type == "Shape"
                || layer && node.input.iter().filter(|n| **n == group.input).count() == 1
        };
        !self.index.is_output(&group.input) && self.index.consumers(&group.input).iter().all(once)
    }

    /// A layer's weights, `[depth, columns]`.
    pub(super) fn weights(&self, layer: &Layer) -> Vec<f32> {
        let Some(constant) = self.graph.constant(&self.index, &layer.weight) else {
            return Vec::new();
        };
        let values = constant.floats();
        constant.data.forget();
        if !layer.transposed {
            return values;
        }
        let mut turned = vec![0.0; values.len()];
        for (c, row) in values.chunks_exact(layer.depth).enumerate() {
            for (d, &value) in row.iter().enumerate() {
                turned[d * layer.columns + c] = value;
            }
        }
        turned
    }
}

/// What a value's node is called, by the value.
fn node_names(model: &pb::ModelProto) -> HashMap<String, String> {
    let nodes = model.graph.iter().flat_map(|g| &g.node);
    let named = nodes.filter(|n| !n.name.is_empty());
    named
        .filter_map(|n| Some((n.output.first()?.clone(), n.name.clone())))
        .collect()
}

/// The values that branches and loops read from outside.
pub(super) fn captured(model: &pb::ModelProto) -> HashSet<String> {
    fn visit(graph: &pb::GraphProto, found: &mut HashSet<String>) {
        for node in &graph.node {
            found.extend(node.input.iter().cloned());
            inner(node).for_each(|g| visit(g, found));
        }
        found.extend(graph.output.iter().map(|o| o.name.clone()));
    }
    let mut found = HashSet::new();
    for node in model.graph.iter().flat_map(|g| &g.node) {
        inner(node).for_each(|g| visit(g, &mut found));
    }
    found
}

fn inner(node: &pb::NodeProto) -> impl Iterator<Item = &pb::GraphProto> {
    node.attribute
        .iter()
        .flat_map(|a| a.g.iter().chain(&a.graphs))
}
