//! Models, projections and class banks that are invalid or do not belong together.

use super::{assert_refused, with};
use crate::support::{Setup, fixture, tiny_model};
use constancy_engine::Manifest;
use std::path::Path;

#[test]
fn a_projection_of_another_encoder_is_refused_with_both_hashes() {
    let other = fixture("encoder/vision-dynamo.toml");
    let setup = with_model(&other);
    let projection = fixture("projection/tiny.safetensors");
    setup.replace(
        "[classes]",
        &format!("projection = \"{}\"\n[classes]", projection.display()),
    );
    let sha256 = |manifest: &Path| {
        let manifest = Manifest::read(manifest).expect("manifest");
        manifest.encoder.sha256.expect("hash")
    };
    let (fp32, dynamo) = (sha256(&tiny_model()), sha256(&other));
    assert_refused(
        &setup,
        65,
        &[
            "tiny.safetensors",
            &fp32,
            &dynamo,
            "fit the projection again",
        ],
    );
}

/// A configuration with this model.
fn with_model(manifest: &Path) -> Setup {
    let setup = with("");
    setup.replace(
        &tiny_model().display().to_string(),
        &manifest.display().to_string(),
    );
    setup
}

#[test]
fn a_model_that_is_no_image_tower_is_refused() {
    let setup = with_model(&fixture("encoder/wrong-shape.toml"));
    assert_refused(
        &setup,
        65,
        &[
            "wrong-shape.onnx",
            "pixel_values",
            "an image tower needs [N, 3, H, W]",
        ],
    );
    let setup = with_model(&fixture("encoder/two-inputs.toml"));
    assert_refused(
        &setup,
        65,
        &[
            "two-inputs.onnx",
            "pixel_values, input_ids",
            "export the vision part alone",
        ],
    );
}

/// A configuration with a copy of the tiny model. `change` gets its folder and manifest, and returns another manifest.
fn with_changed_model(change: impl Fn(&Path, String) -> String) -> Setup {
    let setup = with_model(Path::new("DIR"));
    let folder = setup.folder.path();
    for file in ["vision-fp32.onnx", "text-fp32.onnx", "tokenizer.json"] {
        std::fs::copy(fixture("encoder").join(file), folder.join(file)).expect("model");
    }
    let manifest = std::fs::read_to_string(tiny_model()).expect("manifest");
    std::fs::write(folder.join("model.toml"), change(folder, manifest)).expect("manifest");
    setup.replace("\"DIR\"", "\"model.toml\"");
    setup
}

#[test]
fn wrong_manifests_are_refused() {
    let replaced = |from: &'static str, to: &'static str| {
        with_changed_model(move |_, text| text.replace(from, to))
    };
    assert_refused(
        &replaced("size = 32", "size = 48"),
        65,
        &["input.size", "vision-fp32.onnx"],
    );
    assert_refused(
        &replaced("width = 48", "width = 64"),
        65,
        &["output.width", "[1, 48]"],
    );
    assert_refused(
        &replaced("name = \"image_embeds\"", "name = \"features\""),
        65,
        &["output.name", "`features`", "image_embeds"],
    );
    assert_refused(
        &replaced("name = \"pixel_values\"", "name = \"image\""),
        65,
        &["input.name", "`image`", "pixel_values"],
    );
    assert_refused(
        &replaced("logit_scale = 100.0", "logit_scale = -1.0"),
        65,
        &["output.logit_scale"],
    );
    assert_refused(
        &replaced("filter = \"bicubic\"", "filter = \"cubist\""),
        65,
        &["cubist", "`bicubic`"],
    );
    assert_refused(
        &replaced("file = \"vision-fp32.onnx\"", "file = \"gone.onnx\""),
        66,
        &["gone.onnx", "`encoder.file` in ", "model.toml"],
    );
    assert_refused(
        &replaced("file = \"text-fp32.onnx\"", "file = \"gone.onnx\""),
        66,
        &["gone.onnx", "`text.file` in ", "model.toml"],
    );
    assert_refused(
        &replaced("\"tokenizer.json\"", "\"gone.json\""),
        66,
        &["gone.json", "`text.tokenizer` in ", "model.toml"],
    );
    let no_text =
        with_changed_model(|_, text| text.split("[text]").next().unwrap_or_default().to_owned());
    assert_refused(&no_text, 65, &["[text]", "--from-images"]);
}

#[test]
fn truncated_and_changed_model_files_are_refused() {
    let truncated = |keep_percent: usize| {
        with_changed_model(move |folder, manifest| {
            let path = folder.join("vision-fp32.onnx");
            let bytes = std::fs::read(&path).expect("model");
            std::fs::write(&path, &bytes[..bytes.len() * keep_percent / 100]).expect("model");
            manifest
                .lines()
                .filter(|l| !l.starts_with("sha256"))
                .collect::<Vec<_>>()
                .join("\n")
        })
    };
    for percent in [0, 1, 50, 99] {
        assert_refused(&truncated(percent), 65, &["vision-fp32.onnx"]);
    }
    let changed = with_changed_model(|folder, manifest| {
        std::fs::write(folder.join("vision-fp32.onnx"), "other bytes").expect("model");
        manifest
    });
    assert_refused(&changed, 65, &["sha256", "fetch the model again"]);
    let no_tokenizer = with_changed_model(|folder, manifest| {
        std::fs::write(folder.join("tokenizer.json"), "{}").expect("tokenizer");
        manifest
    });
    assert_refused(&no_tokenizer, 65, &["tokenizer.json"]);
}

#[test]
fn damaged_class_banks_and_projections_are_refused() {
    let write = |key: &str, bytes: &[u8]| {
        let setup = with("");
        match key {
            "bank" => setup.replace(
                "labels = [\"a gear\", \"a bolt\"]",
                "bank = \"file.safetensors\"",
            ),
            _ => setup.replace("[classes]", "projection = \"file.safetensors\"\n[classes]"),
        }
        std::fs::write(setup.path("file.safetensors"), bytes).expect("file");
        setup
    };
    let good = std::fs::read(fixture("projection/tiny.safetensors")).expect("projection");
    assert_refused(
        &write("projection", &good[..good.len() - 10]),
        65,
        &["file.safetensors"],
    );
    assert_refused(&write("projection", b""), 65, &["file.safetensors"]);
    assert_refused(&write("projection", &[0xff; 64]), 65, &["file.safetensors"]);
    assert_refused(
        &write("bank", &good),
        65,
        &["file.safetensors", "constancy-classes"],
    );
    let mut not_a_number = good.clone();
    let end = not_a_number.len();
    not_a_number[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_refused(
        &write("projection", &not_a_number),
        65,
        &["file.safetensors"],
    );
}
