//! Turns a tower's graph into what is written: products in the form that ONNX Runtime's `quantize_dynamic` gives, other
//! large weights in halves behind a `Cast`. Names, inputs, outputs and every other node stay.

use super::super::onnx::{Graph, Index, OnnxFile, Slice, pb};
use super::super::rewrite::NormSpec;
use super::layers::{Group, captured};
use super::measure::Bytes;
use half::f16;
use pb::attribute_proto::AttributeType;
use pb::tensor_proto::DataType;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Smaller tensors stay in f32: halving them saves nothing.
const LEAST_HALVED: usize = 1024;

/// The most that rounding to halves may change a tensor, relative to its size: twice what it does to weights of
/// ordinary magnitudes. Others, such as those below the smallest half, stay in f32.
const MOST_ROUNDING: f64 = 5e-4;

/// Operators that only prepare constants, and go when nothing reads them.
const PREPARATORY: [&str; 4] = ["Constant", "Identity", "Cast", "Transpose"];

/// A model that is being changed.
pub(super) struct Edit {
    file: OnnxFile,
    /// The graph as it was, to find constants in.
    graph: Graph,
    index: Index,
    nodes: Vec<pb::NodeProto>,
    /// What stands in the place of the node that makes a value.
    replaced: HashMap<String, Vec<pb::NodeProto>>,
    /// Casts of stored halves, before everything else.
    casts: Vec<pb::NodeProto>,
    initializers: Vec<pb::TensorProto>,
    names: HashSet<String>,
    /// Tensors that are stored in halves now.
    pub(super) halved: usize,
}

impl Edit {
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
            halved: 0,
        })
    }

    /// A name like `wanted` that nothing has.
    fn fresh(&mut self, wanted: String) -> String {
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
            .insert(name.to_owned(), Slice::Owned(Arc::new(bytes)));
    }

    fn add_floats(&mut self, name: &str, values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.add_initializer(name, DataType::Float, &[values.len()], bytes);
    }

    /// Puts the products of `group` in bytes.
    pub(super) fn quantise(&mut self, group: &Group, weights: Vec<Bytes>) {
        let x = &group.input;
        let [quantised, scale, zero] =
            ["quantized", "scale", "zero_point"].map(|s| self.fresh(format!("{x}_{s}")));
        let name = self.fresh(format!("{x}_QuantizeLinear"));
        let first = node(
            "DynamicQuantizeLinear",
            name,
            &[x],
            &[&quantised, &scale, &zero],
        );
        let mut before = vec![first];
        for (layer, bytes) in group.layers.iter().zip(weights) {
            let Some(at) = self
                .nodes
                .iter()
                .position(|n| n.output.first() == Some(&layer.output))
            else {
                continue;
            };
            let product = self.nodes[at].clone();
            let (y, w) = (&layer.output, &product.input[1]);
            let weight =
                ["quantized", "scale", "zero_point"].map(|s| self.fresh(format!("{w}_{s}")));
            let of_output = |s: &str| format!("{y}_{s}");
            let [sums, floats, scales] = ["output_quantized", "output_quantized_cast", "scales"]
                .map(|s| self.fresh(of_output(s)));
            self.add_initializer(
                &weight[0],
                DataType::Int8,
                &[layer.depth, layer.columns],
                bytes.values.iter().map(|b| b.cast_unsigned()).collect(),
            );
            self.add_floats(&weight[1], &bytes.scales);
            self.add_initializer(
                &weight[2],
                DataType::Int8,
                &[layer.columns],
                vec![0; layer.columns],
            );
            // A Gemm's bias becomes an addition.
            let bias = product.input.get(2).filter(|b| !b.is_empty());
            let result = match bias {
                Some(_) => self.fresh(of_output("product")),
                None => y.clone(),
            };
            let [integer, cast, combine, scaled] = [
                "quant",
                "quant_cast",
                "quant_scales_mul",
                "quant_output_scale_mul",
            ]
            .map(|s| self.fresh(format!("{}_{s}", layer.name)));
            before.push(node(
                "MatMulInteger",
                integer,
                &[&quantised, &weight[0], &zero, &weight[2]],
                &[&sums],
            ));
            before.push(cast_to_float(cast, &sums, &floats));
            before.push(node("Mul", combine, &[&scale, &weight[1]], &[&scales]));
            before.push(node("Mul", scaled, &[&floats, &scales], &[&result]));
            if let Some(bias) = bias {
                before.push(node("Add", product.name.clone(), &[&result, bias], &[y]));
            }
            self.replaced.insert(y.clone(), std::mem::take(&mut before));
        }
    }

    /// Divides a normalisation's gain and shift by `factors`; `false` where its operands are not found.
    pub(super) fn fold(&mut self, norm: &NormSpec, factors: &[f32]) -> bool {
        let divided = |values: &[f32]| {
            values
                .iter()
                .zip(factors)
                .map(|(v, f)| v / f)
                .collect::<Vec<f32>>()
        };
        let Some(places) = self.operands(&norm.name) else {
            return false;
        };
        let of = [
            (places.0, "gain", divided(&norm.gain)),
            (places.1, "shift", divided(&norm.shift)),
        ];
        for (place, what, values) in of {
            // Without a shift there is none to divide.
            let Some((node, slot)) = place else { continue };
            let name = self.fresh(format!("{}_{what}_smoothed", norm.name));
            self.add_floats(&name, &values);
            self.nodes[node].input[slot] = name;
        }
        true
    }

    /// Where a normalisation's gain and shift stand: node and input.
    #[allow(clippy::type_complexity, reason = "two places")]
    fn operands(&self, name: &str) -> Option<(Option<(usize, usize)>, Option<(usize, usize)>)> {
        let at = self.index.producer(name)?;
        let node = &self.nodes[at];
        if node.op_type == "LayerNormalization" {
            let shift = node.input.get(2).filter(|s| !s.is_empty());
            return Some((Some((at, 1)), shift.map(|_| (at, 2))));
        }
        // Spelled out: the addition of the shift to the multiplication with the gain.
        let constant = |at: usize| {
            (0..2).find(|&slot| {
                self.graph
                    .constant(&self.index, &self.nodes[at].input[slot])
                    .is_some()
            })
        };
        let shift = constant(at)?;
        let multiplied = self.index.producer(&node.input[1 - shift])?;
        Some((Some((multiplied, constant(multiplied)?)), Some((at, shift))))
    }

    /// Puts large weights that are still in f32 in halves.
    pub(super) fn halve(&mut self) {
        let used = self.used();
        for i in 0..self.initializers.len() {
            if !used.contains(&self.initializers[i].name) {
                continue;
            }
            let name = self.initializers[i].name.clone();
            let Some(bytes) = self.halves(&name, &self.initializers[i]) else {
                continue;
            };
            let stored = self.fresh(format!("{name}_fp16"));
            let cast = self.fresh(format!("{name}_cast"));
            self.casts.push(cast_to_float(cast, &stored, &name));
            let dims = std::mem::take(&mut self.initializers[i].dims);
            self.file.data.remove(&name);
            self.file
                .data
                .insert(stored.clone(), Slice::Owned(Arc::new(bytes)));
            self.initializers[i] = pb::TensorProto {
                name: stored,
                data_type: DataType::Float16 as i32,
                dims,
                ..pb::TensorProto::default()
            };
            self.halved += 1;
        }
        for i in 0..self.nodes.len() {
            self.halve_constant(i, &used);
        }
    }

    /// The same for weights in a `Constant`, as some exporters write them.
    fn halve_constant(&mut self, at: usize, used: &HashSet<String>) {
        let mut constant = self.nodes[at].clone();
        let tensor = constant
            .attribute
            .first()
            .and_then(|a| a.t.as_ref())
            .filter(|_| constant.op_type == "Constant");
        let (Some(tensor), Some(name)) = (tensor, constant.output.first().cloned()) else {
            return;
        };
        let Some(bytes) = self.halves(&name, tensor).filter(|_| used.contains(&name)) else {
            return;
        };
        let stored = self.fresh(format!("{name}_fp16"));
        let cast = self.fresh(format!("{name}_cast"));
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
        self.halved += 1;
    }

    /// A tensor in halves, if that is worth it and changes it little enough.
    fn halves(&self, name: &str, tensor: &pb::TensorProto) -> Option<Vec<u8>> {
        let large = tensor.dims.iter().product::<i64>() >= i64::try_from(LEAST_HALVED).ok()?;
        if tensor.data_type != DataType::Float as i32 || tensor.dims.len() < 2 || !large {
            return None;
        }
        let constant = self.graph.constant(&self.index, name)?;
        let values = constant.floats();
        constant.data.forget();
        let (mut error, mut size) = (0.0, 0.0);
        let mut bytes = Vec::with_capacity(values.len() * 2);
        for value in values {
            let half = f16::from_f32(value);
            bytes.extend(half.to_le_bytes());
            error += f64::from(half.to_f32() - value).powi(2);
            size += f64::from(value).powi(2);
        }
        (error.is_finite() && error.sqrt() <= MOST_ROUNDING * size.sqrt()).then_some(bytes)
    }

    /// Every value that something reads.
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

    /// The model, without what nothing reads any more.
    pub(super) fn finish(mut self) -> OnnxFile {
        let mut used = self.used();
        loop {
            let before = self.nodes.len();
            let idle = |n: &pb::NodeProto| {
                PREPARATORY.contains(&n.op_type.as_str())
                    && n.output.iter().all(|o| !used.contains(o))
            };
            self.nodes.retain(|n| !idle(n));
            if self.nodes.len() == before {
                break;
            }
            used = self.used();
        }
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
