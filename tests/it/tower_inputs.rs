//! Towers with other inputs than normalised floats `[N, 3, H, W]`, made from the tiny ones: bytes, fp16, `[N, H, W, 3]`,
//! int32 token ids. Each is fed what it declares, or refused.

use super::support::golden::{Rows, cosine};
use super::support::{constancy, fixture, node, stderr};
use constancy_engine::{Encoder, EngineOptions, Manifest, TextEncoder};
use prost::Message;
use std::path::{Path, PathBuf};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_55, 0.261_302_6, 0.275_777_1];

/// A copy of a tiny model in a folder of its own.
struct Model {
    folder: tempfile::TempDir,
}

impl Model {
    /// `change` edits the graph of `file`, `describe` the manifest.
    fn changed(
        file: &str,
        change: impl Fn(&mut ModelProto),
        describe: impl Fn(String) -> String,
    ) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        for file in ["vision-fp32.onnx", "text-fp32.onnx", "tokenizer.json"] {
            std::fs::copy(fixture("encoder").join(file), folder.path().join(file)).expect("model");
        }
        let path = folder.path().join(file);
        let mut model =
            ModelProto::decode(&std::fs::read(&path).expect("model")[..]).expect("model");
        change(&mut model);
        std::fs::write(&path, model.encode_to_vec()).expect("model");
        let text = std::fs::read_to_string(fixture("encoder/vision-fp32.toml")).expect("manifest");
        let unpinned: Vec<&str> = text.lines().filter(|l| !l.starts_with("sha256")).collect();
        let model = Self { folder };
        std::fs::write(model.manifest(), describe(unpinned.join("\n"))).expect("manifest");
        model
    }

    /// The image tower behind `nodes`, which make `pixels` from an input of this type.
    fn behind(
        element: DataType,
        channels_last: bool,
        nodes: &[NodeProto],
        describe: impl Fn(String) -> String,
    ) -> Self {
        let change = |model: &mut ModelProto| {
            let graph = graph(model);
            for node in &mut graph.node {
                for input in node.input.iter_mut().filter(|i| *i == "pixel_values") {
                    "pixels".clone_into(input);
                }
            }
            graph.node.splice(0..0, nodes.iter().cloned());
            let declared = graph.input.iter_mut().find(|i| i.name == "pixel_values");
            let kind = declared.and_then(|i| i.r#type.as_mut()?.value.as_mut());
            let Some(Value::TensorType(tensor)) = kind else {
                panic!("a tensor")
            };
            tensor.elem_type = element as i32;
            if channels_last {
                tensor.shape.as_mut().expect("shape").dim[1..].rotate_left(1);
            }
            graph.initializer.extend([
                per_channel("mean", MEAN.map(|m| m * 255.0)),
                per_channel("std", STD.map(|s| s * 255.0)),
            ]);
        };
        Self::changed("vision-fp32.onnx", change, describe)
    }

    fn manifest(&self) -> PathBuf {
        self.folder.path().join("model.toml")
    }

    /// The least cosine of its embeddings of pictures to those of the tower that it was made from, one by one and as a
    /// batch.
    fn least_cosine(&self) -> f64 {
        let load =
            |path: &Path| Encoder::load(path, &EngineOptions::default()).expect("a good model");
        let (made, original) = (
            load(&self.manifest()),
            load(&fixture("encoder/vision-fp32.toml")),
        );
        let images = pictures();
        let batch: Vec<f32> = images.concat();
        let together = made.embed_batch(&batch, images.len()).expect("embeddings");
        let rows = together.chunks(48).zip(&images).flat_map(|(row, image)| {
            let expected = original.embed(image).expect("embedding");
            let alone = made.embed(image).expect("embedding");
            [cosine(&alone, &expected), cosine(row, &expected)]
        });
        rows.fold(1.0, f64::min)
    }

    /// What `embed` says when it refuses the model.
    fn refusal(&self) -> String {
        let output = constancy()
            .arg("embed")
            .arg("--model")
            .arg(self.manifest())
            .arg(fixture("encoder"))
            .output()
            .expect("run");
        assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
        stderr(&output)
    }
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().expect("graph")
}

/// Normalised images of bytes that differ from channel to channel.
fn pictures() -> Vec<Vec<f32>> {
    let pixel = |image: usize, i: usize| {
        let (channel, place) = (i / 1024, i % 1024);
        let byte = (place * (7 + image) + 37 * channel + place / 32 * 5) % 256;
        (byte as f32 / 255.0 - MEAN[channel]) / STD[channel]
    };
    (0..3)
        .map(|image| (0..3 * 1024).map(|i| pixel(image, i)).collect())
        .collect()
}

fn per_channel(name: &str, values: [f32; 3]) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: DataType::Float as i32,
        dims: vec![1, 3, 1, 1],
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

fn cast(input: &str, to: DataType, output: &str) -> NodeProto {
    let to = AttributeProto {
        name: "to".into(),
        r#type: 2,
        i: to as i64,
        ..AttributeProto::default()
    };
    node("Cast", &[input], output, &[to])
}

fn to_planes(input: &str, output: &str) -> NodeProto {
    let perm = AttributeProto {
        name: "perm".into(),
        r#type: 7,
        ints: vec![0, 3, 1, 2],
        ..AttributeProto::default()
    };
    node("Transpose", &[input], output, &[perm])
}

/// Normalises `floats`, from 0 to 255.
fn normalise() -> [NodeProto; 2] {
    [
        node("Sub", &["floats", "mean"], "centred", &[]),
        node("Div", &["centred", "std"], "pixels", &[]),
    ]
}

fn with_key(line: &'static str) -> impl Fn(String) -> String {
    move |text| text.replace("size = 32", &format!("{line}\nsize = 32"))
}

/// A tower that takes bytes and normalises them itself, with or without channels last.
fn bytes_tower(element: DataType, channels_last: bool, key: &'static str) -> Model {
    let mut nodes = vec![cast("pixel_values", DataType::Float, "cast")];
    nodes.push(if channels_last {
        to_planes("cast", "floats")
    } else {
        node("Identity", &["cast"], "floats", &[])
    });
    nodes.extend(normalise());
    Model::behind(element, channels_last, &nodes, with_key(key))
}

#[test]
fn a_tower_that_takes_bytes_gets_bytes_if_the_manifest_says_so() {
    for channels_last in [false, true] {
        let tower = bytes_tower(DataType::Uint8, channels_last, "type = \"uint8\"");
        assert!(tower.least_cosine() > 0.9999, "{channels_last}");
    }
}

#[test]
fn a_tower_of_another_type_than_the_manifest_says_is_refused_by_name() {
    let refused = bytes_tower(DataType::Uint8, false, "").refusal();
    for part in ["pixel_values", "uint8", "type = \"uint8\"", "model.toml"] {
        assert!(refused.contains(part), "{refused}");
    }
    let floats = [node("Identity", &["pixel_values"], "pixels", &[])];
    let floats = Model::behind(
        DataType::Float,
        false,
        &floats,
        with_key("type = \"uint8\""),
    );
    let refused = floats.refusal();
    assert!(
        refused.contains("float32") && refused.contains("`input.type`"),
        "{refused}"
    );
    for (element, name) in [
        (DataType::Int8, "int8"),
        (DataType::Int32, "int32"),
        (DataType::Double, "float64"),
    ] {
        let refused = bytes_tower(element, false, "type = \"uint8\"").refusal();
        assert!(
            refused.contains(&format!("takes {name}")) && refused.contains("export"),
            "{refused}"
        );
    }
}

#[test]
fn a_tower_that_takes_fp16_gets_fp16() {
    let nodes = [cast("pixel_values", DataType::Float, "pixels")];
    let tower = Model::behind(DataType::Float16, false, &nodes, |text| text);
    assert!(tower.least_cosine() > 0.9999);
}

#[test]
fn a_tower_with_channels_last_gets_them_last() {
    let nodes = [to_planes("pixel_values", "pixels")];
    let tower = Model::behind(DataType::Float, true, &nodes, |text| text);
    assert!(tower.least_cosine() > 0.99999);
    let wrong = Model::behind(DataType::Float, true, &nodes, with_key("layout = \"nchw\""));
    let refused = wrong.refusal();
    assert!(
        refused.contains("[N, 32, 32, 3]") && refused.contains("`input.layout`"),
        "{refused}"
    );
}

/// The text tower with ids, or ids and mask, of another type.
fn text_tower(element: DataType, inputs: &[&str]) -> Model {
    let change = |model: &mut ModelProto| {
        let graph = graph(model);
        let mut casts = Vec::new();
        for name in inputs {
            let wide = format!("{name}_int64");
            for node in &mut graph.node {
                for input in node.input.iter_mut().filter(|i| i == name) {
                    input.clone_from(&wide);
                }
            }
            casts.push(cast(name, DataType::Int64, &wide));
            let declared = graph.input.iter_mut().find(|i| i.name == *name);
            let kind = declared.and_then(|i| i.r#type.as_mut()?.value.as_mut());
            let Some(Value::TensorType(tensor)) = kind else {
                panic!("a tensor")
            };
            tensor.elem_type = element as i32;
        }
        graph.node.splice(0..0, casts);
    };
    Model::changed("text-fp32.onnx", change, |text| text)
}

#[test]
fn int32_token_ids_are_fed_as_such() {
    let load = |path: &Path| {
        let manifest = Manifest::read(path).expect("manifest");
        TextEncoder::load(&manifest, &EngineOptions::default())
    };
    let original = load(&fixture("encoder/vision-fp32.toml")).expect("text tower");
    let ids: Vec<i64> = (0..16).map(|i| i * 3 % 40).collect();
    let expected = original.embed(&ids, 7).expect("embedding");
    for inputs in [&["input_ids"][..], &["input_ids", "attention_mask"]] {
        let made = text_tower(DataType::Int32, inputs);
        let made = load(&made.manifest()).expect("text tower");
        let found = made.embed(&ids, 7).expect("embedding");
        assert!(cosine(&found, &expected) > 0.99999, "{inputs:?}");
    }
    let made = text_tower(DataType::Float, &["input_ids"]);
    let refused = load(&made.manifest()).err().expect("refused").to_string();
    assert!(
        refused.contains("input_ids") && refused.contains("float32") && refused.contains("int64"),
        "{refused}"
    );
}

/// The axes of the image tower's input, without a fixed size.
fn of_any_size(model: &mut ModelProto) {
    let declared = graph(model).input.iter_mut().next();
    let kind = declared.and_then(|i| i.r#type.as_mut()?.value.as_mut());
    let Some(Value::TensorType(tensor)) = kind else {
        panic!("a tensor")
    };
    for axis in &mut tensor.shape.as_mut().expect("shape").dim[2..] {
        axis.value = None;
    }
}

#[test]
fn a_wrong_size_is_known_from_the_position_embeddings() {
    let right = Model::changed("vision-fp32.onnx", of_any_size, |text| text);
    assert!(right.least_cosine() > 0.99999);
    for size in [24, 64, 2048] {
        let wrong = Model::changed("vision-fp32.onnx", of_any_size, |text| {
            text.replace("size = 32", &format!("size = {size}"))
        });
        let refused = wrong.refusal();
        assert!(
            refused.contains("`input.size`") && refused.contains("position_embedding"),
            "{refused}"
        );
    }
}

#[test]
fn an_operator_that_is_missing_is_named_with_the_opset_to_export_to() {
    let change = |model: &mut ModelProto| {
        let found = graph(model)
            .node
            .iter_mut()
            .find(|n| n.op_type == "Sigmoid");
        "Mystery".clone_into(&mut found.expect("a sigmoid").op_type);
    };
    let refused = Model::changed("vision-fp32.onnx", change, |text| text).refusal();
    for part in ["`Mystery`", "opset 17", "vision-fp32.onnx"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(!refused.contains("input.size"), "{refused}");
}

/// Before opset 13, `Squeeze` and `Unsqueeze` had their axes as an attribute.
fn axes_as_attributes(graph: &mut GraphProto) {
    let constants: Vec<(String, AttributeProto)> = graph
        .node
        .iter()
        .filter(|n| n.op_type == "Constant")
        .map(|n| (n.output[0].clone(), n.attribute[0].clone()))
        .collect();
    for node in &mut graph.node {
        if matches!(node.op_type.as_str(), "Squeeze" | "Unsqueeze") {
            let name = node.input.pop().expect("axes");
            let (_, axes) = constants.iter().find(|(n, _)| *n == name).expect("axes");
            let (words, _) = axes.t.as_ref().expect("a tensor").raw_data.as_chunks::<8>();
            node.attribute = vec![AttributeProto {
                name: "axes".into(),
                r#type: 7,
                ints: words.iter().map(|&w| i64::from_le_bytes(w)).collect(),
                ..AttributeProto::default()
            }];
        }
    }
}

/// Before opset 13, a softmax without an axis normalises everything from the second axis on.
#[test]
fn a_softmax_without_an_axis_means_what_its_opset_says() {
    let change = |axis: bool, opset: i64| {
        move |model: &mut ModelProto| {
            model.opset_import[0].version = opset;
            if opset < 13 {
                axes_as_attributes(graph(model));
            }
            for node in &mut graph(model).node {
                if node.op_type == "Softmax" && !axis {
                    node.attribute.clear();
                }
            }
        }
    };
    let tower = |axis, opset| Model::changed("vision-fp32.onnx", change(axis, opset), |t| t);
    assert!(tower(false, 14).least_cosine() > 0.99999);
    assert!(tower(false, 12).least_cosine() < 0.999);
    let plain = EngineOptions {
        plain: true,
        ..EngineOptions::default()
    };
    let model = tower(false, 12);
    let fused = Encoder::load(&model.manifest(), &EngineOptions::default()).expect("tower");
    let plain = Encoder::load(&model.manifest(), &plain).expect("tower");
    for image in Rows::golden("input").rows() {
        let (a, b) = (fused.embed(image), plain.embed(image));
        assert!(cosine(&a.expect("embedding"), &b.expect("embedding")) > 0.99999);
    }
}
