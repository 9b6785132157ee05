//! Edits the graph of a tower: int8 products take the form that ONNX Runtime's `quantize_dynamic`
//! writes, int8 weights of convolutions stand behind `DequantizeLinear`, and other large weights are stored in fp16 behind a `Cast`. Names, inputs, outputs and
//! all other nodes stay.

mod convolution;

use super::layers::{Group, Layer, captured};
use super::weights::Int8Weights;
use crate::onnx::{Graph, Index, OnnxFile, TensorData, nth_input, pb};
use crate::spec::NormSpec;
use half::f16;
use pb::attribute_proto::AttributeType;
use pb::tensor_proto::DataType;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Tensors with fewer elements stay in f32: fp16 would save nothing.
const MIN_FP16_ELEMENTS: i64 = 1024;

/// The largest relative change of a tensor by rounding to fp16, twice what weights of ordinary
/// magnitudes have. Tensors that change more, such as those of values too small for fp16, stay in
/// f32.
const MAX_ROUNDING_ERROR: f64 = 5e-4;

/// Operators that only prepare constants; they are removed when nothing reads their output.
const CONSTANT_OPS: [&str; 4] = ["Constant", "Identity", "Cast", "Transpose"];

/// Positions of a node and of one of its inputs.
type Operand = (usize, usize);

/// A model whose graph is being edited.
pub(super) struct GraphEditor {
    file: OnnxFile,
    /// The original graph, to look up constants.
    graph: Graph,
    index: Index,
    nodes: Vec<pb::NodeProto>,
    /// The nodes that replace a node, by the name of its first output.
    replaced: HashMap<String, Vec<pb::NodeProto>>,
    /// Casts of weights that are stored in fp16; they precede all other nodes.
    casts: Vec<pb::NodeProto>,
    initializers: Vec<pb::TensorProto>,
    /// All names in use.
    names: HashSet<String>,
    fp16_tensors: usize,
}

impl GraphEditor {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let mut file = OnnxFile::open(path)?;
        let graph = Graph::new(OnnxFile::open(path)?);
        let index = graph.index();
        let proto = file.model.graph.get_or_insert_default();
        let nodes = std::mem::take(&mut proto.node);
        let initializers = std::mem::take(&mut proto.initializer);
        let mut names: HashSet<String> = initializers.iter().map(|t| t.name.clone()).collect();
        names.extend(proto.input.iter().map(|i| i.name.clone()));
        names.extend(
            nodes
                .iter()
                .flat_map(|n| n.output.iter().chain(&n.input).chain([&n.name]))
                .cloned(),
        );
        names.extend(captured(&file.model));
        Ok(Self {
            file,
            graph,
            index,
            nodes,
            replaced: HashMap::new(),
            casts: Vec::new(),
            initializers,
            names,
            fp16_tensors: 0,
        })
    }

    /// Number of tensors that were moved to fp16.
    pub(super) fn fp16_tensors(&self) -> usize {
        self.fp16_tensors
    }

    /// A name like `wanted` that is not in use.
    fn unused_name(&mut self, wanted: String) -> String {
        let mut name = wanted;
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }

    fn add_initializer(&mut self, name: &str, kind: DataType, dims: &[usize], bytes: Vec<u8>) {
        self.initializers.push(pb::TensorProto {
            name: name.to_owned(),
            data_type: kind as i32,
            dims: dims.iter().filter_map(|&d| i64::try_from(d).ok()).collect(),
            ..pb::TensorProto::default()
        });
        self.file
            .data
            .insert(name.to_owned(), TensorData::Owned(Arc::new(bytes)));
    }

    fn add_floats(&mut self, name: &str, values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.add_initializer(name, DataType::Float, &[values.len()], bytes);
    }

    /// Replaces the layers of `group` by int8 products with these weights.
    pub(super) fn quantise(&mut self, group: &Group, weights: Vec<Int8Weights>) {
        let x = &group.input;
        let input =
            ["quantized", "scale", "zero_point"].map(|s| self.unused_name(format!("{x}_{s}")));
        let name = self.unused_name(format!("{x}_QuantizeLinear"));
        // The layers share the quantised input; its node comes before the first of them.
        let [q, scale, zero] = &input;
        let mut nodes = vec![node("DynamicQuantizeLinear", name, &[x], &[q, scale, zero])];
        for (layer, int8) in group.layers.iter().zip(weights) {
            let Some(at) = self
                .nodes
                .iter()
                .position(|n| n.output.first() == Some(&layer.output))
            else {
                continue;
            };
            let product = self.nodes[at].clone();
            nodes.extend(self.int8_product(&product, layer, &input, &int8));
            self.replaced
                .insert(layer.output.clone(), std::mem::take(&mut nodes));
        }
    }

    /// The nodes that replace `product`; `input` is the quantised input with its scale and zero
    /// point.
    fn int8_product(
        &mut self,
        product: &pb::NodeProto,
        layer: &Layer,
        [q, scale, zero]: &[String; 3],
        int8: &Int8Weights,
    ) -> Vec<pb::NodeProto> {
        let (y, w) = (&layer.output, nth_input(product, 1));
        let weight =
            ["quantized", "scale", "zero_point"].map(|s| self.unused_name(format!("{w}_{s}")));
        let [sums, floats, scales] = ["output_quantized", "output_quantized_cast", "scales"]
            .map(|s| self.unused_name(format!("{y}_{s}")));
        self.add_initializer(
            &weight[0],
            DataType::Int8,
            &[layer.depth, layer.columns],
            int8.values.iter().map(|b| b.cast_unsigned()).collect(),
        );
        self.add_floats(&weight[1], &int8.scales);
        self.add_initializer(
            &weight[2],
            DataType::Int8,
            &[layer.columns],
            vec![0; layer.columns],
        );
        // The bias of a Gemm becomes an addition.
        let bias = product.input.get(2).filter(|b| !b.is_empty());
        let result = match bias {
            Some(_) => self.unused_name(format!("{y}_product")),
            None => y.clone(),
        };
        let [integer, cast, combine, scaled] = [
            "quant",
            "quant_cast",
            "quant_scales_mul",
            "quant_output_scale_mul",
        ]
        .map(|s| self.unused_name(format!("{}_{s}", layer.name)));
        let mut nodes = vec![
            node(
                "MatMulInteger",
                integer,
                &[q, &weight[0], zero, &weight[2]],
                &[&sums],
            ),
            cast_to_float(cast, &sums, &floats),
            node("Mul", combine, &[scale, &weight[1]], &[&scales]),
            node("Mul", scaled, &[&floats, &scales], &[&result]),
        ];
        if let Some(bias) = bias {
            nodes.push(node("Add", product.name.clone(), &[&result, bias], &[y]));
        }
        nodes
    }

    /// Divides the gain and shift of a normalisation by `factors`; false if they are not found.
    pub(super) fn fold(&mut self, norm: &NormSpec, factors: &[f32]) -> bool {
        let divided = |values: &[f32]| {
            values
                .iter()
                .zip(factors)
                .map(|(v, f)| v / f)
                .collect::<Vec<f32>>()
        };
        let Some((gain, shift)) = self.norm_operands(&norm.name) else {
            return false;
        };
        let operands = [
            (Some(gain), "gain", &norm.gain),
            (shift, "shift", &norm.shift),
        ];
        for (operand, kind, values) in operands {
            let Some((node, slot)) = operand else {
                continue;
            };
            let name = self.unused_name(format!("{}_{kind}_smoothed", norm.name));
            self.add_floats(&name, &divided(values));
            self.nodes[node].input[slot] = name;
        }
        true
    }

    /// The gain and the shift, if there is one, of a normalisation.
    fn norm_operands(&self, name: &str) -> Option<(Operand, Option<Operand>)> {
        let at = self.index.producer(name)?;
        let node = &self.nodes[at];
        if node.op_type == "LayerNormalization" {
            let shift = node.input.get(2).filter(|s| !s.is_empty());
            return Some(((at, 1), shift.map(|_| (at, 2))));
        }
        // Written as single operations: the last are a multiplication by the gain and an addition
        // of the shift.
        let constant = |at: usize| {
            (0..2).find(|&slot| {
                self.graph
                    .constant(&self.index, nth_input(&self.nodes[at], slot))
                    .is_some()
            })
        };
        let shift = constant(at)?;
        let multiplied = self.index.producer(nth_input(node, 1 - shift))?;
        Some(((multiplied, constant(multiplied)?), Some((at, shift))))
    }

    /// Stores large weights that are still in f32 in fp16.
    pub(super) fn store_large_weights_as_fp16(&mut self) {
        let used = self.used();
        for i in 0..self.initializers.len() {
            if !used.contains(&self.initializers[i].name) {
                continue;
            }
            let name = self.initializers[i].name.clone();
            let Some(bytes) = self.to_fp16(&name, &self.initializers[i]) else {
                continue;
            };
            let stored = self.unused_name(format!("{name}_fp16"));
            let cast = self.unused_name(format!("{name}_cast"));
            self.casts.push(cast_to_float(cast, &stored, &name));
            let dims = std::mem::take(&mut self.initializers[i].dims);
            self.file.data.remove(&name);
            self.file
                .data
                .insert(stored.clone(), TensorData::Owned(Arc::new(bytes)));
            self.initializers[i] = pb::TensorProto {
                name: stored,
                data_type: DataType::Float16 as i32,
                dims,
                ..pb::TensorProto::default()
            };
            self.fp16_tensors += 1;
        }
        for i in 0..self.nodes.len() {
            self.store_constant_node_as_fp16(i, &used);
        }
    }

    /// The same for weights in a `Constant` node, where some exporters put them.
    fn store_constant_node_as_fp16(&mut self, at: usize, used: &HashSet<String>) {
        let mut constant = self.nodes[at].clone();
        let tensor = constant
            .attribute
            .first()
            .and_then(|a| a.t.as_ref())
            .filter(|_| constant.op_type == "Constant");
        let (Some(tensor), Some(name)) = (tensor, constant.output.first().cloned()) else {
            return;
        };
        let Some(bytes) = self.to_fp16(&name, tensor).filter(|_| used.contains(&name)) else {
            return;
        };
        let stored = self.unused_name(format!("{name}_fp16"));
        let cast = self.unused_name(format!("{name}_cast"));
        constant.attribute[0].t = Some(pb::TensorProto {
            data_type: DataType::Float16 as i32,
            dims: tensor.dims.clone(),
            raw_data: bytes,
            ..pb::TensorProto::default()
        });
        constant.output[0].clone_from(&stored);
        self.replaced.insert(
            name.clone(),
            vec![constant, cast_to_float(cast, &stored, &name)],
        );
        self.fp16_tensors += 1;
    }

    /// The data of a tensor in fp16, if it is large and changes little enough.
    fn to_fp16(&self, name: &str, tensor: &pb::TensorProto) -> Option<Vec<u8>> {
        let large = tensor.dims.iter().product::<i64>() >= MIN_FP16_ELEMENTS;
        if tensor.data_type != DataType::Float as i32 || tensor.dims.len() < 2 || !large {
            return None;
        }
        let constant = self.graph.constant(&self.index, name)?;
        let values = constant.floats();
        constant.data.release();
        let (mut error, mut size) = (0.0, 0.0);
        let mut bytes = Vec::with_capacity(values.len() * 2);
        for value in values {
            let rounded = f16::from_f32(value);
            bytes.extend(rounded.to_le_bytes());
            error += f64::from(rounded.to_f32() - value).powi(2);
            size += f64::from(value).powi(2);
        }
        (error.is_finite() && error.sqrt() <= MAX_ROUNDING_ERROR * size.sqrt()).then_some(bytes)
    }

    /// Every value that a node, a branch or loop, or an output of the graph reads.
    fn used(&self) -> HashSet<String> {
        let nodes = self.nodes.iter().filter(|n| {
            n.output
                .first()
                .is_none_or(|o| !self.replaced.contains_key(o))
        });
        let all = nodes
            .chain(self.replaced.values().flatten())
            .chain(&self.casts);
        let mut used: HashSet<String> = all.flat_map(|n| n.input.iter().cloned()).collect();
        used.extend(
            self.file
                .model
                .graph
                .iter()
                .flat_map(|g| &g.output)
                .map(|o| o.name.clone()),
        );
        let inner = pb::GraphProto {
            node: self.nodes.clone(),
            ..pb::GraphProto::default()
        };
        used.extend(captured(&pb::ModelProto {
            graph: Some(inner),
            ..pb::ModelProto::default()
        }));
        used
    }

    /// The edited model, without constants that nothing reads any more.
    pub(super) fn finish(mut self) -> OnnxFile {
        let used = self.drop_unread_constants();
        self.initializers.retain(|t| used.contains(&t.name));
        let kept: HashSet<&str> = self.initializers.iter().map(|t| t.name.as_str()).collect();
        self.file
            .data
            .retain(|name, _| kept.contains(name.as_str()));
        let old = self.graph.initializer_names();
        let mut nodes = self.casts;
        for node in self.nodes {
            match node.output.first().and_then(|o| self.replaced.remove(o)) {
                Some(new) => nodes.extend(new),
                None => nodes.push(node),
            }
        }
        let made: HashSet<&str> = nodes
            .iter()
            .flat_map(|n| n.output.iter().map(String::as_str))
            .collect();
        let graph = self.file.model.graph.get_or_insert_default();
        // Old files list their initialisers among the inputs.
        graph
            .input
            .retain(|i| kept.contains(i.name.as_str()) || !old.contains(&i.name));
        graph.value_info.retain(|v| made.contains(v.name.as_str()));
        graph.node = nodes;
        graph.initializer = self.initializers;
        self.file
    }

    /// Drops the nodes that prepare constants which nothing reads any more; returns all values that
    /// are still read.
    fn drop_unread_constants(&mut self) -> HashSet<String> {
        loop {
            let used = self.used();
            let before = self.nodes.len();
            self.nodes.retain(|n| {
                !CONSTANT_OPS.contains(&n.op_type.as_str())
                    || n.output.iter().any(|o| used.contains(o))
            });
            if self.nodes.len() == before {
                return used;
            }
        }
    }
}

fn node(kind: &str, name: String, inputs: &[&String], outputs: &[&String]) -> pb::NodeProto {
    pb::NodeProto {
        op_type: kind.to_owned(),
        name,
        input: inputs.iter().map(|s| (*s).clone()).collect(),
        output: outputs.iter().map(|s| (*s).clone()).collect(),
        ..pb::NodeProto::default()
    }
}

fn cast_to_float(name: String, from: &String, to: &String) -> pb::NodeProto {
    let attribute = pb::AttributeProto {
        name: "to".to_owned(),
        r#type: AttributeType::Int as i32,
        i: DataType::Float as i64,
        ..pb::AttributeProto::default()
    };
    pb::NodeProto {
        attribute: vec![attribute],
        ..node("Cast", name, &[from], &[to])
    }
}
