//! The quantised file is standard ONNX.

use super::{FLOAT, INT8, decode, fp32, graph, report};
use crate::support::fixture;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// A graph with its tensors by name.
struct Quantised<'a> {
    graph: &'a GraphProto,
    tensors: HashMap<&'a str, &'a TensorProto>,
}

impl<'a> Quantised<'a> {
    fn new(graph: &'a GraphProto) -> Self {
        let tensors = graph.initializer.iter().map(|t| (t.name.as_str(), t));
        Self {
            graph,
            tensors: tensors.collect(),
        }
    }

    /// How many nodes are of a kind.
    fn count(&self, kind: &str) -> usize {
        let nodes = self.graph.node.iter();
        nodes.filter(|n| n.op_type == kind).count()
    }

    /// The node that computes a value.
    fn producer(&self, value: &str) -> &'a NodeProto {
        let mut nodes = self.graph.node.iter();
        let found = nodes.find(|n| n.output.iter().any(|o| o == value));
        found.expect("a producer")
    }

    /// The node whose first input is the value.
    fn consumer(&self, value: &str) -> &'a NodeProto {
        let mut nodes = self.graph.node.iter();
        let found = nodes.find(|n| n.input.first().is_some_and(|i| i == value));
        found.expect("a consumer")
    }

    /// A product of the dynamically quantised input with symmetric weights of one scale per column, cast to fp32 and
    /// multiplied by both scales.
    fn assert_dynamically_quantised(&self, product: &NodeProto) {
        let [x, w, x_zero, w_zero] = [0, 1, 2, 3].map(|i| product.input[i].as_str());
        let quantise = self.producer(x);
        assert_eq!(
            (quantise.op_type.as_str(), quantise.output[2].as_str()),
            ("DynamicQuantizeLinear", x_zero)
        );
        let (weights, zeros) = (self.tensors[w], self.tensors[w_zero]);
        assert_eq!((weights.data_type, zeros.data_type), (INT8, INT8));
        assert_eq!(zeros.dims, [weights.dims[1]], "one for each column");
        assert!(zeros.raw_data.iter().all(|&b| b == 0));
        assert!(
            weights.raw_data.iter().all(|&b| b != 0x80),
            "symmetric: no -128"
        );
        let cast = self.consumer(&product.output[0]);
        assert_eq!(
            (cast.op_type.as_str(), cast_type(cast)),
            ("Cast", Some(i64::from(FLOAT)))
        );
        let scaled = self.consumer(&cast.output[0]);
        let scales = self.producer(&scaled.input[1]);
        assert_eq!(scales.input[0], quantise.output[1]);
        assert_eq!(self.tensors[scales.input[1].as_str()].dims, zeros.dims);
    }

    /// No node reads a value before another computes it.
    fn assert_ordered(&self) {
        let inputs = self.graph.input.iter().map(|i| i.name.as_str());
        let mut known: HashSet<&str> = self.tensors.keys().copied().chain(inputs).collect();
        for node in &self.graph.node {
            let is_known = |i: &String| i.is_empty() || known.contains(i.as_str());
            assert!(node.input.iter().all(is_known), "{}", node.name);
            known.extend(node.output.iter().map(String::as_str));
        }
    }
}

/// The attribute `to` of a cast.
fn cast_type(node: &NodeProto) -> Option<i64> {
    node.attribute
        .iter()
        .find(|a: &&AttributeProto| a.name == "to")
        .map(|a| a.i)
}

#[test]
fn the_file_is_standard_dynamic_quantisation() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("small.onnx");
    report(&fp32(), &out, &["-n", "30"]);
    let (before, after) = (decode(&fixture("encoder/vision-fp32.onnx")), decode(&out));
    assert_eq!(before.opset_import, after.opset_import);
    assert_eq!(before.ir_version, after.ir_version);
    let (before, after) = (graph(&before), graph(&after));
    assert_eq!(
        (&before.input, &before.output),
        (&after.input, &after.output)
    );
    assert!(
        after.node.iter().all(|n| n.domain.is_empty()),
        "no operators of our own"
    );
    let quantised = Quantised::new(after);
    assert_eq!(
        (quantised.count("MatMulInteger"), quantised.count("Gemm")),
        (13, 0),
        "every linear layer"
    );
    assert_eq!(
        quantised.count("DynamicQuantizeLinear"),
        9,
        "one for each value that layers read"
    );
    assert_eq!(quantised.count("MatMul"), 4, "attention is not quantised");
    for product in after.node.iter().filter(|n| n.op_type == "MatMulInteger") {
        quantised.assert_dynamically_quantised(product);
    }
    quantised.assert_ordered();
}

/// The model's metadata.
fn metadata(model: &ModelProto) -> HashMap<&str, &str> {
    model
        .metadata_props
        .iter()
        .map(|e| (e.key.as_str(), e.value.as_str()))
        .collect()
}

#[test]
fn the_metadata_records_source_images_and_errors() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("small.onnx");
    let report = report(&fp32(), &out, &["-n", "30"]);
    let model = decode(&out);
    let metadata = metadata(&model);
    assert_eq!(
        metadata["constancy.source_sha256"],
        report["source"]["sha256"]
    );
    assert_eq!(metadata["constancy.format"], "int8");
    assert_eq!(metadata["constancy.images"], "30 rendered images");
    let layers: Vec<Value> = serde_json::from_str(metadata["constancy.layers"]).expect("JSON");
    assert!(
        layers
            .iter()
            .all(|l| l["error"].as_f64() > Some(0.0) && l["error"].as_f64() < Some(0.05)),
        "{layers:?}"
    );
    let median: f64 = metadata["constancy.cosine_median"]
        .parse()
        .expect("a number");
    assert!((median - report["cosine"]["median"].as_f64().expect("a number")).abs() < 1e-5);
}
