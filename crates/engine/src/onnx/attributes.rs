//! Attributes of a node, by name, and its inputs and output, by position.

use tract_onnx::pb;

pub(crate) fn attribute_int(node: &pb::NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.i)
}

pub(crate) fn attribute_float(node: &pb::NodeProto, name: &str) -> Option<f32> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.f)
}

pub(crate) fn attribute_ints<'a>(node: &'a pb::NodeProto, name: &str) -> Option<&'a [i64]> {
    node.attribute
        .iter()
        .find(|a| a.name == name)
        .map(|a| a.ints.as_slice())
}

/// The name of a node's input; empty where the node has none there, as ONNX writes an optional
/// input that is left out. No value has that name.
pub(crate) fn nth_input(node: &pb::NodeProto, at: usize) -> &str {
    node.input.get(at).map_or("", String::as_str)
}

/// The name of a node's first output. [`Graph`](super::Graph) drops nodes without one.
pub(crate) fn first_output(node: &pb::NodeProto) -> &str {
    node.output.first().map_or("", String::as_str)
}
