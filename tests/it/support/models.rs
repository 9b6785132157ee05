//! Models for tests.

use super::skip::{InCi, file_in_env};
use prost::Message as _;
use std::path::{Path, PathBuf};
use tract_onnx::pb::ModelProto;

/// A file of `tests/fixtures`.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path)
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
