//! Towers against ONNX Runtime's embeddings, which `tests/golden/encoder.py` and `text.py` write.

use super::support::golden::{Rows, cosine, least_cosine_to, least_cosine_to_onnx_runtime};
use super::support::{fixture, full_size_model, jpeg, tiny_model};
use constancy::recognizer::FrameEncoder;
use constancy_core::classify::{TextError, Tokenizer, class_embeddings};
use constancy_core::frame::{Frame, PixelFormat, Timestamp};
use constancy_core::preprocess::Preprocessor;
use constancy_engine::{Encoder, EngineOptions, Manifest, Precision, TextEncoder};
use serde_json::Value;
use std::path::Path;

fn load(name: &str, options: &EngineOptions) -> Encoder {
    Encoder::load(&fixture(&format!("encoder/{name}.toml")), options).expect("a good model")
}

/// The least cosine between our embeddings and ONNX Runtime's of the same model.
fn least_cosine(name: &str) -> f64 {
    let manifest = fixture(&format!("encoder/{name}.toml"));
    let least = least_cosine_to_onnx_runtime(&manifest, name);
    println!(
        "{name}: least cosine {least:.7} over {} inputs",
        Rows::golden("input").count()
    );
    least
}

#[test]
fn fp32_matches_onnx_runtime() {
    assert!(least_cosine("vision-fp32") >= 0.99999);
}

/// It writes intermediate shapes and a symbolic batch axis.
#[test]
fn the_dynamo_export_matches_onnx_runtime() {
    assert!(least_cosine("vision-dynamo") >= 0.99999);
}

#[test]
fn int8_per_tensor_matches_onnx_runtime() {
    assert!(least_cosine("vision-int8-tensor") >= 0.999);
}

#[test]
fn int8_per_channel_matches_onnx_runtime() {
    assert!(least_cosine("vision-int8-channel") >= 0.999);
}

/// Fused and on tract alone, in the file's numbers and in floats. ONNX Runtime's integer operators round on their own.
#[test]
fn static_quantisation_matches_onnx_runtime() {
    for (name, least) in [
        ("vision-static-qdq", 0.9999),
        ("vision-static-qlinear", 0.998),
    ] {
        let manifest = fixture(&format!("encoder/{name}.toml"));
        let golden = Rows::of_static(name);
        for (plain, precision) in [
            (false, Precision::File),
            (false, Precision::Fp32),
            (true, Precision::File),
        ] {
            let options = EngineOptions {
                plain,
                precision,
                ..EngineOptions::default()
            };
            let found = least_cosine_to(&manifest, &options, &golden);
            println!("{name}, plain {plain}, {precision:?}: least cosine {found:.7}");
            assert!(
                found >= least,
                "{name}, plain {plain}, {precision:?}: {found}"
            );
        }
    }
}

#[test]
fn a_batch_is_bit_identical_to_its_images_one_by_one() {
    let inputs = Rows::golden("input");
    let batch = inputs.count().min(3);
    let pixels = inputs.values().len() / inputs.count();
    let images = &inputs.values()[..batch * pixels];
    // Exported with and without a free batch axis, in fp32 and int8.
    for name in [
        "vision-fp32",
        "vision-dynamo",
        "vision-int8-tensor",
        "vision-int8-channel",
        "vision-static-qdq",
        "conv-fastvit",
        "conv-resnet",
        "conv-convnext",
        "conv-mobilenet",
    ] {
        let encoder = load(name, &EngineOptions::default());
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
        // tract's own attention, between the roundings of a static quantisation, takes more calls.
        if name != "vision-static-qdq" {
            assert_eq!(calls(batch), calls(1), "{name}: the weights are read once");
        }
    }
}

#[test]
fn fused_operators_change_nothing() {
    let plain = EngineOptions {
        plain: true,
        ..EngineOptions::default()
    };
    for name in ["vision-fp32", "vision-dynamo"] {
        let (fused, plain) = (load(name, &EngineOptions::default()), load(name, &plain));
        assert!(
            fused.info().weight_bytes > 0 && plain.info().weight_bytes == 0,
            "{name}"
        );
        for image in Rows::golden("input").rows() {
            let embed = |encoder: &Encoder| encoder.embed(image).expect("embedding");
            assert!(cosine(&embed(&fused), &embed(&plain)) >= 0.99999, "{name}");
        }
    }
}

const CONVOLUTIONS: [&str; 4] = [
    "conv-fastvit",
    "conv-resnet",
    "conv-convnext",
    "conv-mobilenet",
];

/// These embeddings lack what all images have in common, which makes errors of int8 look ten times larger.
#[test]
fn convolution_towers_match_onnx_runtime() {
    for name in CONVOLUTIONS {
        let manifest = fixture(&format!("encoder/{name}.toml"));
        let golden = Rows::of_convolutions(name);
        for (precision, least) in [(Precision::File, 0.99999), (Precision::Int8, 0.95)] {
            let options = EngineOptions {
                precision,
                ..EngineOptions::default()
            };
            let found = least_cosine_to(&manifest, &options, &golden);
            println!("{name}, {precision:?}: least cosine {found:.7}");
            assert!(found >= least, "{name}, {precision:?}: {found}");
        }
    }
}

/// Images read with another axis as lines, means without their axes, names like those of the rewrite.
#[test]
fn rare_forms_of_convolution_towers_match_onnx_runtime() {
    let manifest = fixture("encoder/conv-forms.toml");
    let golden = Rows::of_convolutions("conv-forms");
    let found = least_cosine_to(&manifest, &EngineOptions::default(), &golden);
    assert!(found >= 0.99999, "{found}");
}

/// What is left to tract only changes the shape of what was pooled.
#[test]
fn convolution_towers_are_fused_as_a_whole() {
    const OURS: [&str; 8] = [
        "linear f32",
        "convolution f32",
        "depthwise",
        "attention",
        "norm",
        "pooling",
        "elementwise",
        "Source",
    ];
    let image = Rows::golden("input");
    let image = image.rows().next().expect("an image");
    for name in CONVOLUTIONS {
        let profile = load(name, &EngineOptions::default())
            .profile(image, 1)
            .expect("profile");
        for (kind, calls, _) in profile {
            assert!(
                OURS.contains(&kind.as_str()) || kind == "IntoShape",
                "{name}: {calls} calls of {kind}"
            );
        }
    }
}

/// The daemon's encoder against preprocessing and tower, called one after the other.
fn assert_embeds_as_its_stages(manifest: &Path) {
    let options = EngineOptions {
        threads: Some(1),
        ..EngineOptions::default()
    };
    let captured_at = Timestamp {
        monotonic_ns: 1,
        unix_ns: 1,
        clock_synced: true,
    };
    let frame = Frame::compressed(PixelFormat::Jpeg, jpeg(1280, 720, 3), captured_at);
    let encoder = Encoder::load(manifest, &options).expect("tower");
    let mut preprocessor = Preprocessor::new(encoder.manifest().transform());
    let tensor = preprocessor.tensor(&frame).expect("a good frame");
    let expected = encoder.embed(&tensor).expect("embedding");
    let mut frame_encoder = FrameEncoder::load(manifest, &options).expect("frame encoder");
    let (embedding, latency) = frame_encoder.embed(&frame).expect("embedding");
    assert_eq!(embedding, expected);
    assert!(latency.embed_ms > 0.0 && latency.preprocess_ms > 0.0);
}

#[test]
fn a_tiny_tower_embeds_a_frame_as_its_stages_do() {
    assert_embeds_as_its_stages(&tiny_model());
}

#[test]
fn a_full_size_tower_embeds_a_frame_as_its_stages_do() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(manifest) = full_size_model(folder.path()) else {
        return;
    };
    assert_embeds_as_its_stages(&manifest);
}

/// The tiny model's tokenizer and text tower.
struct Text {
    tokenizer: Tokenizer,
    tower: TextEncoder,
}

impl Text {
    fn load() -> Self {
        let manifest = Manifest::read(&tiny_model()).expect("manifest");
        let text = manifest.text().expect("a text tower");
        let json = std::fs::read(manifest.beside(&text.tokenizer)).expect("tokenizer");
        Self {
            tokenizer: Tokenizer::parse(&json, text.context_length, text.pad_token_id)
                .expect("tokenizer"),
            tower: TextEncoder::load(&manifest, &EngineOptions::default()).expect("text tower"),
        }
    }

    /// The embedding of a prompt, and its token ids.
    fn embed(&self, prompt: &str) -> (Vec<f32>, Vec<i64>) {
        let (ids, used) = self.tokenizer.encode(prompt).expect("ids");
        (self.tower.embed(&ids, used).expect("embedding"), ids)
    }
}

fn text_golden() -> Value {
    let golden = std::fs::read(fixture("encoder/text.json")).expect("golden");
    serde_json::from_slice(&golden).expect("golden")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn string(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn floats(value: &Value) -> Vec<f32> {
    let number = |v: &Value| v.as_f64().expect("a number") as f32;
    array(value).iter().map(number).collect()
}

#[test]
fn prompts_match_hugging_face() {
    let (golden, text) = (text_golden(), Text::load());
    for prompt in array(&golden["prompts"]) {
        let (embedding, ids) = text.embed(&string(&prompt["text"]));
        assert_eq!(serde_json::json!(ids), prompt["ids"], "{}", prompt["text"]);
        assert!(
            cosine(&embedding, &floats(&prompt["embedding"])) >= 0.99999,
            "{}",
            prompt["text"]
        );
    }
}

#[test]
fn classes_match_hugging_face() {
    let (golden, text) = (text_golden(), Text::load());
    let templates: Vec<String> = array(&golden["templates"]).iter().map(string).collect();
    let classes = array(&golden["classes"]);
    let labels: Vec<String> = classes.iter().map(|c| string(&c["label"])).collect();
    let rows = class_embeddings(&labels, &templates, |p| Ok::<_, TextError>(text.embed(p).0));
    for (row, class) in rows.expect("rows").iter().zip(classes) {
        assert!(
            cosine(row, &floats(&class["embedding"])) >= 0.99999,
            "{}",
            class["label"]
        );
    }
}
