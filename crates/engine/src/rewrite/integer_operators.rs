//! ONNX Runtime's operators on quantised values (`QLinearMatMul` and its kin): each becomes the
//! operator on floats between `DequantizeLinear` and `QuantizeLinear`, which is what it means.

use crate::onnx::{
    Constant, ElementType, Graph, Index, attribute_float, attribute_int, build, first_output, pb,
};

/// How the inputs of an operator are ordered.
#[derive(Clone, Copy)]
enum Order {
    /// As many times value, scale and zero point, then scale and zero point of the result.
    Operands(usize),
    /// `QLinearConv`: as two operands, then the bias.
    Convolution,
    /// `QGemm`: two operands, the bias, then scale and zero point of the result.
    Gemm,
    /// `QLinearConcat`: scale and zero point of the result, then any number of operands.
    ResultFirst,
}

/// The operator on floats, and the order of the inputs.
fn float_operator(kind: &str) -> Option<(&'static str, Order)> {
    use Order::{Convolution, Gemm, Operands, ResultFirst};
    Some(match kind {
        "QLinearMatMul" => ("MatMul", Operands(2)),
        "QLinearConv" => ("Conv", Convolution),
        "QGemm" => ("Gemm", Gemm),
        "QLinearAdd" => ("Add", Operands(2)),
        "QLinearMul" => ("Mul", Operands(2)),
        "QLinearSigmoid" => ("Sigmoid", Operands(1)),
        "QLinearLeakyRelu" => ("LeakyRelu", Operands(1)),
        "QLinearSoftmax" => ("Softmax", Operands(1)),
        "QLinearReduceMean" => ("ReduceMean", Operands(1)),
        "QLinearAveragePool" => ("AveragePool", Operands(1)),
        "QLinearGlobalAveragePool" => ("GlobalAveragePool", Operands(1)),
        "QLinearConcat" => ("Concat", ResultFirst),
        _ => return None,
    })
}

/// Replaces every such operator; an error names one that cannot be.
pub(super) fn to_floats(graph: &mut Graph) -> Result<(), String> {
    if !graph.nodes.iter().any(|n| is_quantised(&n.op_type)) {
        return Ok(());
    }
    let index = graph.index();
    let mut nodes = Vec::new();
    let mut constants = Vec::new();
    for node in &graph.nodes {
        if !is_quantised(&node.op_type) {
            nodes.push(node.clone());
            continue;
        }
        let refused = || format!("`{}` is not supported in this form", node.op_type);
        let written = Written::of(graph, &index, node).ok_or_else(refused)?;
        nodes.extend(written.nodes);
        constants.extend(written.constants);
    }
    graph.nodes = nodes;
    for constant in constants {
        graph.add_initializer(constant);
    }
    Ok(())
}

fn is_quantised(kind: &str) -> bool {
    kind.starts_with("QLinear") || kind == "QGemm"
}

/// The axis of an operand that its scales belong to, if it has more than one: a product's columns, which are the rows of
/// what `Gemm` transposes, or a convolution's channels.
fn channel_axis(node: &pb::NodeProto, kind: &str, operand: usize) -> i64 {
    let is_transposed = || attribute_int(node, "transB") == Some(1);
    match kind {
        "Conv" => 0,
        "Gemm" if operand == 1 && is_transposed() => 0,
        _ => -1,
    }
}

/// The nodes in place of one operator.
#[derive(Default)]
struct Written {
    nodes: Vec<pb::NodeProto>,
    constants: Vec<pb::TensorProto>,
}

impl Written {
    fn of(graph: &Graph, index: &Index, node: &pb::NodeProto) -> Option<Self> {
        let (kind, order) = float_operator(&node.op_type)?;
        let channels_last = |a: &pb::AttributeProto| a.name == "channels_last" && a.i != 0;
        if node.attribute.iter().any(channels_last) {
            return None;
        }
        let mut written = Self::default();
        let inputs = &node.input;
        let (operands, bias, result) = match order {
            Order::Operands(count) => (inputs.get(..3 * count)?, None, inputs.get(3 * count..)?),
            Order::Convolution => (inputs.get(..6)?, inputs.get(8), inputs.get(6..8)?),
            Order::Gemm => (
                inputs.get(..6)?,
                inputs.get(6).filter(|n| !n.is_empty()),
                inputs.get(7..).unwrap_or_default(),
            ),
            Order::ResultFirst => (inputs.get(2..)?, None, inputs.get(..2)?),
        };
        let output = first_output(node);
        let mut floats: Vec<String> = operands
            .chunks_exact(3)
            .enumerate()
            .map(|(i, operand)| {
                let axis = channel_axis(node, kind, i);
                written.dequantised(
                    &Graph::derived(output, &format!("operand {i}")),
                    operand,
                    axis,
                )
            })
            .collect();
        if let Some(bias) = bias {
            let scales = [&inputs[1], &inputs[4]]
                .map(|name| graph.constant(index, name).map(|c| c.floats()));
            let [Some(of_input), Some(of_weights)] = scales else {
                return None;
            };
            let alpha = attribute_float(node, "alpha").unwrap_or(1.0);
            // Gemm's alpha is part of the bias's scale but not of its product's bias.
            let factor = if kind == "Gemm" { alpha } else { 1.0 } * of_input.first()?;
            let bias = graph.constant(index, bias)?;
            floats.push(written.bias(&Graph::derived(output, "bias"), &bias, &of_weights, factor));
        }
        let quantises = result.first().is_some_and(|s| !s.is_empty());
        let value = if quantises {
            Graph::derived(output, "value")
        } else {
            output.to_owned()
        };
        written.nodes.push(pb::NodeProto {
            op_type: kind.into(),
            name: value.clone(),
            input: floats,
            output: vec![value.clone()],
            attribute: float_attributes(node, kind),
            ..pb::NodeProto::default()
        });
        if quantises {
            let mut input = vec![value];
            input.extend(result.iter().cloned());
            written.push("QuantizeLinear", input, output, None);
        }
        Some(written)
    }

    /// `DequantizeLinear` of a value with its scale and zero point.
    fn dequantised(&mut self, name: &str, operand: &[String], axis: i64) -> String {
        self.push("DequantizeLinear", operand.to_vec(), name, Some(axis));
        name.to_owned()
    }

    /// A bias `[columns]` of integers times the scales of input and weights.
    fn bias(&mut self, name: &str, bias: &Constant, of_weights: &[f32], factor: f32) -> String {
        let scale = |i: usize| of_weights.get(i).or(of_weights.first()).copied();
        let is_float = bias.element == ElementType::F32;
        let floats = bias.floats();
        let scaled = |(i, v): (usize, &f32)| {
            let scale = if is_float {
                1.0
            } else {
                scale(i).unwrap_or(1.0) * factor
            };
            v * scale
        };
        let values: Vec<f32> = floats.iter().enumerate().map(scaled).collect();
        self.constants
            .push(build::floats(name, &bias.shape, &values));
        name.to_owned()
    }

    fn push(&mut self, kind: &str, input: Vec<String>, output: &str, axis: Option<i64>) {
        let axis = axis.map(|i| pb::AttributeProto {
            name: "axis".into(),
            r#type: pb::attribute_proto::AttributeType::Int as i32,
            i,
            ..pb::AttributeProto::default()
        });
        self.nodes.push(build::node(kind, input, output, axis));
    }
}

/// The attributes of the operator on floats.
fn float_attributes(node: &pb::NodeProto, kind: &str) -> Vec<pb::AttributeProto> {
    let only_quantised = |a: &&pb::AttributeProto| {
        // `opset` of QLinearSoftmax says which meaning `axis` has.
        a.name == "channels_last" || kind == "Softmax" && a.name == "opset"
    };
    node.attribute
        .iter()
        .filter(|a| !only_quantised(a))
        .cloned()
        .collect()
}
