//! Writes static quantisation as arithmetic on floats.
//!
//! tract turns a chain `DequantizeLinear` → … → `QuantizeLinear` into a table over bytes wherever it
//! takes the operators between for elementwise, softmax among them, and ignores a change of scale
//! across a reshape. So it gets to see neither: a quantised value is a whole number in a float.

use super::grid::Parameters;
use super::quantised::{DEQUANTISE, is_half};
use crate::onnx::{Graph, Index, build, first_output, nth_input, pb};
use pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

/// The nodes of `graph` with its static quantisation spelled out, and the constants that they need
/// besides. Scales of an axis are left to tract.
pub(super) fn spell_out(graph: &Graph) -> (Vec<pb::NodeProto>, Vec<pb::TensorProto>) {
    let index = graph.index();
    let mut written = Written::default();
    for node in &graph.nodes {
        match scalar_parameters(graph, &index, node) {
            Some((scale, zero, bounds)) => written.half(node, scale, zero, bounds),
            None => written.nodes.push(node.clone()),
        }
    }
    (written.nodes, written.constants)
}

/// Scale, zero point and bounds of one half of a static quantisation that has one scale.
fn scalar_parameters(
    graph: &Graph,
    index: &Index,
    node: &pb::NodeProto,
) -> Option<(f32, f32, (f32, f32))> {
    if !is_half(node) {
        return None;
    }
    let parameters = Parameters::of(graph, index, node)?;
    match (parameters.scales.as_slice(), parameters.zeros.as_slice()) {
        (&[scale], &[zero]) => Some((
            scale,
            zero as f32,
            (parameters.bounds.0 as f32, parameters.bounds.1 as f32),
        )),
        _ => None,
    }
}

#[derive(Default)]
struct Written {
    nodes: Vec<pb::NodeProto>,
    constants: Vec<pb::TensorProto>,
}

impl Written {
    fn half(&mut self, node: &pb::NodeProto, scale: f32, zero: f32, bounds: (f32, f32)) {
        let (input, output) = (nth_input(node, 0), first_output(node));
        let steps: &[(&str, f32)] = if node.op_type == DEQUANTISE {
            &[("Sub", zero), ("Mul", scale)]
        } else {
            &[
                ("Div", scale),
                ("Round", 0.0),
                ("Add", zero),
                ("Max", bounds.0),
                ("Min", bounds.1),
            ]
        };
        let mut value = input.to_owned();
        if node.op_type == DEQUANTISE {
            // Of floats, where a `QuantizeLinear` made them, or of a constant's bytes.
            value = self.step("Cast", vec![value], Graph::derived(output, "float"));
        }
        for (i, &(kind, constant)) in steps.iter().enumerate() {
            let mut inputs = vec![value];
            if kind != "Round" {
                inputs.push(
                    self.constant(Graph::derived(output, &format!("constant {i}")), constant),
                );
            }
            let name = if i + 1 == steps.len() {
                output.to_owned()
            } else {
                Graph::derived(output, kind)
            };
            value = self.step(kind, inputs, name);
        }
    }

    fn constant(&mut self, name: String, value: f32) -> String {
        self.constants.push(build::floats(&name, &[], &[value]));
        name
    }

    fn step(&mut self, kind: &str, input: Vec<String>, output: String) -> String {
        let to_float = pb::AttributeProto {
            name: "to".into(),
            r#type: AttributeType::Int as i32,
            i: DataType::Float as i64,
            ..pb::AttributeProto::default()
        };
        let attribute = (kind == "Cast").then_some(to_float);
        self.nodes
            .push(build::node(kind, input, &output, attribute));
        output
    }
}
