//! What the passes share: running one over a graph, and the nodes that stand for specs.

use crate::onnx::{Graph, Index, build, first_output, pb};
use crate::spec::{LinearSpec, Spec, Specs};

/// Prefix of the operator types of fused nodes.
const FUSED: &str = "constancy.";

/// What a pass replaces a node by.
pub(super) struct Replacement {
    pub(super) inputs: Vec<String>,
    pub(super) spec: Spec,
}

/// Replaces every node for which `find` gives a replacement.
pub(super) fn run_pass(
    graph: &mut Graph,
    specs: &mut Specs,
    find: impl Fn(&Graph, &Index, &Specs, &pb::NodeProto) -> Option<Replacement>,
) {
    let index = graph.index();
    for i in 0..graph.nodes.len() {
        if let Some(Replacement { inputs, spec }) = find(graph, &index, specs, &graph.nodes[i]) {
            let output = first_output(&graph.nodes[i]).to_owned();
            graph.replace(i, fused_node(&spec, inputs, &output));
            specs.insert(output, spec);
        }
    }
    graph.drop_unused();
    prune(graph, specs);
}

/// Drops the specs of nodes that are no longer in the graph.
pub(super) fn prune(graph: &Graph, specs: &mut Specs) {
    let index = graph.index();
    specs.retain(|name, _| {
        index
            .producer(name)
            .is_some_and(|i| graph.nodes[i].op_type.starts_with(FUSED))
    });
}

/// Whether a node stands for a spec.
pub(crate) fn is_fused(node: &pb::NodeProto) -> bool {
    node.op_type.starts_with(FUSED)
}

/// The node that stands for a spec.
pub(super) fn fused_node(spec: &Spec, inputs: Vec<String>, output: &str) -> pb::NodeProto {
    let kind = match spec {
        Spec::Linear(_) => "Linear",
        Spec::Attention(_) => "Attention",
        Spec::Norm(_) => "Norm",
        Spec::Round(_) => "Round",
        Spec::Convolution(_) => "Convolution",
        Spec::Depthwise(_) => "Depthwise",
        Spec::Pool(_) => "Pool",
        Spec::Finish(_) => "Finish",
    };
    build::node(&format!("{FUSED}{kind}"), inputs, output, None)
}

/// The product that makes `value`.
pub(super) fn linear_of<'a>(specs: &'a Specs, value: &str) -> Option<&'a LinearSpec> {
    specs.get(value)?.linear()
}

/// The two operands of a commutative node in both orders.
pub(super) fn either_order(node: &pb::NodeProto) -> [(&str, &str); 2] {
    match node.input.as_slice() {
        [a, b] => [(a, b), (b, a)],
        _ => [("", ""), ("", "")],
    }
}
