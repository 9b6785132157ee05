//! What tract cannot compute, told by name before or after it has tried.

use crate::onnx::{Graph, attribute_int, pb};
use pb::tensor_proto::DataType;
use std::collections::HashSet;

/// The first tensor of the graph that is stored in a way that tract 0.23 cannot read, and the way out.
pub(crate) fn unreadable_tensor(graph: &Graph) -> Option<String> {
    let sparse = graph.sparse_names();
    let used = graph.nodes.iter().flat_map(|n| &n.input);
    let constant = graph
        .nodes
        .iter()
        .find(|n| n.attribute.iter().any(|a| a.sparse_tensor.is_some()));
    let name = used
        .into_iter()
        .find(|name| sparse.contains(name.as_str()))
        .or_else(|| constant.map(|n| &n.name));
    if let Some(name) = name {
        return Some(format!(
            "tensor `{name}` is sparse, which is not supported; export the tower with dense weights (in PyTorch, `weight.to_dense()` before the export)"
        ));
    }
    let stored = graph.initializers().map(|t| (&t.name, t.data_type));
    let in_nodes = graph.nodes.iter().filter_map(|n| {
        let of = |a: &pb::AttributeProto| a.t.as_ref().map(|t| t.data_type);
        let cast = (n.op_type == "Cast")
            .then(|| attribute_int(n, "to"))
            .flatten();
        let cast = cast.and_then(|to| i32::try_from(to).ok());
        Some((&n.name, cast.or_else(|| n.attribute.iter().find_map(of))?))
    });
    stored
        .chain(in_nodes)
        .find_map(|(name, kind)| Some((name, narrow_float(kind)?)))
        .map(|(name, kind)| {
            format!(
                "tensor `{name}` is {kind}, which is not supported; export the tower in fp32 or fp16 (in PyTorch, `model.float()` before the export)"
            )
        })
}

/// The name of a type of floats that tract does not have.
fn narrow_float(kind: i32) -> Option<&'static str> {
    Some(match DataType::try_from(kind).ok()? {
        DataType::Bfloat16 => "bfloat16",
        DataType::Float8e4m3fn | DataType::Float8e4m3fnuz => "float8 (E4M3)",
        DataType::Float8e5m2 | DataType::Float8e5m2fnuz => "float8 (E5M2)",
        _ => return None,
    })
}

/// Operators whose results have as many elements as their input has hits.
const COUNTING: [&str; 4] = ["Compress", "NonMaxSuppression", "NonZero", "Unique"];

/// The first operator of the graph that makes a shape out of the content of the graph's inputs. tract computes few of
/// these, so it is looked for when a graph has failed.
pub(crate) fn shape_from_content(graph: &Graph) -> Option<String> {
    let mut of_content: HashSet<&str> = graph.inputs().map(|i| i.name.as_str()).collect();
    // Nodes precede their readers.
    for node in &graph.nodes {
        // A shape is known beforehand, whatever the content.
        let is_shape = matches!(node.op_type.as_str(), "Shape" | "Size");
        if is_shape || !node.input.iter().any(|i| of_content.contains(i.as_str())) {
            continue;
        }
        if COUNTING.contains(&node.op_type.as_str()) {
            return Some(format!(
                "operator `{}` (`{}`) makes a tensor whose size depends on the content of the input, which is not supported; export the tower with a mask in its place (in PyTorch, `torch.where` or a multiplication instead of indexing by a condition)",
                node.op_type, node.name
            ));
        }
        of_content.extend(node.output.iter().map(String::as_str));
    }
    None
}
