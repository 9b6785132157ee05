//! Models for tests.

use super::skip::{InCi, file_in_env};
use prost::Message as _;
use std::path::{Path, PathBuf};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// A file of `tests/fixtures`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path)
}

/// An ONNX operator, named after its output.
pub fn node(kind: &str, input: &[&str], output: &str, attributes: &[AttributeProto]) -> NodeProto {
    NodeProto {
        op_type: kind.into(),
        name: output.into(),
        input: input.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.into()],
        attribute: attributes.to_vec(),
        ..NodeProto::default()
    }
}

/// The manifest of a tiny CLIP with random weights: image and text tower, embeddings of width 48.
pub fn tiny_model() -> PathBuf {
    fixture("encoder/vision-fp32.toml")
}

/// The manifest of the model that the project ships.
pub fn pocket_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pocket/pocket.toml")
}

/// Writes a manifest in `folder` for the image tower that `CONSTANCY_TEST_TOWER` names: CLIP ViT-B/32 in fp32.
pub fn full_size_model(folder: &Path) -> Option<PathBuf> {
    let tower = file_in_env(
        "CONSTANCY_TEST_TOWER",
        "a CLIP ViT-B/32 image tower in fp32",
        InCi::Optional,
    )?;
    let tower = tower.canonicalize().expect("the tower's path");
    let text = std::fs::read_to_string(tiny_model()).expect("manifest");
    let vision = text.split("[text]").next().unwrap_or_default();
    let lines = vision.lines().filter(|l| !l.starts_with("sha256"));
    let manifest = lines
        .collect::<Vec<_>>()
        .join("\n")
        .replace("vision-fp32.onnx", &tower.display().to_string())
        .replace("size = 32", "size = 224")
        .replace("width = 48", "width = 512");
    let path = folder.join("tower.toml");
    std::fs::write(&path, manifest).expect("manifest");
    Some(path)
}

/// Writes a manifest of the tiny model whose normalisation makes every image but a black one overflow.
pub fn write_overflowing_model(manifest: &Path) {
    let tower = tiny_model();
    let text = std::fs::read_to_string(&tower).expect("manifest");
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("mean", _)) => "mean = [0.0, 0.0, 0.0]".to_owned(),
        Some(("std", _)) => "std = [1e-38, 1e-38, 1e-38]".to_owned(),
        Some((key @ ("file" | "tokenizer"), file)) => {
            format!(
                "{key} = \"{}\"",
                tower.with_file_name(file.trim_matches('"')).display()
            )
        }
        _ => line.to_owned(),
    });
    std::fs::write(manifest, lines.collect::<Vec<_>>().join("\n")).expect("manifest");
}

/// Copies the tiny model to `folder`, without hashes in its manifest, and returns the manifest's path.
pub fn copy_tiny_model(folder: &Path) -> PathBuf {
    for file in ["vision-fp32.onnx", "text-fp32.onnx", "tokenizer.json"] {
        std::fs::copy(tiny_model().with_file_name(file), folder.join(file)).expect("a copy");
    }
    let text = std::fs::read_to_string(tiny_model()).expect("manifest");
    let lines = text.lines().filter(|l| !l.starts_with("sha256"));
    let manifest = folder.join("model.toml");
    std::fs::write(&manifest, lines.collect::<Vec<_>>().join("\n")).expect("manifest");
    manifest
}

/// Changes the ONNX file at `path`.
pub fn edit_onnx(path: &Path, edit: impl FnOnce(&mut ModelProto)) {
    let bytes = std::fs::read(path).expect("model");
    let mut model = ModelProto::decode(bytes.as_slice()).expect("protobuf");
    edit(&mut model);
    std::fs::write(path, model.encode_to_vec()).expect("model");
}

/// Replaces `from` by `to` in a text file.
pub fn replace_in(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("a text");
    assert!(text.contains(from), "{from} is in {}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).expect("the text is written");
}

/// The brightness, 0 to 255, of a plain picture at which the tower of [`write_panicking_model`] panics.
pub const FATAL_BRIGHTNESS: u8 = 201;

/// Writes a manifest, and a tower that looks something up by the mean of each channel of a picture: at
/// [`FATAL_BRIGHTNESS`], far behind the end of its table, where tract panics.
pub fn write_panicking_model(folder: &Path) -> PathBuf {
    let tower = folder.join("panicking.onnx");
    std::fs::write(&tower, panicking_tower().encode_to_vec()).expect("tower");
    let tiny = tiny_model();
    let text = std::fs::read_to_string(&tiny).expect("manifest");
    let (vision, text) = text.split_once("[text]").expect("a text tower");
    let vision = vision
        .lines()
        .filter(|l| !l.starts_with("sha256"))
        .map(|line| match line.split_once(" = ") {
            Some(("mean", _)) => "mean = [0.0, 0.0, 0.0]",
            // 1/255: the tower's input is the pixel's value.
            Some(("std", _)) => "std = [0.003921568627, 0.003921568627, 0.003921568627]",
            Some(("file", _)) => "file = \"panicking.onnx\"",
            _ => line,
        });
    for file in ["text-fp32.onnx", "tokenizer.json"] {
        std::fs::copy(tiny.with_file_name(file), folder.join(file)).expect("copy");
    }
    let vision = vision.collect::<Vec<_>>().join("\n");
    let manifest = folder.join("panicking.toml");
    std::fs::write(&manifest, format!("{vision}\n[text]{text}")).expect("manifest");
    manifest
}

fn panicking_tower() -> ModelProto {
    const FLOAT: i32 = 1;
    const INT64: i32 = 7;
    let node = |kind: &str, inputs: &[&str], output: &str, to: Option<i32>| NodeProto {
        op_type: kind.into(),
        name: output.into(),
        input: inputs.iter().map(|&i| i.into()).collect(),
        output: vec![output.into()],
        attribute: to
            .map(|to| AttributeProto {
                name: "to".into(),
                r#type: AttributeType::Int.into(),
                i: to.into(),
                ..AttributeProto::default()
            })
            .into_iter()
            .collect(),
        ..NodeProto::default()
    };
    let tensor = |name: &str, data_type: i32, dims: &[i64], raw_data: Vec<u8>| TensorProto {
        name: name.into(),
        data_type,
        dims: dims.to_vec(),
        raw_data,
        ..TensorProto::default()
    };
    let value = |name: &str, dims: &[i64]| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: FLOAT,
                shape: Some(TensorShapeProto {
                    dim: dims
                        .iter()
                        .map(|&d| Dimension {
                            value: Some(dimension::Value::DimValue(d)),
                            ..Dimension::default()
                        })
                        .collect(),
                }),
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    };
    let weights = (0..3 * 48i16).flat_map(|i| (f32::from(i % 7) - 3.0).to_le_bytes());
    let graph = GraphProto {
        name: "panicking".into(),
        node: vec![
            node("GlobalAveragePool", &["pixel_values"], "mean", None),
            node("Flatten", &["mean"], "means", None),
            // The preprocessing's rounding must not count.
            node("Add", &["means", "half"], "nearest", None),
            node("Cast", &["nearest"], "whole", Some(INT64)),
            node("Equal", &["whole", "fatal"], "is_fatal", None),
            node("Cast", &["is_fatal"], "fatal_count", Some(INT64)),
            node("Mul", &["fatal_count", "far"], "index", None),
            node("Gather", &["table", "index"], "part", None),
            node("Add", &["means", "part"], "sum", None),
            node("MatMul", &["sum", "weights"], "image_embeds", None),
        ],
        initializer: vec![
            tensor("half", FLOAT, &[1], 0.5f32.to_le_bytes().into()),
            tensor("table", FLOAT, &[1], 0f32.to_le_bytes().into()),
            tensor("far", INT64, &[1], 9999i64.to_le_bytes().into()),
            tensor(
                "fatal",
                INT64,
                &[1],
                i64::from(FATAL_BRIGHTNESS).to_le_bytes().into(),
            ),
            tensor("weights", FLOAT, &[3, 48], weights.collect()),
        ],
        input: vec![value("pixel_values", &[1, 3, 32, 32])],
        output: vec![value("image_embeds", &[1, 48])],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            version: 17,
            ..OperatorSetIdProto::default()
        }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}
