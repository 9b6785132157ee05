//! Weights in files beside the ONNX file: they belong to the model's hash, and lie in its folder.

use super::support::{constancy, copy_tiny_model, edit_onnx, stderr, write_images};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{StringStringEntryProto, TensorProto};

/// The tiny model with the weights of its image tower in two files of a folder.
struct Model {
    folder: TempDir,
    manifest: PathBuf,
}

const DATA: [&str; 2] = ["weights/a.data", "weights/b.data"];

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let manifest = copy_tiny_model(folder.path());
        write_images(&folder.path().join("images"), 1);
        let model = Self { folder, manifest };
        model.externalise();
        model
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn edit(&self, edit: impl FnOnce(&mut Vec<TensorProto>)) {
        edit_onnx(&self.path("vision-fp32.onnx"), |model| {
            edit(&mut model.graph.as_mut().expect("a graph").initializer);
        });
    }

    /// Moves every larger tensor to one of the data files.
    fn externalise(&self) {
        let mut files = [Vec::new(), Vec::new()];
        self.edit(|tensors| {
            let large = tensors.iter_mut().filter(|t| t.raw_data.len() > 1024);
            for (i, tensor) in large.enumerate() {
                let bytes = std::mem::take(&mut tensor.raw_data);
                let file = &mut files[i % 2];
                let entry = |key: &str, value: String| StringStringEntryProto {
                    key: key.into(),
                    value,
                };
                tensor.data_location = Some(DataLocation::External as i32);
                tensor.external_data = vec![
                    entry("location", DATA[i % 2].into()),
                    entry("offset", file.len().to_string()),
                    entry("length", bytes.len().to_string()),
                ];
                file.extend(bytes);
            }
        });
        std::fs::create_dir(self.path("weights")).expect("folder");
        for (name, bytes) in DATA.iter().zip(files) {
            assert!(!bytes.is_empty(), "{name} has tensors");
            std::fs::write(self.path(name), bytes).expect("data");
        }
    }

    /// The exit code and stdout or stderr of `constancy`.
    fn run(&self, args: &[&str]) -> (i32, String) {
        let output = constancy()
            .args(args)
            .current_dir(self.folder.path())
            .output()
            .expect("it runs");
        let code = output.status.code().expect("an exit code");
        let text = match code {
            0 => String::from_utf8(output.stdout).expect("text"),
            _ => stderr(&output),
        };
        (code, text)
    }

    fn embed(&self) -> (i32, String) {
        self.run(&["embed", "--model", "model.toml", "images"])
    }

    /// The error of a model that must be refused.
    fn refusal(&self) -> String {
        let (code, text) = self.embed();
        assert_eq!(code, 65, "{text}");
        text
    }

    /// The model's hash, as `bench` reports it.
    fn sha256(&self) -> String {
        let (code, text) = self.run(&["bench", "--model", "model.toml", "--runs", "1", "--json"]);
        assert_eq!(code, 0, "{text}");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        report["model_sha256"].as_str().expect("a hash").to_owned()
    }

    fn name_hash(&self, sha256: &str) {
        let text = std::fs::read_to_string(&self.manifest).expect("manifest");
        let file = "file = \"vision-fp32.onnx\"";
        let text = text.replace(file, &format!("{file}\nsha256 = \"{sha256}\""));
        std::fs::write(&self.manifest, text).expect("manifest");
    }

    /// Changes one bit of a weight.
    fn retrain(&self) {
        let mut bytes = std::fs::read(self.path(DATA[1])).expect("data");
        bytes[2] ^= 1;
        std::fs::write(self.path(DATA[1]), bytes).expect("data");
    }
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn file_hash(path: &Path) -> String {
    hex(&std::fs::read(path).expect("a file"))
}

#[test]
fn the_hash_is_that_of_the_list_of_all_files_hashes() {
    let model = Model::new();
    let files = ["vision-fp32.onnx", DATA[0], DATA[1]];
    let list: String = files.map(|f| file_hash(&model.path(f)) + "\n").concat();
    assert_eq!(model.sha256(), hex(list.as_bytes()));
    // A model in one file has the hash of that file.
    let alone = tempfile::tempdir().expect("folder");
    copy_tiny_model(alone.path());
    let (file, text) = (alone.path().join("vision-fp32.onnx"), Model::new());
    std::fs::copy(&file, text.path("vision-fp32.onnx")).expect("a copy");
    assert_eq!(text.sha256(), file_hash(&file));
}

#[test]
fn other_weights_are_another_model_to_manifest_and_bank() {
    let model = Model::new();
    let bank = [
        "classes",
        "--model",
        "model.toml",
        "--from-images",
        "classes",
        "-o",
        "bank",
    ];
    write_images(&model.path("classes/part"), 1);
    let (code, text) = model.run(&bank);
    assert_eq!(code, 0, "{text}");
    let classify = [
        "classify",
        "--model",
        "model.toml",
        "--classes",
        "bank",
        "images",
    ];
    assert_eq!(model.run(&classify).0, 0);
    let whole = model.sha256();
    model.retrain();
    let (code, text) = model.run(&classify);
    assert!(code == 65 && text.contains(&whole), "{text}");
    model.name_hash(&whole);
    let text = model.refusal();
    assert!(text.contains(&format!("names {whole}")), "{text}");
    model.retrain();
    assert_eq!(model.embed().0, 0);
}

#[test]
fn a_manifest_with_the_hash_of_the_graph_alone_is_told_the_whole_one() {
    let model = Model::new();
    let whole = model.sha256();
    model.name_hash(&file_hash(&model.path("vision-fp32.onnx")));
    let text = model.refusal();
    assert!(
        text.contains(&whole) && text.contains("a.data, weights/b.data"),
        "{text}"
    );
}

#[test]
fn data_that_is_missing_cut_short_or_doubly_used_is_named() {
    let model = Model::new();
    let whole = std::fs::read(model.path(DATA[0])).expect("data");
    std::fs::write(model.path(DATA[0]), &whole[..whole.len() - 1]).expect("data");
    let text = model.refusal();
    assert!(
        text.contains("tensor `") && text.contains("beyond the end of weights/a.data"),
        "{text}"
    );
    std::fs::remove_file(model.path(DATA[0])).expect("data");
    let text = model.refusal();
    assert!(text.contains("weights/a.data"), "{text}");
    std::fs::write(model.path(DATA[0]), &whole).expect("data");
    let entry = |tensor: &mut TensorProto, key: &str, value: &str| {
        let found = tensor.external_data.iter_mut().find(|e| e.key == key);
        value.clone_into(&mut found.expect("the entry").value);
    };
    let external = |tensors: &mut Vec<TensorProto>, key: &str, value: &str| {
        let mut found = tensors.iter_mut().filter(|t| !t.external_data.is_empty());
        entry(found.nth(2).expect("a tensor"), key, value);
    };
    model.edit(|tensors| external(tensors, "offset", "4"));
    let text = model.refusal();
    assert!(text.contains("overlap in weights/a.data"), "{text}");
    model.edit(|tensors| external(tensors, "length", "7"));
    let text = model.refusal();
    assert!(text.contains("has 7 bytes in weights/a.data"), "{text}");
}

#[test]
fn a_link_is_followed_inside_of_the_models_folder_only() {
    let model = Model::new();
    let (data, moved) = (model.path(DATA[0]), model.path("moved.data"));
    std::fs::rename(&data, &moved).expect("data");
    symlink("../moved.data", &data).expect("a link");
    assert_eq!(model.embed().0, 0);
    let elsewhere = tempfile::tempdir().expect("folder");
    let outside = elsewhere.path().join("moved.data");
    std::fs::copy(&moved, &outside).expect("data");
    std::fs::remove_file(&data).expect("the link");
    symlink(&outside, &data).expect("a link");
    let text = model.refusal();
    assert!(text.contains("leads out of the model's folder"), "{text}");
    // A folder on the way may be a link as well.
    std::fs::rename(model.path("weights"), elsewhere.path().join("weights")).expect("folder");
    symlink(elsewhere.path().join("weights"), model.path("weights")).expect("a link");
    let text = model.refusal();
    assert!(text.contains("leads out of the model's folder"), "{text}");
}
