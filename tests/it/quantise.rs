//! `constancy model quantise` and `compare`: small files that stay standard, and what is refused.

use super::support::{constancy, fixture, stderr, write_images};
use constancy_engine::{Encoder, EngineOptions};
use prost::Message;
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// ONNX's numbers of element types.
const FLOAT: i32 = 1;
const INT8: i32 = 3;
const FLOAT16: i32 = 10;

fn quantise(args: &[&str]) -> Output {
    // Tests run side by side: one thread for each.
    constancy()
        .args(["model", "quantise", "--threads", "1"])
        .args(args)
        .output()
        .expect("it runs")
}

/// The report of a run that succeeds.
fn report(input: &Path, out: &Path, more: &[&str]) -> Value {
    let (input, out) = (text(input), text(out));
    let few: &[&str] = if more.contains(&"-n") {
        &[]
    } else {
        &["-n", "8"]
    };
    let output = quantise(&[&[input.as_str(), &out, "--json"], more, few].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The exit code and message of a run that fails.
fn failure(args: &[&str]) -> (Option<i32>, String) {
    let output = quantise(&[args, &["-n", "2"]].concat());
    assert!(
        !output.status.success() && output.stdout.is_empty(),
        "{args:?}"
    );
    (output.status.code(), stderr(&output))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn fp32() -> PathBuf {
    fixture("encoder/vision-fp32.toml")
}

fn decode(path: &Path) -> ModelProto {
    ModelProto::decode(std::fs::read(path).expect("model").as_slice()).expect("protobuf")
}

fn graph(model: &ModelProto) -> &GraphProto {
    model.graph.as_ref().expect("a graph")
}

fn metadata(model: &ModelProto) -> HashMap<&str, &str> {
    model
        .metadata_props
        .iter()
        .map(|e| (e.key.as_str(), e.value.as_str()))
        .collect()
}

/// The small tower with `edit` done to it, and a manifest for it.
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

/// Changes the floats of every initialiser that `wanted` names.
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

/// Trained towers have a few channels that are much larger than the others.
fn with_outliers(folder: &TempDir) -> PathBuf {
    altered(folder, "outliers", |graph| {
        change(graph, "layer_norm", |values| {
            values
                .iter_mut()
                .skip(5)
                .step_by(16)
                .for_each(|v| *v *= 25.0)
        });
    })
}

/// The least cosine between our embeddings of the golden inputs and ONNX Runtime's in fp32.
fn least_cosine_to_golden(manifest: &Path) -> f64 {
    let bytes = std::fs::read(fixture("encoder/golden.safetensors")).expect("golden");
    let file = SafeTensors::deserialize(&bytes).expect("golden");
    let floats = |name: &str| {
        let view = file.tensor(name).expect("tensor");
        let values = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        (view.shape()[0], values.collect::<Vec<f32>>())
    };
    let ((count, inputs), (_, golden)) = (floats("input"), floats("vision-fp32"));
    let encoder = Encoder::load(manifest, &EngineOptions::default()).expect("a good model");
    let pairs = inputs
        .chunks(inputs.len() / count)
        .zip(golden.chunks(golden.len() / count));
    let cosine = |(input, golden): (&[f32], &[f32])| {
        let found = encoder.embed(input).expect("embedding");
        let dot = |a: &[f32], b: &[f32]| {
            a.iter()
                .zip(b)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum::<f64>()
        };
        dot(&found, golden) / (dot(&found, &found) * dot(golden, golden)).sqrt()
    };
    pairs.map(cosine).fold(f64::INFINITY, f64::min)
}

#[test]
fn the_small_file_embeds_as_the_original_does() {
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
        // Its manifest has its hash, and still finds the text tower.
        let cosine = least_cosine_to_golden(&out);
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

#[test]
fn the_newer_exporter_is_quantised_too() {
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

/// Attribute `to` of a cast.
fn to(node: &NodeProto) -> Option<i64> {
    node.attribute
        .iter()
        .find(|a: &&AttributeProto| a.name == "to")
        .map(|a| a.i)
}

#[test]
fn the_file_is_standard_dynamic_quantisation() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("small.onnx");
    let report = report(&fp32(), &out, &["-n", "30"]);
    let (before, after) = (decode(&fixture("encoder/vision-fp32.onnx")), decode(&out));
    assert_eq!(before.opset_import, after.opset_import);
    assert_eq!(before.ir_version, after.ir_version);
    let (before, after) = (graph(&before), graph(&after));
    assert_eq!(
        (&before.input, &before.output),
        (&after.input, &after.output)
    );
    let count = |kind: &str| after.node.iter().filter(|n| n.op_type == kind).count();
    assert_eq!(
        (count("MatMulInteger"), count("Gemm")),
        (13, 0),
        "every linear layer"
    );
    assert_eq!(
        count("DynamicQuantizeLinear"),
        9,
        "one for each value that layers read"
    );
    assert_eq!(count("MatMul"), 4, "attention stays as it is");
    assert!(
        after.node.iter().all(|n| n.domain.is_empty()),
        "no operators of our own"
    );
    let tensors: HashMap<&str, _> = after
        .initializer
        .iter()
        .map(|t| (t.name.as_str(), t))
        .collect();
    let maker = |value: &str| {
        after
            .node
            .iter()
            .find(|n| n.output.iter().any(|o| o == value))
            .expect("a maker")
    };
    for product in after.node.iter().filter(|n| n.op_type == "MatMulInteger") {
        let [x, w, x_zero, w_zero] = [0, 1, 2, 3].map(|i| product.input[i].as_str());
        let quantise = maker(x);
        assert_eq!(
            (quantise.op_type.as_str(), quantise.output[2].as_str()),
            ("DynamicQuantizeLinear", x_zero)
        );
        assert_eq!(
            (tensors[w].data_type, tensors[w_zero].data_type),
            (INT8, INT8)
        );
        assert_eq!(
            tensors[w_zero].dims,
            [tensors[w].dims[1]],
            "one for each column"
        );
        assert!(tensors[w_zero].raw_data.iter().all(|&b| b == 0));
        assert!(
            tensors[w].raw_data.iter().all(|&b| b != 0x80),
            "symmetric: no -128"
        );
        let cast = after
            .node
            .iter()
            .find(|n| n.input.first() == Some(&product.output[0]))
            .expect("a cast");
        assert_eq!(
            (cast.op_type.as_str(), to(cast)),
            ("Cast", Some(i64::from(FLOAT)))
        );
        let scaled = after
            .node
            .iter()
            .find(|n| n.input.first() == Some(&cast.output[0]))
            .expect("a product");
        let scales = maker(&scaled.input[1]);
        assert_eq!(scales.input[0], quantise.output[1]);
        assert_eq!(tensors[scales.input[1].as_str()].dims, tensors[w_zero].dims);
    }
    // Nothing is read before it is made.
    let mut made: Vec<&str> = tensors
        .keys()
        .copied()
        .chain(after.input.iter().map(|i| i.name.as_str()))
        .collect();
    for node in &after.node {
        assert!(
            node.input
                .iter()
                .all(|i| i.is_empty() || made.contains(&i.as_str())),
            "{}",
            node.name
        );
        made.extend(node.output.iter().map(String::as_str));
    }
    let model = decode(&out);
    let said = metadata(&model);
    assert_eq!(said["constancy.source_sha256"], report["source"]["sha256"]);
    assert_eq!(said["constancy.format"], "int8");
    assert_eq!(said["constancy.images"], "30 rendered images");
    let layers: Vec<Value> = serde_json::from_str(said["constancy.layers"]).expect("JSON");
    assert!(
        layers
            .iter()
            .all(|l| l["error"].as_f64() > Some(0.0) && l["error"].as_f64() < Some(0.05)),
        "{layers:?}"
    );
    let median: f64 = said["constancy.cosine_median"].parse().expect("a number");
    assert!((median - report["cosine"]["median"].as_f64().expect("a number")).abs() < 1e-5);
}

#[test]
fn smoothing_is_better_than_none_where_channels_stand_out() {
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
    // Patches, in bytes too, have their share of the error either way.
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
fn layers_that_bytes_do_not_suit_stay_in_halves() {
    let folder = tempfile::tempdir().expect("folder");
    let source = with_outliers(&folder);
    let out = folder.path().join("small.onnx");
    let report = report(&source, &out, &["--no-smoothing", "--max-error", "0.012"]);
    let layers = report["layers"].as_array().expect("layers");
    let halves: Vec<&Value> = layers.iter().filter(|l| l["form"] == "fp16").collect();
    assert!(
        !halves.is_empty() && halves.len() < layers.len(),
        "{layers:?}"
    );
    assert!(
        halves.iter().all(|l| l["error"].as_f64() < Some(0.001)),
        "{halves:?}"
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
    // Halves are quantised as floats are.
    let halved = folder.path().join("halved.onnx");
    self::report(&source, &halved, &["--format", "fp16"]);
    let again = self::report(&halved, &folder.path().join("again.onnx"), &[]);
    assert!(
        again["layers"]
            .as_array()
            .is_some_and(|l| l.iter().all(|l| l["form"] == "int8")),
        "{again}"
    );
    assert!(again["cosine"]["median"].as_f64() >= Some(0.999), "{again}");
}

/// The small tower as exporters write it that let it compute in fp16, with an fp32 input and output.
fn in_halves(graph: &mut GraphProto) {
    let halve = |tensor: &mut TensorProto| {
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
    graph.initializer.iter_mut().for_each(halve);
    graph.value_info.clear();
    let mut last = None;
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            attribute.t.iter_mut().for_each(halve);
            if node.op_type == "Cast" && attribute.name == "to" && attribute.i == i64::from(FLOAT) {
                attribute.i = i64::from(FLOAT16);
                last = Some(attribute.clone());
            }
        }
        node.output
            .iter_mut()
            .filter(|o| *o == "image_embeds")
            .for_each(|o| o.push_str("_half"));
    }
    let mut to = last.expect("the exporter casts its input");
    to.i = i64::from(FLOAT);
    graph.node.push(NodeProto {
        op_type: "Cast".into(),
        input: vec!["image_embeds_half".into()],
        output: vec!["image_embeds".into()],
        attribute: vec![to],
        ..NodeProto::default()
    });
}

#[test]
fn a_tower_that_computes_in_halves_is_quantised_from_its_weights() {
    let folder = tempfile::tempdir().expect("folder");
    let source = altered(&folder, "halves", in_halves);
    let out = folder.path().join("small.toml");
    let report = report(&source, &out, &[]);
    assert!(
        report["cosine"]["least"].as_f64() >= Some(0.999),
        "{report}"
    );
    assert_eq!(
        report["source"]["file"],
        text(&folder.path().join("halves.onnx"))
    );
    assert!(least_cosine_to_golden(&out) >= 0.999);
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("folder").count(),
        4,
        "nothing else is left"
    );
}

#[test]
fn a_bare_file_is_taken_for_a_clip_tower_and_real_images_are_measured_on() {
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
    let said = String::from_utf8_lossy(&output.stdout);
    for part in [
        "q_proj",
        "13 of 13 in int8",
        "on 3 images",
        "had no manifest",
        "small.toml",
    ] {
        assert!(said.contains(part), "{part} in:\n{said}");
    }
    constancy()
        .args(["embed", "--model", &text(&out.with_extension("toml"))])
        .arg(&images)
        .assert()
        .success();
}

#[test]
fn what_cannot_be_quantised_is_said_with_the_way_out() {
    let folder = tempfile::tempdir().expect("folder");
    let small = |name: &str| text(&folder.path().join(name));
    let out = small("out.onnx");
    let nan = altered(&folder, "nan", |graph| {
        change(graph, "class_embedding", |values| values[3] = f32::NAN)
    });
    std::fs::write(
        folder.path().join("cut.onnx"),
        &std::fs::read(fixture("encoder/vision-fp32.onnx")).expect("model")[..9000],
    )
    .expect("model");
    report(
        &fp32(),
        &folder.path().join("half.onnx"),
        &["--format", "fp16"],
    );
    let model = |name: &str| text(&fixture(&format!("encoder/{name}")));
    for (input, code, hint) in [
        (small("nowhere.onnx"), 66, "nowhere.onnx"),
        (small("nowhere.toml"), 66, "nowhere.toml"),
        (model("vision-int8-channel.toml"), 65, "give the fp32 file"),
        (model("text-fp32.onnx"), 65, "export the vision part alone"),
        (model("wrong-shape.onnx"), 65, "is this the vision tower?"),
        (model("two-inputs.toml"), 65, "export the vision part alone"),
        (small("cut.onnx"), 65, "cut short"),
        (text(&nan), 65, "class_embedding"),
    ] {
        let (found, message) = failure(&[&input, &out]);
        assert_eq!(found, Some(code), "{input}: {message}");
        assert!(
            message.contains(hint) && message.lines().count() == 1,
            "{input}: {message}"
        );
    }
    let (code, message) = failure(&[&small("half.onnx"), &out, "--format", "fp16"]);
    assert!(
        code == Some(65) && message.contains("fp16 already"),
        "{message}"
    );
    for (args, hint) in [
        (
            [model("vision-fp32.toml"), small("out")],
            "ending in .onnx or .toml",
        ),
        (
            [small("half.onnx"), small("half.onnx")],
            "give OUT another name",
        ),
    ] {
        let (code, message) = failure(&[&args[0], &args[1]]);
        assert!(code == Some(64) && message.contains(hint), "{message}");
    }
    assert!(!Path::new(&out).exists() && !folder.path().join("out.onnx.partial").exists());
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("out.onnx");
    let (code, message) = failure(&[&text(&fp32()), &text(&folder.path().join("none/out.onnx"))]);
    assert!(
        code == Some(73) && message.contains("make its folder first"),
        "{message}"
    );
    std::fs::write(&out, "the old one").expect("file");
    // A disk that is full after some pages; without the trap the signal would end the process.
    let script = format!(
        "trap '' XFSZ; ulimit -f 100; exec \"$0\" model quantise --threads 1 {} {}",
        text(&fp32()),
        text(&out)
    );
    let binary = env!("CARGO_BIN_EXE_constancy");
    let output = std::process::Command::new("sh")
        .args(["-c", &script, binary])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(73), "{}", stderr(&output));
    assert!(stderr(&output).contains("make room"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&out).expect("file"), "the old one");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("folder").count(),
        1,
        "nothing half-written is left"
    );
    report(&fp32(), &out, &[]);
    assert!(
        std::fs::metadata(&out).expect("file").len() > 100_000,
        "what is whole takes the old one's place"
    );
}

#[test]
fn towers_are_compared() {
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
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("in the median") && said.contains("on 30 rendered images"),
        "{said}"
    );
    let pocket = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pocket/pocket.toml"));
    let output = compare(&[&one, &pocket]);
    assert!(
        output.status.code() == Some(64) && stderr(&output).contains("48 values"),
        "{}",
        stderr(&output)
    );
}
