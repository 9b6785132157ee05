//! `constancy model quantise` and `compare`.

mod accuracy;
mod onnx;
mod refusals;

use super::support::{constancy, fixture, pocket_model, stderr, stdout, write_images};
use prost::Message;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;
use tract_onnx::pb::{GraphProto, ModelProto};

/// ONNX's codes of element types.
const FLOAT: i32 = 1;
const INT8: i32 = 3;
const FLOAT16: i32 = 10;

/// Runs `constancy model quantise` on one thread, since tests run side by side.
fn quantise(args: &[&str]) -> Output {
    constancy()
        .args(["model", "quantise", "--threads", "1"])
        .args(args)
        .output()
        .expect("it runs")
}

/// The JSON report of a run, which must succeed. It measures on 8 images unless `more` has `-n`.
fn report(input: &Path, out: &Path, more: &[&str]) -> Value {
    let (input, out) = (text(input), text(out));
    let count: &[&str] = if more.contains(&"-n") {
        &[]
    } else {
        &["-n", "8"]
    };
    let output = quantise(&[&[input.as_str(), &out, "--json"], more, count].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The exit code and stderr of a run, which must fail and print nothing else.
fn failure(args: &[&str]) -> (Option<i32>, String) {
    let output = quantise(&[args, &["-n", "2"]].concat());
    assert!(
        !output.status.success() && output.stdout.is_empty(),
        "{args:?}"
    );
    (output.status.code(), stderr(&output))
}

/// A path as an argument.
fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The manifest of the tiny fp32 tower.
fn fp32() -> PathBuf {
    fixture("encoder/vision-fp32.toml")
}

fn decode(path: &Path) -> ModelProto {
    ModelProto::decode(std::fs::read(path).expect("model").as_slice()).expect("protobuf")
}

fn graph(model: &ModelProto) -> &GraphProto {
    model.graph.as_ref().expect("a graph")
}

/// Writes the tiny fp32 tower, changed by `edit`, as `NAME.onnx` with a manifest; returns the manifest's path.
fn altered(folder: &TempDir, name: &str, edit: impl FnOnce(&mut GraphProto)) -> PathBuf {
    let mut model = decode(&fixture("encoder/vision-fp32.onnx"));
    edit(model.graph.as_mut().expect("a graph"));
    std::fs::write(
        folder.path().join(format!("{name}.onnx")),
        model.encode_to_vec(),
    )
    .expect("model");
    let manifest = std::fs::read_to_string(fp32()).expect("manifest");
    let vision = manifest.split("[text]").next().unwrap_or_default();
    let named = |l: &str| {
        if l.starts_with("file") {
            format!("file = \"{name}.onnx\"")
        } else {
            l.to_owned()
        }
    };
    let lines = vision
        .lines()
        .filter(|l| !l.starts_with("sha256"))
        .map(named);
    let path = folder.path().join(format!("{name}.toml"));
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).expect("manifest");
    path
}

/// Changes the values of every fp32 initialiser whose name contains `wanted`.
fn change(graph: &mut GraphProto, wanted: &str, mut each: impl FnMut(&mut [f32])) {
    for tensor in graph
        .initializer
        .iter_mut()
        .filter(|t| t.name.contains(wanted) && t.data_type == FLOAT)
    {
        let raw = tensor
            .raw_data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let mut values: Vec<f32> = raw.collect();
        each(&mut values);
        tensor.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    }
}

#[test]
fn a_file_without_a_manifest_is_treated_as_a_clip_tower_and_measured_on_given_images() {
    let folder = tempfile::tempdir().expect("folder");
    let bare = folder.path().join("bare.onnx");
    std::fs::copy(fixture("encoder/vision-fp32.onnx"), &bare).expect("copy");
    let images = folder.path().join("images");
    write_images(&images, 5);
    let out = folder.path().join("small.onnx");
    let output = quantise(&[
        &text(&bare),
        &text(&out),
        "--images",
        &text(&images),
        "-n",
        "3",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = stdout(&output);
    for part in [
        "q_proj",
        "13 of 13 in int8",
        "on 3 images",
        "had no manifest",
        "small.toml",
    ] {
        assert!(report.contains(part), "{part} in:\n{report}");
    }
    constancy()
        .args(["embed", "--model", &text(&out.with_extension("toml"))])
        .arg(&images)
        .assert()
        .success();
}

#[test]
fn compare_reports_the_cosine_of_two_towers() {
    let compare = |args: &[&str]| {
        constancy()
            .args(["model", "compare", "--threads", "1"])
            .args(args)
            .output()
            .expect("it runs")
    };
    let (one, same) = (text(&fp32()), text(&fixture("encoder/vision-dynamo.onnx")));
    let other = text(&fixture("encoder/vision-int8-channel.toml"));
    let cosine = |args: &[&str]| {
        let output = compare(&[args, &["--json", "-n", "6"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (report["cosine"]["images"].as_u64(), &report["images"]),
            (Some(6), &"6 rendered images".into())
        );
        report["cosine"]["least"].as_f64().expect("a number")
    };
    assert!(cosine(&[&one, &same]) > 0.99999);
    let int8 = cosine(&[&one, &other]);
    assert!(int8 > 0.999 && int8 < 0.999_999, "{int8}");
    assert!(cosine(&[&one, &one, "--precision", "int8"]) < 0.999_999);
    let output = compare(&[&one, &other]);
    let report = stdout(&output);
    assert!(
        report.contains("in the median") && report.contains("on 30 rendered images"),
        "{report}"
    );
    let output = compare(&[&one, &text(&pocket_model())]);
    assert!(
        output.status.code() == Some(64) && stderr(&output).contains("48 values"),
        "{}",
        stderr(&output)
    );
}
