//! From our graph to tract's.

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
    let mut model = onnx.model_for_proto_model(&graph.to_model())?;
    for node in model.nodes_mut() {
        if let Some(op) = fused(&node.name) {
            node.op = op;
        }
    }
    Ok(model)
}
