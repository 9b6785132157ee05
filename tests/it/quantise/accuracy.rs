//! How close the quantised tower's embeddings are to the original's.

use super::{FLOAT, FLOAT16, altered, change, decode, fp32, graph, report, text};
use crate::support::golden::least_cosine_to_onnx_runtime;
use crate::support::{constancy, fixture};
use constancy_engine::{Encoder, EngineOptions};
use serde_json::Value;
use std::path::PathBuf;
use tempfile::TempDir;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

/// The tiny tower with a few channels that are much larger than the others, as trained towers have them.
fn with_outliers(folder: &TempDir) -> PathBuf {
    altered(folder, "outliers", |graph| {
        change(graph, "layer_norm", |values| {
            values
                .iter_mut()
                .skip(5)
                .step_by(16)
                .for_each(|v| *v *= 25.0);
        });
    })
}

#[test]
fn the_quantised_file_embeds_nearly_as_the_original() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, format, least) in [("int8", "int8", 0.999), ("fp16", "fp16", 0.99999)] {
        let out = folder.path().join(format!("{name}.toml"));
        let report = report(&fp32(), &out, &["--format", format]);
        assert_eq!(report["manifest"], text(&out));
        assert!(
            report["cosine"]["least"].as_f64() >= Some(least),
            "{report}"
        );
        let (from, to) = (
            report["source"]["bytes"].as_u64(),
            report["written"]["bytes"].as_u64(),
        );
        assert!(
            to.zip(from).is_some_and(|(to, from)| to * 5 < from * 3),
            "{report}"
        );
        // Its manifest has the new hash, and still finds the text tower.
        let cosine = least_cosine_to_onnx_runtime(&out, "vision-fp32");
        println!("{name}: least cosine to ONNX Runtime's fp32 {cosine:.6}");
        assert!(cosine >= least, "{name}: {cosine}");
        let args = [
            "classify",
            "--model",
            &text(&out),
            "--labels",
            "a,b",
            &text(&fixture("preprocess/rgb.png")),
        ];
        constancy().args(args).assert().success();
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("folder").count(),
        4,
        "nothing else is left"
    );
}

/// Their weights stand behind `DequantizeLinear`, and are multiplied in int8.
#[test]
fn convolutions_are_quantised() {
    let folder = tempfile::tempdir().expect("folder");
    for name in ["conv-resnet", "conv-convnext", "conv-mobilenet"] {
        let out = folder.path().join(format!("{name}.onnx"));
        let report = report(&fixture(&format!("encoder/{name}.toml")), &out, &[]);
        assert!(
            report["cosine"]["least"].as_f64() >= Some(0.99),
            "{name}: {report}"
        );
        let layers = report["layers"].as_array().expect("layers");
        assert!(
            layers.iter().all(|l| l["form"] == "int8"),
            "{name}: {report}"
        );
        let is_convolution = |l: &&Value| l["name"].as_str().is_some_and(|n| n.starts_with("conv"));
        let convolutions = layers.iter().filter(is_convolution).count();
        let model = decode(&out);
        let dequantised = graph(&model).node.iter();
        let dequantised = dequantised
            .filter(|n| n.op_type == "DequantizeLinear")
            .count();
        assert!(
            convolutions > 0 && dequantised == convolutions,
            "{name}: {dequantised} of {convolutions}"
        );
        let options = EngineOptions::default();
        let encoder = Encoder::load(&out.with_extension("toml"), &options).expect("tower");
        let image = vec![0.5; 3 * 32 * 32];
        let profile = encoder.profile(&image, 1).expect("profile");
        let calls = |kind: &str| {
            let found = profile.iter().find(|(k, ..)| k == kind);
            found.map_or(0, |(_, calls, _)| *calls)
        };
        assert_eq!(
            calls("linear int8") + calls("convolution int8"),
            layers.len(),
            "{name}: {profile:?}"
        );
    }
}

#[test]
fn a_dynamo_export_can_be_quantised() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("small.onnx");
    let report = report(&fixture("encoder/vision-dynamo.toml"), &out, &[]);
    assert!(
        report["cosine"]["least"].as_f64() >= Some(0.999),
        "{report}"
    );
    assert!(
        report["layers"]
            .as_array()
            .is_some_and(|l| l.len() == 13 && l.iter().all(|l| l["form"] == "int8"))
    );
}

#[test]
fn smoothing_helps_if_some_channels_are_large() {
    let folder = tempfile::tempdir().expect("folder");
    let source = with_outliers(&folder);
    let smooth = report(&source, &folder.path().join("smooth.onnx"), &[]);
    let plain = report(
        &source,
        &folder.path().join("plain.onnx"),
        &["--no-smoothing"],
    );
    let cosine = |r: &Value| r["cosine"]["median"].as_f64().expect("a number");
    println!(
        "median cosine {:.6} smoothed, {:.6} not",
        cosine(&smooth),
        cosine(&plain)
    );
    // Smoothing does not change the error of the patches, which are also int8.
    assert!(1.0 - cosine(&smooth) < (1.0 - cosine(&plain)) * 0.9);
    let (smooth, plain) = (
        smooth["layers"].as_array().expect("layers"),
        plain["layers"].as_array().expect("layers"),
    );
    assert!(plain.iter().all(|l| l["alpha"] == 0.0));
    for (s, p) in smooth
        .iter()
        .zip(plain)
        .filter(|(s, _)| s["name"].as_str().is_some_and(|n| n.contains("q_proj")))
    {
        assert!(s["alpha"].as_f64() > Some(0.0), "{s}");
        assert!(
            s["error"].as_f64() < p["error"].as_f64().map(|e| e * 0.7),
            "{s} {p}"
        );
    }
}

#[test]
fn layers_with_a_large_int8_error_are_stored_in_fp16() {
    let folder = tempfile::tempdir().expect("folder");
    let source = with_outliers(&folder);
    let out = folder.path().join("small.onnx");
    let report = report(&source, &out, &["--no-smoothing", "--max-error", "0.012"]);
    let layers = report["layers"].as_array().expect("layers");
    let fp16: Vec<&Value> = layers.iter().filter(|l| l["form"] == "fp16").collect();
    assert!(!fp16.is_empty() && fp16.len() < layers.len(), "{layers:?}");
    assert!(
        fp16.iter().all(|l| l["error"].as_f64() < Some(0.001)),
        "{fp16:?}"
    );
    let model = decode(&out);
    let stored = graph(&model)
        .initializer
        .iter()
        .filter(|t| t.data_type == FLOAT16)
        .count();
    assert_eq!(Some(stored as u64), report["halved"].as_u64());
    assert!(
        report["cosine"]["least"].as_f64() >= Some(0.9995),
        "{report}"
    );
}

#[test]
fn an_fp16_file_can_be_quantised_to_int8() {
    let folder = tempfile::tempdir().expect("folder");
    let source = with_outliers(&folder);
    let fp16 = folder.path().join("fp16.onnx");
    report(&source, &fp16, &["--format", "fp16"]);
    let again = report(&fp16, &folder.path().join("again.onnx"), &[]);
    assert!(
        again["layers"]
            .as_array()
            .is_some_and(|l| l.iter().all(|l| l["form"] == "int8")),
        "{again}"
    );
    assert!(again["cosine"]["median"].as_f64() >= Some(0.999), "{again}");
}

/// Changes the tiny tower to compute in fp16 between an fp32 input and an fp32 output, as some exporters write it.
fn convert_to_fp16(graph: &mut GraphProto) {
    let convert = |tensor: &mut TensorProto| {
        if tensor.data_type == FLOAT {
            let floats = tensor
                .raw_data
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            tensor.raw_data = floats
                .flat_map(|v| half::f16::from_f32(v).to_le_bytes())
                .collect();
            tensor.data_type = FLOAT16;
        }
    };
    graph.initializer.iter_mut().for_each(convert);
    graph.value_info.clear();
    let mut last = None;
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            attribute.t.iter_mut().for_each(convert);
            if node.op_type == "Cast" && attribute.name == "to" && attribute.i == i64::from(FLOAT) {
                attribute.i = i64::from(FLOAT16);
                last = Some(attribute.clone());
            }
        }
        node.output
            .iter_mut()
            .filter(|o| *o == "image_embeds")
            .for_each(|o| o.push_str("_fp16"));
    }
    let mut to = last.expect("the exporter casts its input");
    to.i = i64::from(FLOAT);
    graph.node.push(NodeProto {
        op_type: "Cast".into(),
        input: vec!["image_embeds_fp16".into()],
        output: vec!["image_embeds".into()],
        attribute: vec![to],
        ..NodeProto::default()
    });
}

#[test]
fn a_tower_that_computes_in_fp16_can_be_quantised() {
    let folder = tempfile::tempdir().expect("folder");
    let source = altered(&folder, "fp16", convert_to_fp16);
    let out = folder.path().join("small.toml");
    let report = report(&source, &out, &[]);
    assert!(
        report["cosine"]["least"].as_f64() >= Some(0.999),
        "{report}"
    );
    assert_eq!(
        report["source"]["file"],
        text(&folder.path().join("fp16.onnx"))
    );
    assert!(least_cosine_to_onnx_runtime(&out, "vision-fp32") >= 0.999);
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("folder").count(),
        4,
        "nothing else is left"
    );
}
