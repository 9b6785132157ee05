//! A graph that can be asked who makes a value, who takes it, and whether it is constant, and that can be edited.

use super::file::{OnnxFile, Slice};
use super::pb;
use pb::tensor_proto::DataType;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What a constant's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Element {
    F32,
    F16,
    I8,
    U8,
    I32,
    I64,
}

impl Element {
    fn of(data_type: i32) -> Option<Self> {
        Some(match DataType::try_from(data_type).ok()? {
            DataType::Float => Self::F32,
            DataType::Float16 => Self::F16,
            DataType::Int8 => Self::I8,
            DataType::Uint8 => Self::U8,
            DataType::Int32 => Self::I32,
            DataType::Int64 => Self::I64,
            _ => return None,
        })
    }

    pub(in super::super) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// A tensor that does not depend on the input.
#[derive(Clone)]
pub(in super::super) struct Constant {
    pub(in super::super) shape: Vec<usize>,
    pub(in super::super) element: Element,
    pub(in super::super) data: Slice,
}

impl Constant {
    fn new(tensor: &pb::TensorProto, data: Option<&Slice>) -> Option<Self> {
        let element = Element::of(tensor.data_type)?;
        let shape = tensor
            .dims
            .iter()
            .map(|&d| usize::try_from(d).ok())
            .collect::<Option<Vec<usize>>>()?;
        let data = data
            .cloned()
            .unwrap_or_else(|| Slice::Owned(Arc::new(typed_bytes(tensor, element))));
        let len = shape.iter().product::<usize>() * element.size();
        (data.bytes().len() == len).then_some(Self {
            shape,
            element,
            data,
        })
    }

    pub(in super::super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Numbers of any kind as f32.
    pub(in super::super) fn floats(&self) -> Vec<f32> {
        let bytes = self.data.bytes();
        match self.element {
            Element::F32 => bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            Element::F16 => bytes
                .chunks_exact(2)
                .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            Element::I8 => bytes.iter().map(|&b| f32::from(b.cast_signed())).collect(),
            Element::U8 => bytes.iter().map(|&b| f32::from(b)).collect(),
            Element::I32 | Element::I64 => self.integers().iter().map(|&i| i as f32).collect(),
        }
    }

    /// Integers of any width; floats give nothing.
    pub(in super::super) fn integers(&self) -> Vec<i64> {
        let bytes = self.data.bytes();
        match self.element {
            Element::I8 => bytes.iter().map(|&b| i64::from(b.cast_signed())).collect(),
            Element::U8 => bytes.iter().map(|&b| i64::from(b)).collect(),
            Element::I32 => bytes
                .chunks_exact(4)
                .map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                .collect(),
            Element::I64 => bytes
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
                .collect(),
            Element::F32 | Element::F16 => Vec::new(),
        }
    }
}

/// A tensor's elements as little-endian bytes, from whichever field holds them.
fn typed_bytes(tensor: &pb::TensorProto, element: Element) -> Vec<u8> {
    if !tensor.raw_data.is_empty() {
        return tensor.raw_data.clone();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as onnx.proto stores narrow types"
    )]
    match element {
        Element::F32 => tensor
            .float_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Element::F16 => tensor
            .int32_data
            .iter()
            .flat_map(|&v| (v as u16).to_le_bytes())
            .collect(),
        Element::I8 | Element::U8 => tensor.int32_data.iter().map(|&v| v as u8).collect(),
        Element::I32 => tensor
            .int32_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        Element::I64 => tensor
            .int64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
    }
}

/// The editable graph.
pub(in super::super) struct Graph {
    pub(in super::super) model: pb::ModelProto,
    pub(in super::super) nodes: Vec<pb::NodeProto>,
    initializers: HashMap<String, pb::TensorProto>,
    data: HashMap<String, Slice>,
    outputs: Vec<String>,
}

impl Graph {
    pub(in super::super) fn new(file: OnnxFile) -> Self {
        let mut model = file.model;
        let graph = model.graph.get_or_insert_default();
        let nodes = std::mem::take(&mut graph.node);
        let initializers = std::mem::take(&mut graph.initializer)
            .into_iter()
            .map(|t| (t.name.clone(), t))
            .collect();
        let outputs = graph.output.iter().map(|o| o.name.clone()).collect();
        let mut new = Self {
            model,
            nodes,
            initializers,
            data: file.data,
            outputs,
        };
        new.name_nodes();
        new
    }

    /// Names by which nodes can be told apart: their first outputs.
    fn name_nodes(&mut self) {
        for node in &mut self.nodes {
            if let Some(output) = node.output.iter().find(|o| !o.is_empty()) {
                node.name.clone_from(output);
            }
        }
    }

    /// Keeps what `output` needs, if the graph has it.
    pub(in super::super) fn keep_only(&mut self, output: &str) {
        if self
            .nodes
            .iter()
            .any(|n| n.output.iter().any(|o| o == output))
        {
            self.outputs = vec![output.to_owned()];
            self.drop_unused();
        }
    }

    /// Who makes and takes every value, as the graph is now.
    pub(in super::super) fn index(&self) -> Index {
        let mut producers = HashMap::new();
        let mut consumers: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            producers.extend(
                node.output
                    .iter()
                    .filter(|o| !o.is_empty())
                    .map(|o| (o.clone(), i)),
            );
            for input in node.input.iter().filter(|o| !o.is_empty()) {
                consumers.entry(input.clone()).or_default().push(i);
            }
        }
        let outputs = self.outputs.iter().cloned().collect();
        Index {
            producers,
            consumers,
            outputs,
        }
    }

    /// The value of an initialiser or `Constant`, also through `Identity`, and of f16 weights through their `Cast`.
    pub(in super::super) fn constant(&self, index: &Index, name: &str) -> Option<Constant> {
        if let Some(tensor) = self.initializers.get(name) {
            return Constant::new(tensor, self.data.get(name));
        }
        let node = &self.nodes[index.producer(name)?];
        match node.op_type.as_str() {
            "Identity" => self.constant(index, node.input.first()?),
            "Constant" => {
                let attribute = node.attribute.first()?;
                match attribute.name.as_str() {
                    "value" => Constant::new(attribute.t.as_ref()?, None),
                    "value_float" => Some(owned(
                        vec![],
                        Element::F32,
                        attribute.f.to_le_bytes().to_vec(),
                    )),
                    "value_int" => Some(owned(
                        vec![],
                        Element::I64,
                        attribute.i.to_le_bytes().to_vec(),
                    )),
                    "value_ints" => {
                        let bytes = attribute
                            .ints
                            .iter()
                            .flat_map(|v| v.to_le_bytes())
                            .collect();
                        Some(owned(vec![attribute.ints.len()], Element::I64, bytes))
                    }
                    _ => None,
                }
            }
            // Floats to floats: what is read of a constant is converted anyway.
            "Cast" if matches!(attribute_int(node, "to"), Some(1)) => {
                let constant = self.constant(index, node.input.first()?)?;
                matches!(constant.element, Element::F32 | Element::F16).then_some(constant)
            }
            "Transpose" => transposed(
                &self.constant(index, node.input.first()?)?,
                attribute_ints(node, "perm"),
            ),
            _ => None,
        }
    }

    /// A constant's single value.
    pub(in super::super) fn scalar(&self, index: &Index, name: &str) -> Option<f32> {
        let constant = self.constant(index, name)?;
        (constant.len() == 1).then(|| constant.floats()[0])
    }

    /// The initialisers' names.
    pub(in super::super) fn initializer_names(&self) -> HashSet<String> {
        self.initializers.keys().cloned().collect()
    }

    /// Adds an f32 or i64 initialiser.
    pub(in super::super) fn add_initializer(&mut self, tensor: pb::TensorProto) {
        self.data.remove(&tensor.name);
        self.initializers.insert(tensor.name.clone(), tensor);
    }

    /// Puts `node` where the node that makes its first output stands.
    pub(in super::super) fn replace(&mut self, at: usize, node: pb::NodeProto) {
        self.nodes[at] = node;
    }

    /// Drops every node and initialiser that no output needs.
    pub(in super::super) fn drop_unused(&mut self) {
        let index = self.index();
        let mut needed: HashSet<usize> = HashSet::new();
        let mut names: HashSet<String> = HashSet::new();
        let mut stack = self.outputs.clone();
        while let Some(name) = stack.pop() {
            if !names.insert(name.clone()) {
                continue;
            }
            if let Some(i) = index.producer(&name)
                && needed.insert(i)
            {
                stack.extend(
                    self.nodes[i]
                        .input
                        .iter()
                        .filter(|n| !n.is_empty())
                        .cloned(),
                );
            }
        }
        let mut i = 0;
        self.nodes.retain(|_| {
            i += 1;
            needed.contains(&(i - 1))
        });
        self.initializers.retain(|name, _| names.contains(name));
        self.data.retain(|name, _| names.contains(name));
    }

    /// Bytes of every initialiser that is left.
    pub(in super::super) fn initializer_bytes(&self) -> usize {
        let size = |t: &pb::TensorProto| {
            self.data
                .get(&t.name)
                .map_or(t.raw_data.len(), |d| d.bytes().len())
        };
        self.initializers.values().map(size).sum()
    }

    /// The graph as a message that tract can read, with every byte that is left in it.
    pub(in super::super) fn to_model(&self) -> pb::ModelProto {
        let mut model = self.model.clone();
        let graph = model.graph.get_or_insert_default();
        graph.node.clone_from(&self.nodes);
        graph.output.retain(|o| self.outputs.contains(&o.name));
        graph.initializer = self
            .initializers
            .values()
            .map(|tensor| self.whole(tensor))
            .collect();
        graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
        graph.value_info.clear();
        model
    }

    /// An initialiser with its data.
    fn whole(&self, tensor: &pb::TensorProto) -> pb::TensorProto {
        let mut tensor = tensor.clone();
        if let Some(data) = self.data.get(&tensor.name) {
            tensor.raw_data = data.bytes().to_vec();
            data.forget();
        }
        tensor
    }
}

fn owned(shape: Vec<usize>, element: Element, bytes: Vec<u8>) -> Constant {
    Constant {
        shape,
        element,
        data: Slice::Owned(Arc::new(bytes)),
    }
}

/// A matrix turned round; no other transposition of constants occurs around products.
fn transposed(constant: &Constant, perm: Option<&[i64]>) -> Option<Constant> {
    let &[rows, columns] = constant.shape.as_slice() else {
        return None;
    };
    if perm.is_some_and(|p| p != [1, 0]) {
        return None;
    }
    let size = constant.element.size();
    let from = constant.data.bytes();
    let mut bytes = Vec::with_capacity(from.len());
    for c in 0..columns {
        for r in 0..rows {
            let at = (r * columns + c) * size;
            bytes.extend_from_slice(&from[at..at + size]);
        }
    }
    constant.data.forget();
    Some(owned(vec![columns, rows], constant.element, bytes))
}

/// Who makes and who takes a value.
pub(in super::super) struct Index {
    producers: HashMap<String, usize>,
    consumers: HashMap<String, Vec<usize>>,
    outputs: HashSet<String>,
}

impl Index {
    pub(in super::super) fn producer(&self, name: &str) -> Option<usize> {
        self.producers.get(name).copied()
    }

    pub(in super::super) fn consumers(&self, name: &str) -> &[usize] {
        self.consumers.get(name).map_or(&[], Vec::as_slice)
    }

    pub(in super::super) fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    /// The only node that takes a value, if one does and the value is no output of the graph.
    pub(in super::super) fn only_consumer(&self, name: &str) -> Option<usize> {
        match self.consumers(name) {
            [one] if !self.outputs.contains(name) => Some(*one),
            _ => None,
        }
    }
}

pub(in super::super) fn attribute_int(node: &pb::NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.i)
}

pub(in super::super) fn attribute_float(node: &pb::NodeProto, name: &str) -> Option<f32> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.f)
}

pub(in super::super) fn attribute_ints<'a>(
    node: &'a pb::NodeProto,
    name: &str,
) -> Option<&'a [i64]> {
    node.attribute
        .iter()
        .find(|a| a.name == name)
        .map(|a| a.ints.as_slice())
}
