//! Nodes and tensors that the rewrite makes.

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

/// A node, named after its one output.
pub(crate) fn node(
    kind: &str,
    input: Vec<String>,
    output: &str,
    attribute: Option<pb::AttributeProto>,
) -> pb::NodeProto {
    pb::NodeProto {
        op_type: kind.into(),
        name: output.to_owned(),
        input,
        output: vec![output.to_owned()],
        attribute: attribute.into_iter().collect(),
        ..pb::NodeProto::default()
    }
}

/// A tensor of this shape; `[]` is one value.
pub(crate) fn tensor(
    name: &str,
    kind: DataType,
    shape: &[usize],
    raw_data: Vec<u8>,
) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        data_type: kind as i32,
        dims: shape
            .iter()
            .filter_map(|&d| i64::try_from(d).ok())
            .collect(),
        raw_data,
        ..pb::TensorProto::default()
    }
}

pub(crate) fn floats(name: &str, shape: &[usize], values: &[f32]) -> pb::TensorProto {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    tensor(name, DataType::Float, shape, bytes.collect())
}

pub(crate) fn integers(name: &str, shape: &[usize], values: &[i64]) -> pb::TensorProto {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    tensor(name, DataType::Int64, shape, bytes.collect())
}
