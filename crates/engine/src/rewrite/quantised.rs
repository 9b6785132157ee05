//! Prepares a statically quantised graph: integer operators become floats between
//! `DequantizeLinear` and `QuantizeLinear`, quantised constants become floats again, and what
//! cannot be computed rightly is refused.
//!
//! The weights of products stay quantised. [`super::grid`] and [`super::spell_out`] take over the
//! pairs that are left.

use super::grid::Parameters;
use crate::onnx::{ElementType, Graph, Index, attribute_int, build, first_output, nth_input, pb};
use std::collections::HashSet;
use tract_onnx::pb::tensor_proto::DataType;

const QUANTISE: &str = "QuantizeLinear";
pub(super) const DEQUANTISE: &str = "DequantizeLinear";

/// Operators that only move elements of their first input.
const MOVES: [&str; 11] = [
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Prepares `graph`; an error says which operator is in the way.
pub(crate) fn prepare_quantised(graph: &mut Graph) -> Result<(), String> {
    super::integer_operators::to_floats(graph)?;
    let is_static = |n: &pb::NodeProto| n.op_type == QUANTISE || n.op_type == DEQUANTISE;
    if !graph.nodes.iter().any(is_static) {
        return Ok(());
    }
    fold(graph, QUANTISE, quantised);
    fold(graph, DEQUANTISE, dequantised);
    graph.drop_unused();
    check(graph)
}

/// Replaces every node of this type by a constant, if `value` gives one.
fn fold(
    graph: &mut Graph,
    kind: &str,
    value: fn(&Graph, &Index, &pb::NodeProto) -> Option<pb::TensorProto>,
) {
    let index = graph.index();
    let of_kind = graph.nodes.iter().filter(|n| n.op_type == kind);
    let constants: Vec<pb::TensorProto> = of_kind
        .filter_map(|node| value(graph, &index, node))
        .collect();
    let names: HashSet<String> = constants.iter().map(|t| t.name.clone()).collect();
    let is_folded = |n: &pb::NodeProto| n.output.first().is_some_and(|o| names.contains(o));
    graph.nodes.retain(|n| !is_folded(n));
    for constant in constants {
        graph.add_initializer(constant);
    }
}

/// The bytes of a quantised constant.
fn quantised(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<pb::TensorProto> {
    let data = graph.constant(index, node.input.first()?)?;
    let parameters = Parameters::of(graph, index, node)?;
    let (low, high) = parameters.bounds;
    let kind = match parameters.bounds {
        (0, 255) => DataType::Uint8,
        (-128, 127) => DataType::Int8,
        _ => return None,
    };
    let place = places(&parameters, &data.shape)?;
    let byte = |(i, v): (usize, &f32)| {
        let p = place(i);
        let level = (v / parameters.scales[p]).round_ties_even() + parameters.zeros[p] as f32;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a byte; a negative one keeps its bits"
        )]
        let byte = level.clamp(low as f32, high as f32) as i64 as u8;
        byte
    };
    let bytes = data.floats().iter().enumerate().map(byte).collect();
    Some(build::tensor(first_output(node), kind, &data.shape, bytes))
}

/// The floats of a dequantised constant; `None` for the weights of a product or convolution, which
/// stay as they are.
fn dequantised(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<pb::TensorProto> {
    let data = graph.constant(index, node.input.first()?)?;
    let is_byte = matches!(data.element, ElementType::I8 | ElementType::U8);
    let multiplies = |&i: &usize| {
        let reader = &graph.nodes[i];
        matches!(reader.op_type.as_str(), "MatMul" | "Gemm" | "Transpose")
            && reader.input.first() != node.output.first()
            || reader.op_type == "Transpose"
    };
    let readers = index.consumers(node.output.first()?);
    if is_byte && !readers.is_empty() && readers.iter().all(|&i| convolves(graph, index, node, i)) {
        return None;
    }
    if is_byte && data.shape.len() == 2 && !readers.is_empty() && readers.iter().all(multiplies) {
        return None;
    }
    let parameters = Parameters::of(graph, index, node)?;
    let place = places(&parameters, &data.shape)?;
    let float = |(i, v): (usize, &i64)| {
        let p = place(i);
        ((v - parameters.zeros[p]) as f32 * parameters.scales[p]).to_le_bytes()
    };
    let integers = data.integers();
    let bytes = integers.iter().enumerate().flat_map(float).collect();
    data.data.release();
    Some(build::tensor(
        first_output(node),
        DataType::Float,
        &data.shape,
        bytes,
    ))
}

/// Whether the node at `reader` is a convolution over all channels that reads what `node` makes as its weights, and a value
/// that is not quantised as its input.
fn convolves(graph: &Graph, index: &Index, node: &pb::NodeProto, reader: usize) -> bool {
    let reader = &graph.nodes[reader];
    let input = index.producer(nth_input(reader, 0));
    reader.op_type == "Conv"
        && attribute_int(reader, "group").unwrap_or(1) == 1
        && nth_input(reader, 1) == first_output(node)
        && nth_input(reader, 2) != first_output(node)
        && input.is_none_or(|i| graph.nodes[i].op_type != DEQUANTISE)
}

/// Which scale belongs to each element of a tensor of this shape.
fn places(parameters: &Parameters, shape: &[usize]) -> Option<impl Fn(usize) -> usize + use<>> {
    let count = parameters.scales.len();
    let rank = i64::try_from(shape.len()).ok()?;
    let axis = parameters.axis + if parameters.axis < 0 { rank } else { 0 };
    let axis = usize::try_from(axis).ok()?;
    let run: usize = shape.iter().skip(axis + 1).product();
    (count == 1 || shape.get(axis) == Some(&count)).then_some(move |i: usize| {
        if count == 1 {
            0
        } else {
            i / run.max(1) % count
        }
    })
}

/// An error for what is neither folded nor understood.
fn check(graph: &Graph) -> Result<(), String> {
    let index = graph.index();
    for node in &graph.nodes {
        let kind = node.op_type.as_str();
        if kind != QUANTISE && kind != DEQUANTISE {
            continue;
        }
        let Some(parameters) = Parameters::of(graph, &index, node) else {
            return Err(format!(
                "`{kind}` of `{}` has a scale or zero point that is computed, blocked or not of 8 or 16 bits",
                node.input.first().map_or("", String::as_str)
            ));
        };
        if parameters.scales.len() > 1 {
            check_per_axis(graph, &index, node)?;
        } else if kind == QUANTISE {
            check_readers(graph, &index, node)?;
        }
    }
    Ok(())
}

/// Scales along an axis of a value that is computed are left to tract, which needs both nodes of the
/// pair.
fn check_per_axis(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Result<(), String> {
    let has_one_each = |i: usize, kind: &str| {
        let other = &graph.nodes[i];
        let scales = || Some(Parameters::of(graph, index, other)?.scales.len());
        other.op_type == kind && scales() > Some(1)
    };
    let paired = if node.op_type == QUANTISE {
        index
            .consumers(first_output(node))
            .iter()
            .all(|&i| has_one_each(i, DEQUANTISE))
    } else {
        let source = nth_input(node, 0);
        graph.constant(index, source).is_some()
            || index
                .producer(source)
                .is_some_and(|i| has_one_each(i, QUANTISE))
    };
    if paired {
        return Ok(());
    }
    Err(format!(
        "`{}` of `{}` has a scale for each channel of a value that is computed",
        node.op_type, node.input[0]
    ))
}

/// Quantised values are kept as whole floats, so what reads them must dequantise or move them.
fn check_readers(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Result<(), String> {
    let mut values = vec![first_output(node).to_owned()];
    while let Some(value) = values.pop() {
        for &i in index.consumers(&value) {
            let reader = &graph.nodes[i];
            let kind = reader.op_type.as_str();
            let moves = MOVES.contains(&kind) && reader.input.first() == Some(&value)
                || kind == "MaxPool"
                || kind == "Split";
            if moves {
                values.extend(reader.output.iter().cloned());
            } else if kind != DEQUANTISE {
                return Err(format!(
                    "`{kind}` reads what `{QUANTISE}` makes (`{value}`), which is not supported"
                ));
            }
        }
    }
    Ok(())
}

/// Whether a node is one half of a static quantisation.
pub(super) fn is_half(node: &pb::NodeProto) -> bool {
    node.op_type == QUANTISE || node.op_type == DEQUANTISE
}
