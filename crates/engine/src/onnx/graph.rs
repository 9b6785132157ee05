//! A graph that can be searched and edited: who produces a value, who consumes it, and whether it
//! is constant.

use super::attributes::{attribute_int, attribute_ints};
use super::constant::{Constant, ElementType};
use super::file::OnnxFile;
use super::index::Index;
use super::mapped::TensorData;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb;

/// Nodes that may stand between a constant and its reader; exporters write one or two.
const MAX_BEHIND: usize = 16;

/// Between the name of a value and what was made beside it; no exporter writes it.
pub(crate) const DERIVED: &str = " · ";

/// The editable graph of a model.
#[derive(Clone)]
pub(crate) struct Graph {
    /// Without nodes and initialisers, which are below.
    model: pb::ModelProto,
    pub(crate) nodes: Vec<pb::NodeProto>,
    initializers: HashMap<String, pb::TensorProto>,
    data: HashMap<String, TensorData>,
    outputs: Vec<String>,
    ambiguous: bool,
}

impl Graph {
    pub(crate) fn new(file: OnnxFile) -> Self {
        let mut model = file.model;
        let graph = model.graph.get_or_insert_default();
        let mut nodes = std::mem::take(&mut graph.node);
        // Nobody needs a node that computes nothing; only a damaged file has one.
        nodes.retain(|node| !node.output.is_empty());
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
            ambiguous: false,
        };
        new.ambiguous = new.has_derived_names();
        new.name_nodes();
        new
    }

    /// The inputs that must be fed, as the file declares them.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &pb::ValueInfoProto> {
        let all = self.model.graph.iter().flat_map(|g| &g.input);
        all.filter(|v| !self.initializers.contains_key(&v.name))
    }

    /// Leaves the part between `inputs`, which become the graph's inputs, and `output`.
    pub(crate) fn cut(&mut self, inputs: &[String], output: &str) {
        let is_input = |name: &String| inputs.contains(name);
        self.nodes.retain(|n| !n.output.iter().any(is_input));
        self.outputs = vec![output.to_owned()];
        self.drop_unused();
        let graph = self.model.graph.get_or_insert_default();
        let declared = std::mem::take(&mut graph.input);
        let of_file = |name: &String| declared.iter().find(|d| d.name == *name).cloned();
        let value = |name: &String| of_file(name).unwrap_or_else(|| float_value(name));
        graph.input = inputs.iter().map(value).collect();
        graph.output = vec![float_value(output)];
    }

    /// A name for what the rewrite makes beside the value `of`.
    pub(crate) fn derived(of: &str, what: &str) -> String {
        format!("{of}{DERIVED}{what}")
    }

    /// Whether the file itself has names like [`Self::derived`]: nothing can be made beside its values then.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    fn has_derived_names(&self) -> bool {
        let values = self
            .nodes
            .iter()
            .flat_map(|n| n.input.iter().chain(&n.output));
        let declared = self
            .model
            .graph
            .iter()
            .flat_map(|g| &g.input)
            .map(|v| &v.name);
        let mut names = values.chain(self.initializers.keys()).chain(declared);
        names.any(|name| name.contains(DERIVED))
    }

    /// Version of ONNX's operators.
    pub(crate) fn opset(&self) -> i64 {
        let of_onnx = |o: &&pb::OperatorSetIdProto| o.domain.is_empty() || o.domain == "ai.onnx";
        let opset = self.model.opset_import.iter().find(of_onnx);
        opset.map_or(0, |o| o.version)
    }

    /// Names every node after its first output, which is unique.
    fn name_nodes(&mut self) {
        for node in &mut self.nodes {
            if let Some(output) = node.output.iter().find(|o| !o.is_empty()) {
                node.name.clone_from(output);
            }
        }
    }

    /// Drops whatever `output` does not need; does nothing if the graph has no such value.
    pub(crate) fn keep_only(&mut self, output: &str) {
        if self
            .nodes
            .iter()
            .any(|n| n.output.iter().any(|o| o == output))
        {
            self.outputs = vec![output.to_owned()];
            self.drop_unused();
        }
    }

    /// Producers and consumers of every value, as the graph is now.
    pub(crate) fn index(&self) -> Index {
        Index::new(&self.nodes, &self.outputs)
    }

    /// The value `name` if it is constant: an initialiser or a `Constant`, possibly behind
    /// `Identity`, `Transpose` or a `Cast` between floats.
    pub(crate) fn constant(&self, index: &Index, name: &str) -> Option<Constant> {
        self.constant_behind(index, name, MAX_BEHIND)
    }

    /// Looks behind at most `depth` nodes: a damaged graph may be a long chain of them, or a ring.
    fn constant_behind(&self, index: &Index, name: &str, depth: usize) -> Option<Constant> {
        let depth = depth.checked_sub(1)?;
        if let Some(tensor) = self.initializers.get(name) {
            return Constant::new(tensor, self.data.get(name));
        }
        let node = &self.nodes[index.producer(name)?];
        match node.op_type.as_str() {
            "Identity" => self.constant_behind(index, node.input.first()?, depth),
            "Constant" => of_constant_node(node),
            // From float to float: readers convert the elements anyway.
            "Cast" if matches!(attribute_int(node, "to"), Some(1)) => {
                let constant = self.constant_behind(index, node.input.first()?, depth)?;
                matches!(constant.element, ElementType::F32 | ElementType::F16).then_some(constant)
            }
            "Transpose" => self
                .constant_behind(index, node.input.first()?, depth)?
                .transposed(attribute_ints(node, "perm")),
            _ => None,
        }
    }

    /// The value of a constant that has only one.
    pub(crate) fn scalar(&self, index: &Index, name: &str) -> Option<f32> {
        let constant = self.constant(index, name)?;
        (constant.len() == 1).then(|| constant.floats()[0])
    }

    /// The initialisers, large ones without their data.
    pub(crate) fn initializers(&self) -> impl Iterator<Item = &pb::TensorProto> {
        self.initializers.values()
    }

    /// Names of the initialisers that are stored as sparse tensors.
    pub(crate) fn sparse_names(&self) -> HashSet<&str> {
        let all = self.model.graph.iter().flat_map(|g| &g.sparse_initializer);
        all.filter_map(|t| Some(t.values.as_ref()?.name.as_str()))
            .collect()
    }

    pub(crate) fn initializer_names(&self) -> HashSet<String> {
        self.initializers.keys().cloned().collect()
    }

    /// Adds an initialiser that holds its own data, or replaces the one of that name.
    pub(crate) fn add_initializer(&mut self, tensor: pb::TensorProto) {
        self.data.remove(&tensor.name);
        self.initializers.insert(tensor.name.clone(), tensor);
    }

    /// Puts `node` in the place of the node at `at`.
    pub(crate) fn replace(&mut self, at: usize, node: pb::NodeProto) {
        self.nodes[at] = node;
    }

    /// Drops every node and initialiser that no output of the graph needs.
    pub(crate) fn drop_unused(&mut self) {
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

    /// Size of all initialisers together.
    pub(crate) fn initializer_bytes(&self) -> usize {
        let size = |t: &pb::TensorProto| {
            self.data
                .get(&t.name)
                .map_or(t.raw_data.len(), |d| d.bytes().len())
        };
        self.initializers.values().map(size).sum()
    }

    /// The graph as an ONNX model that holds the data of all its initialisers.
    pub(crate) fn to_model(&self) -> pb::ModelProto {
        let mut model = self.model.clone();
        let graph = model.graph.get_or_insert_default();
        graph.node.clone_from(&self.nodes);
        graph.output.retain(|o| self.outputs.contains(&o.name));
        graph.initializer = self
            .initializers
            .values()
            .map(|tensor| self.with_data(tensor))
            .collect();
        graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
        graph.value_info.clear();
        model
    }

    /// An initialiser with its data.
    fn with_data(&self, tensor: &pb::TensorProto) -> pb::TensorProto {
        let mut tensor = tensor.clone();
        if let Some(data) = self.data.get(&tensor.name) {
            tensor.raw_data = data.bytes().to_vec();
            data.release();
        }
        tensor
    }
}

/// An f32 value of unknown shape.
fn float_value(name: &str) -> pb::ValueInfoProto {
    let tensor = pb::type_proto::Tensor {
        elem_type: pb::tensor_proto::DataType::Float as i32,
        shape: None,
    };
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(tensor)),
            ..pb::TypeProto::default()
        }),
        ..pb::ValueInfoProto::default()
    }
}

/// The constant of a `Constant` node.
fn of_constant_node(node: &pb::NodeProto) -> Option<Constant> {
    let attribute = node.attribute.first()?;
    match attribute.name.as_str() {
        "value" => Constant::new(attribute.t.as_ref()?, None),
        "value_float" => Some(Constant::owned(
            vec![],
            ElementType::F32,
            attribute.f.to_le_bytes().to_vec(),
        )),
        "value_int" => Some(Constant::owned(
            vec![],
            ElementType::I64,
            attribute.i.to_le_bytes().to_vec(),
        )),
        "value_ints" => Some(Constant::owned(
            vec![attribute.ints.len()],
            ElementType::I64,
            attribute
                .ints
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
        )),
        _ => None,
    }
}
