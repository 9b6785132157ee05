//! Recognises the blocks of a transformer in an ONNX graph and puts one fused operator in the place of each.
//!
//! The passes run in the order of [`fuse`]. Each looks for one pattern, in every form that exporters and quantisers
//! write, and replaces the node that ends it; what then feeds nothing is dropped. A graph that none of them knows
//! comes out as it went in and runs on tract's own operators.

mod attention;
mod linear;
mod merge;
mod norm;
mod patches;
mod shapes;

use super::onnx::{Constant, Graph, Index, pb};
use constancy_kernels::Activation;
use std::collections::HashMap;

pub(super) use shapes::parse;

use shapes::Shapes;
use tract_onnx::prelude::TractError;
use tract_onnx::tract_hir::internal::InferenceFact;

/// Domain-like prefix of the operators that stand for a [`Spec`].
const FUSED: &str = "constancy.";

/// What a fused node computes, its weights still in the file.
#[derive(Clone)]
pub(super) enum Spec {
    Linear(LinearSpec),
    Attention(AttentionSpec),
    Norm(NormSpec),
}

impl Spec {
    pub(super) fn linear(&self) -> Option<&LinearSpec> {
        match self {
            Self::Linear(linear) => Some(linear),
            _ => None,
        }
    }
}

/// `y = activation(norm(x) · W + b) + residual`.
#[derive(Clone)]
pub(super) struct LinearSpec {
    /// Matrices side by side.
    pub(super) parts: Vec<WeightSpec>,
    pub(super) depth: usize,
    pub(super) columns: usize,
    pub(super) norm: Option<NormSpec>,
    pub(super) activation: Activation,
    /// The node has a second input, which is added.
    pub(super) residual: bool,
    /// The input is an image, its patches are the rows.
    pub(super) patches: Option<Patches>,
}

impl LinearSpec {
    /// One matrix and nothing around it.
    pub(super) fn plain(weight: WeightSpec) -> Self {
        let [rows, columns] = [weight.data.shape[0], weight.data.shape[1]];
        let (depth, columns) = if weight.transposed {
            (columns, rows)
        } else {
            (rows, columns)
        };
        Self {
            parts: vec![weight],
            depth,
            columns,
            norm: None,
            activation: Activation::None,
            residual: false,
            patches: None,
        }
    }

    /// The matrices, and the column that each begins at.
    pub(super) fn parts_with_starts(&self) -> impl Iterator<Item = (&WeightSpec, usize)> {
        self.parts.iter().scan(0, |start, part| {
            let here = *start;
            *start += part.columns();
            Some((part, here))
        })
    }

    /// The biases of all columns, zeros where a matrix has none and up to `room`.
    pub(super) fn bias(&self, room: usize) -> Vec<f32> {
        let mut bias = vec![0.0; room];
        for (part, start) in self.parts_with_starts() {
            bias[start..start + part.bias.len()].copy_from_slice(&part.bias);
        }
        bias
    }
}

/// One matrix, `w = (q − zero) · scale`.
#[derive(Clone)]
pub(super) struct WeightSpec {
    /// `[depth, columns]`, or `[columns, depth]` where `transposed`.
    pub(super) data: Constant,
    pub(super) transposed: bool,
    /// One or one per column; empty for floats.
    pub(super) scales: Vec<f32>,
    /// One or one per column; empty for 0.
    pub(super) zeros: Vec<i32>,
    /// `[columns]`, or empty.
    pub(super) bias: Vec<f32>,
}

/// An image `[B, channels, grid · size, grid · size]` cut into squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patches {
    pub(super) channels: usize,
    pub(super) size: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Layer normalisation over the last axis.
#[derive(Clone)]
pub(super) struct NormSpec {
    /// The value that it made in the file: what tells two of them apart.
    pub(super) name: String,
    pub(super) gain: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) epsilon: f32,
}

/// Attention of `heads` heads over three inputs `[B, S, ·]`, each of which holds the heads side by side from a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AttentionSpec {
    pub(super) heads: usize,
    pub(super) depth: usize,
    pub(super) scale: f32,
    /// First columns of q, k and v.
    pub(super) offsets: [usize; 3],
}

/// The fused nodes of a graph, by the value that they make.
pub(super) type Specs = HashMap<String, Spec>;

/// Rewrites `graph`, given what is fed to its inputs.
pub(super) fn fuse(
    graph: &mut Graph,
    inputs: &[(&str, InferenceFact)],
) -> Result<Specs, TractError> {
    let mut specs = Specs::new();
    pass(graph, &mut specs, linear::products);
    pass(graph, &mut specs, linear::biases);
    pass(graph, &mut specs, norm::norms);
    pass(graph, &mut specs, linear::activations);
    let shapes = Shapes::of(graph, &specs, inputs)?;
    shapes.fold_constants(graph);
    pass(graph, &mut specs, |g, i, s, n| {
        patches::patches(g, i, s, n, &shapes)
    });
    pass(graph, &mut specs, linear::biases);
    pass(graph, &mut specs, |g, i, s, n| {
        attention::attention(g, i, s, n, &shapes)
    });
    pass(graph, &mut specs, |g, i, s, n| {
        linear::residuals(g, i, s, n, &shapes)
    });
    norm::into_products(graph, &mut specs);
    merge::select_row_early(graph, &mut specs);
    merge::siblings(graph, &mut specs);
    Ok(specs)
}

/// Fuses the products and normalisations alone: every value that a product reads is still made.
pub(super) fn fuse_products(graph: &mut Graph) -> Specs {
    let mut specs = Specs::new();
    pass(graph, &mut specs, linear::products);
    pass(graph, &mut specs, linear::biases);
    pass(graph, &mut specs, norm::norms);
    specs
}

/// The layer normalisations of a graph that is left as it is.
pub(super) fn norm_specs(graph: &Graph) -> Vec<NormSpec> {
    let (index, none) = (graph.index(), Specs::new());
    let found = graph
        .nodes
        .iter()
        .filter_map(|node| norm::norms(graph, &index, &none, node));
    found
        .filter_map(|f| {
            if let Spec::Norm(norm) = f.spec {
                Some(norm)
            } else {
                None
            }
        })
        .collect()
}

/// What a pass puts in the place of a node.
struct Fused {
    inputs: Vec<String>,
    spec: Spec,
}

/// Offers every node to `find`, and replaces those for which it has something.
fn pass(
    graph: &mut Graph,
    specs: &mut Specs,
    find: impl Fn(&Graph, &Index, &Specs, &pb::NodeProto) -> Option<Fused>,
) {
    let index = graph.index();
    for i in 0..graph.nodes.len() {
        if let Some(Fused { inputs, spec }) = find(graph, &index, specs, &graph.nodes[i]) {
            let output = graph.nodes[i].output[0].clone();
            graph.replace(i, node(&spec, inputs, output.clone()));
            specs.insert(output, spec);
        }
    }
    graph.drop_unused();
    prune(graph, specs);
}

/// Forgets the specs of nodes that are gone.
fn prune(graph: &Graph, specs: &mut Specs) {
    let index = graph.index();
    specs.retain(|name, _| {
        index
            .producer(name)
            .is_some_and(|i| graph.nodes[i].op_type.starts_with(FUSED))
    });
}

/// The node that stands for a spec.
fn node(spec: &Spec, inputs: Vec<String>, output: String) -> pb::NodeProto {
    let kind = match spec {
        Spec::Linear(_) => "Linear",
        Spec::Attention(_) => "Attention",
        Spec::Norm(_) => "Norm",
    };
    pb::NodeProto {
        op_type: format!("{FUSED}{kind}"),
        name: output.clone(),
        input: inputs,
        output: vec![output],
        ..pb::NodeProto::default()
    }
}

/// The product that makes `value`.
fn linear_of<'a>(specs: &'a Specs, value: &str) -> Option<&'a LinearSpec> {
    specs.get(value)?.linear()
}

/// Operands of a commutative node, either way round.
fn either_way(node: &pb::NodeProto) -> [(&str, &str); 2] {
    match node.input.as_slice() {
        [a, b] => [(a, b), (b, a)],
        _ => [("", ""), ("", "")],
    }
}
