//! From our graph to tract's.

use super::quantised::is_half;
use super::spell_out::spell_out;
use crate::onnx::Graph;
use tract_onnx::prelude::*;
#[allow(clippy::wildcard_imports, reason = "tract's macros and traits")]
use tract_onnx::tract_hir::internal::*;

/// The graph as tract's. `fused` gives the operators of its fused nodes by name, and `None` for all
/// other nodes.
pub(crate) fn to_tract(
    graph: &Graph,
    fused: &dyn Fn(&str) -> Option<Box<dyn InferenceOp>>,
) -> TractResult<InferenceModel> {
    let onnx = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true);
    let mut proto = graph.to_model();
    if graph.nodes.iter().any(is_half) {
        let (nodes, constants) = spell_out(graph);
        let written = proto.graph.get_or_insert_default();
        written.node = nodes;
        written.initializer.extend(constants);
    }
    let mut model = onnx.model_for_proto_model(&proto)?;
    for node in model.nodes_mut() {
        // An input of the graph may be what a fused node makes elsewhere.
        if !node.inputs.is_empty()
            && let Some(op) = fused(&node.name)
        {
            node.op = op;
        }
    }
    Ok(model)
}
