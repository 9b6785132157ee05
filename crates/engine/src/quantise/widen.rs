//! Turns a tower that computes in fp16, as many are published, into one that computes in f32 with
//! the same weights: errors are measured against f32, and `DynamicQuantizeLinear` takes only f32.

use crate::onnx::{ElementType, Graph, OnnxFile, pb};
use half::f16;
use pb::attribute_proto::AttributeType;
use pb::tensor_proto::DataType;

/// ONNX's numbers of the two types.
pub(super) const FP16: i32 = DataType::Float16 as i32;
const FP32: i32 = DataType::Float as i32;

/// Whether anything but a `Cast` reads weights that are stored in fp16.
pub(super) fn computes_in_fp16(graph: &Graph) -> bool {
    let (index, initializers) = (graph.index(), graph.initializer_names());
    let is_fp16_weight = |name: &String| {
        let is_stored = initializers.contains(name)
            || index
                .producer(name)
                .is_some_and(|i| graph.nodes[i].op_type == "Constant");
        is_stored
            && graph
                .constant(&index, name)
                .is_some_and(|c| c.element == ElementType::F16)
    };
    graph.nodes.iter().any(|n| {
        !matches!(n.op_type.as_str(), "Cast" | "Identity") && n.input.iter().any(is_fp16_weight)
    })
}

/// The same tower in f32. Initialisers stay in fp16, behind casts.
pub(super) fn widen(mut file: OnnxFile) -> OnnxFile {
    let Some(graph) = file.model.graph.as_mut() else {
        return file;
    };
    let mut casts = Vec::new();
    for tensor in graph.initializer.iter_mut().filter(|t| t.data_type == FP16) {
        let stored = format!("{}_stored", tensor.name);
        casts.push(cast(&stored, &tensor.name));
        if let Some(data) = file.data.remove(&tensor.name) {
            file.data.insert(stored.clone(), data);
        }
        tensor.name = stored;
    }
    widen_graph(graph);
    graph.node.splice(0..0, casts);
    file
}

fn widen_graph(graph: &mut pb::GraphProto) {
    // The types of intermediate values are no longer right.
    graph.value_info.clear();
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        if let Some(pb::type_proto::Value::TensorType(t)) =
            value.r#type.as_mut().and_then(|t| t.value.as_mut())
            && t.elem_type == FP16
        {
            t.elem_type = FP32;
        }
    }
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            if node.op_type == "Cast" && attribute.name == "to" && attribute.i == i64::from(FP16) {
                attribute.i = i64::from(FP32);
            }
            attribute.t.iter_mut().for_each(widen_tensor);
            attribute.g.iter_mut().for_each(widen_graph);
        }
    }
}

/// Converts the tensor of a `Constant` or `ConstantOfShape`.
fn widen_tensor(tensor: &mut pb::TensorProto) {
    if tensor.data_type != FP16 {
        return;
    }
    let raw = tensor
        .raw_data
        .chunks_exact(2)
        .map(|b| f16::from_le_bytes([b[0], b[1]]));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as onnx.proto stores fp16"
    )]
    let listed = tensor.int32_data.iter().map(|&v| f16::from_bits(v as u16));
    let bytes = raw
        .chain(listed)
        .flat_map(|h| h.to_f32().to_le_bytes())
        .collect();
    tensor.raw_data = bytes;
    tensor.int32_data.clear();
    tensor.data_type = FP32;
}

fn cast(from: &str, to: &str) -> pb::NodeProto {
    let attribute = pb::AttributeProto {
        name: "to".to_owned(),
        r#type: AttributeType::Int as i32,
        i: i64::from(FP32),
        ..pb::AttributeProto::default()
    };
    pb::NodeProto {
        op_type: "Cast".to_owned(),
        name: format!("{to}_cast"),
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        attribute: vec![attribute],
        ..pb::NodeProto::default()
    }
}
