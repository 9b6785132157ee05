//! Towers against ONNX Runtime's results, which `tests/golden/encoder.py` and `text.py` write.

use super::support::fixture;
use constancy_core::classify::{Tokenizer, class_embeddings};
use constancy_engine::{Encoder, EngineOptions, Manifest, TextEncoder};
use safetensors::SafeTensors;
use serde_json::Value;

fn tensor(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let view = file.tensor(name).expect("tensor");
    let values = view
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    (view.shape().to_vec(), values)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| {
        x.iter()
            .zip(y)
            .map(|(&x, &y)| f64::from(x) * f64::from(y))
            .sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The least cosine between our embeddings of the golden inputs and ONNX Runtime's.
fn least_cosine(name: &str) -> f64 {
    let bytes = std::fs::read(fixture("encoder/golden.safetensors")).expect("golden");
    let file = SafeTensors::deserialize(&bytes).expect("golden");
    let ((shape, inputs), (_, golden)) = (tensor(&file, "input"), tensor(&file, name));
    let encoder = Encoder::load(
        &fixture(&format!("encoder/{name}.toml")),
        &EngineOptions::default(),
    )
    .expect("a good model");
    let (pixels, width) = (inputs.len() / shape[0], golden.len() / shape[0]);
    let pairs = inputs.chunks(pixels).zip(golden.chunks(width));
    let cosines =
        pairs.map(|(input, golden)| cosine(&encoder.embed(input).expect("embedding"), golden));
    let least = cosines.fold(f64::INFINITY, f64::min);
    println!("{name}: least cosine {least:.7} over {} inputs", shape[0]);
    least
}

#[test]
fn fp32_is_onnx_runtimes() {
    assert!(least_cosine("vision-fp32") >= 0.99999);
}

#[test]
fn the_newer_exporter_with_value_info_and_symbolic_batch_is_handled() {
    assert!(least_cosine("vision-dynamo") >= 0.99999);
}

#[test]
fn int8_per_tensor_is_onnx_runtimes() {
    assert!(least_cosine("vision-int8-tensor") >= 0.999);
}

#[test]
fn int8_per_channel_is_onnx_runtimes() {
    assert!(least_cosine("vision-int8-channel") >= 0.999);
}

#[test]
fn images_together_are_images_one_by_one() {
    let bytes = std::fs::read(fixture("encoder/golden.safetensors")).expect("golden");
    let (shape, inputs) = tensor(&SafeTensors::deserialize(&bytes).expect("golden"), "input");
    let (batch, pixels) = (shape[0].min(3), inputs.len() / shape[0]);
    let images = &inputs[..batch * pixels];
    // Exported with and without a free batch axis, in floats and in bytes.
    for name in [
        "vision-fp32",
        "vision-dynamo",
        "vision-int8-tensor",
        "vision-int8-channel",
    ] {
        let encoder = Encoder::load(
            &fixture(&format!("encoder/{name}.toml")),
            &EngineOptions::default(),
        )
        .expect("a good model");
        let one_by_one: Vec<f32> = images
            .chunks(pixels)
            .flat_map(|i| encoder.embed(i).expect("embedding"))
            .collect();
        assert_eq!(
            encoder.embed_batch(images, batch).expect("embeddings"),
            one_by_one,
            "{name}"
        );
        let calls = |batch: usize| {
            let profile = encoder
                .profile(&images[..batch * pixels], batch)
                .expect("profile");
            profile.iter().map(|(_, calls, _)| calls).sum::<usize>()
        };
        assert_eq!(calls(batch), calls(1), "{name}: the weights are read once");
    }
}

#[test]
fn fused_operators_change_nothing() {
    let bytes = std::fs::read(fixture("encoder/golden.safetensors")).expect("golden");
    let (shape, inputs) = tensor(&SafeTensors::deserialize(&bytes).expect("golden"), "input");
    let plain = EngineOptions {
        plain: true,
        ..EngineOptions::default()
    };
    for name in ["vision-fp32", "vision-dynamo"] {
        let load = |options| {
            Encoder::load(&fixture(&format!("encoder/{name}.toml")), options).expect("a good model")
        };
        let (fused, plain) = (load(&EngineOptions::default()), load(&plain));
        assert!(
            fused.info().weight_bytes > 0 && plain.info().weight_bytes == 0,
            "{name}"
        );
        for image in inputs.chunks(inputs.len() / shape[0]) {
            let embed = |encoder: &Encoder| encoder.embed(image).expect("embedding");
            assert!(cosine(&embed(&fused), &embed(&plain)) >= 0.99999, "{name}");
        }
    }
}

fn floats(value: &Value) -> Vec<f32> {
    let array = value.as_array().expect("numbers");
    array
        .iter()
        .map(|v| v.as_f64().expect("a number") as f32)
        .collect()
}

#[test]
fn prompts_and_classes_are_hugging_faces() {
    let golden = std::fs::read(fixture("encoder/text.json")).expect("golden");
    let golden: Value = serde_json::from_slice(&golden).expect("golden");
    let manifest = Manifest::read(&fixture("encoder/vision-fp32.toml")).expect("manifest");
    let text = manifest.text().expect("a text tower");
    let json = std::fs::read(manifest.beside(&text.tokenizer)).expect("tokenizer");
    let tokenizer =
        Tokenizer::parse(&json, text.context_length, text.pad_token_id).expect("tokenizer");
    let tower = TextEncoder::load(&manifest, &EngineOptions::default()).expect("text tower");
    let embed = |prompt: &str| {
        let (ids, used) = tokenizer.encode(prompt).expect("ids");
        (tower.embed(&ids, used).expect("embedding"), ids)
    };
    for prompt in golden["prompts"].as_array().expect("prompts") {
        let (embedding, ids) = embed(prompt["text"].as_str().expect("text"));
        assert_eq!(serde_json::json!(ids), prompt["ids"], "{}", prompt["text"]);
        assert!(
            cosine(&embedding, &floats(&prompt["embedding"])) >= 0.99999,
            "{}",
            prompt["text"]
        );
    }
    let strings = |v: &Value| v.as_str().expect("a string").to_owned();
    let templates: Vec<String> = golden["templates"]
        .as_array()
        .expect("templates")
        .iter()
        .map(strings)
        .collect();
    let classes = golden["classes"].as_array().expect("classes");
    let labels: Vec<String> = classes.iter().map(|c| strings(&c["label"])).collect();
    let rows = class_embeddings(&labels, &templates, |p| {
        Ok::<_, constancy_core::classify::TextError>(embed(p).0)
    });
    for (row, class) in rows.expect("rows").iter().zip(classes) {
        assert!(
            cosine(row, &floats(&class["embedding"])) >= 0.99999,
            "{}",
            class["label"]
        );
    }
}
