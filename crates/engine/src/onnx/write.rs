//! Writes a model. The data of its weights goes from where it is straight to the file, without
//! being collected in one message first.

use super::file::{GRAPH_INITIALIZER, MODEL_GRAPH, OnnxFile, TENSOR_RAW_DATA};
use super::mapped::TensorData;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use std::io::{self, Write};
use tract_onnx::pb;

/// The size limit of a protobuf message.
pub(crate) const MAX_MODEL_BYTES: u64 = i32::MAX as u64;

impl OnnxFile {
    /// Size of what [`OnnxFile::write`] writes, bytes.
    pub(crate) fn written_len(&self) -> u64 {
        let (model, graph) = self.without_weights();
        (model.encoded_len() + field_len(MODEL_GRAPH, self.graph_len(&graph))) as u64
    }

    /// Writes the model as one file.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (model, graph) = self.without_weights();
        out.write_all(&model.encode_to_vec())?;
        out.write_all(&header(MODEL_GRAPH, self.graph_len(&graph)))?;
        out.write_all(&graph.encode_to_vec())?;
        for tensor in self.initializers() {
            let data = self.data.get(&tensor.name);
            out.write_all(&header(GRAPH_INITIALIZER, tensor_len(tensor, data)))?;
            out.write_all(&tensor.encode_to_vec())?;
            if let Some(data) = data {
                out.write_all(&header(TENSOR_RAW_DATA, data.bytes().len()))?;
                out.write_all(data.bytes())?;
                data.release();
            }
        }
        Ok(())
    }

    /// The model without its graph, and the graph without its initialisers.
    fn without_weights(&self) -> (pb::ModelProto, pb::GraphProto) {
        let graph = self
            .model
            .graph
            .as_ref()
            .map_or_else(pb::GraphProto::default, |graph| pb::GraphProto {
                node: graph.node.clone(),
                name: graph.name.clone(),
                initializer: Vec::new(),
                sparse_initializer: graph.sparse_initializer.clone(),
                doc_string: graph.doc_string.clone(),
                input: graph.input.clone(),
                output: graph.output.clone(),
                value_info: graph.value_info.clone(),
                quantization_annotation: graph.quantization_annotation.clone(),
            });
        let model = pb::ModelProto {
            ir_version: self.model.ir_version,
            opset_import: self.model.opset_import.clone(),
            producer_name: self.model.producer_name.clone(),
            producer_version: self.model.producer_version.clone(),
            domain: self.model.domain.clone(),
            model_version: self.model.model_version,
            doc_string: self.model.doc_string.clone(),
            graph: None,
            metadata_props: self.model.metadata_props.clone(),
            training_info: Vec::new(),
            functions: self.model.functions.clone(),
        };
        (model, graph)
    }

    fn graph_len(&self, graph: &pb::GraphProto) -> usize {
        let tensors = self.initializers().iter().map(|t| {
            let data = self.data.get(&t.name);
            field_len(GRAPH_INITIALIZER, tensor_len(t, data))
        });
        graph.encoded_len() + tensors.sum::<usize>()
    }

    fn initializers(&self) -> &[pb::TensorProto] {
        self.model
            .graph
            .as_ref()
            .map_or(&[], |g| g.initializer.as_slice())
    }
}

fn tensor_len(tensor: &pb::TensorProto, data: Option<&TensorData>) -> usize {
    tensor.encoded_len() + data.map_or(0, |data| field_len(TENSOR_RAW_DATA, data.bytes().len()))
}

fn field_len(number: u32, value: usize) -> usize {
    key_len(number) + encoded_len_varint(value as u64) + value
}

/// Key and length of a length-delimited field.
fn header(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut bytes);
    encode_varint(len as u64, &mut bytes);
    bytes
}

/// Entries of a model's `metadata_props`, to be appended to a file that is already written: the
/// fields of a message may come in any order.
pub(crate) fn metadata_fields(entries: &[(&str, String)]) -> Vec<u8> {
    let entry = |(key, value): &(&str, String)| pb::StringStringEntryProto {
        key: (*key).to_owned(),
        value: value.clone(),
    };
    pb::ModelProto {
        metadata_props: entries.iter().map(entry).collect(),
        ..pb::ModelProto::default()
    }
    .encode_to_vec()
}
