//! Damaged and hostile models: whatever happens in the libraries that read them is one error, and harms
//! nothing that runs.

use super::support::{
    Daemon, LIMIT, Setup, constancy, copy_tiny_model, edit_onnx, node, pocket_model, replace_in,
    stderr, stdout, tiny_model, wait_for, write_images,
};
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};

/// A folder with an image, and a copy of the tiny model that `damage` is done to.
struct Damaged {
    folder: TempDir,
    manifest: PathBuf,
}

impl Damaged {
    fn new(damage: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let manifest = copy_tiny_model(folder.path());
        damage(folder.path());
        write_images(&folder.path().join("images"), 1);
        Self { folder, manifest }
    }

    fn arg(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Runs a command on the model, its name replaced for `MODEL`, and `images` for `IMAGES`.
    fn run(&self, command: &str, env: &[(&str, &str)]) -> Output {
        let arg = |word: &str| match word {
            "MODEL" => self.manifest.display().to_string(),
            "ONNX" => self.arg("vision-fp32.onnx"),
            "TINY" => tiny_model().display().to_string(),
            "IMAGES" => self.arg("images"),
            "CONFIG" => self.config(),
            "OUT" => self.arg("out.onnx"),
            word => word.to_owned(),
        };
        constancy()
            .args(command.split(' ').map(arg))
            .envs(env.iter().copied())
            .current_dir(self.folder.path())
            .output()
            .expect("it runs")
    }

    fn config(&self) -> String {
        let path = self.folder.path().join("constancy.toml");
        let text = format!(
            "device = \"bench\"\n[model]\nmanifest = \"{}\"\n[classes]\nlabels = [\"a gear\", \"a bolt\"]\n[[camera]]\nname = \"w\"\n[camera.synthetic]\n",
            self.manifest.display()
        );
        std::fs::write(&path, text).expect("configuration");
        path.display().to_string()
    }

    /// The one error that `embed` or, for the text part, `classify` ends with.
    fn error(&self, env: &[(&str, &str)]) -> String {
        let output = self.run(
            "classify --model MODEL --labels gear,bolt --threads 1 IMAGES",
            env,
        );
        one_error("classify", &output)
    }
}

/// The one line on stderr of a command that must exit with 65.
fn one_error(command: &str, output: &Output) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(65), "{command}: {text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "{command}: {text}");
    assert!(
        !text.contains("panicked at") && !text.contains("unexpected:"),
        "{command}: {text}"
    );
    lines[0].to_owned()
}

fn integer(name: &str, value: i64) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![1],
        data_type: DataType::Int64 as i32,
        raw_data: value.to_le_bytes().to_vec(),
        ..TensorProto::default()
    }
}

/// Puts `nodes` behind the tower; they read `before` and make its output.
fn append(model: &mut ModelProto, nodes: Vec<NodeProto>) {
    let graph = model.graph.as_mut().expect("a graph");
    for name in graph.node.iter_mut().flat_map(|n| &mut n.output) {
        if name == "image_embeds" {
            *name = "before".into();
        }
    }
    graph.node.extend(nodes);
}

/// Adds 1 / 0 to the embedding.
fn divide_by_zero(folder: &Path) {
    edit_onnx(&folder.join("vision-fp32.onnx"), |model| {
        let cast = NodeProto {
            attribute: vec![AttributeProto {
                name: "to".into(),
                r#type: 2,
                i: 1,
                ..AttributeProto::default()
            }],
            ..node("Cast", &["quotient"], "float", &[])
        };
        append(
            model,
            vec![
                node("Div", &["one", "zero"], "quotient", &[]),
                cast,
                node("Add", &["before", "float"], "image_embeds", &[]),
            ],
        );
        let graph = model.graph.as_mut().expect("a graph");
        graph
            .initializer
            .extend([integer("one", 1), integer("zero", 0)]);
    });
}

/// Puts 40,000 nodes behind the tower, which tract needs very long for.
fn append_chain(folder: &Path) {
    const NODES: usize = 40_000;
    edit_onnx(&folder.join("vision-fp32.onnx"), |model| {
        let name = |i: usize| match i {
            0 => "before".to_owned(),
            NODES => "image_embeds".to_owned(),
            i => format!("n{i}"),
        };
        let relu = |i| node("Relu", &[name(i).as_str()], &name(i + 1), &[]);
        append(model, (0..NODES).map(relu).collect());
    });
}

#[test]
fn a_panic_of_a_library_is_one_error_of_every_command() {
    let model = Damaged::new(divide_by_zero);
    for command in [
        "embed --model MODEL IMAGES",
        "classify --model MODEL --labels gear,bolt IMAGES",
        "classes --model MODEL --labels gear,bolt",
        "bench --model MODEL --runs 1",
        "fit --model MODEL --output OUT IMAGES",
        "model compare TINY MODEL -n 1",
        "model compare ONNX TINY -n 1",
        "model quantise MODEL OUT -n 1",
        "run --config CONFIG",
    ] {
        let error = one_error(command, &model.run(command, &[]));
        assert!(
            error.contains("vision-fp32.onnx") && error.contains("divide by zero"),
            "{command}: {error}"
        );
    }
    let output = model.run("check --config CONFIG", &[]);
    assert_eq!(output.status.code(), Some(65), "{}", stdout(&output));
    let text = stdout(&output);
    let line = text.lines().find(|l| l.contains("FAIL  model"));
    assert!(line.is_some_and(|l| l.contains("divide by zero")), "{text}");
}

#[test]
fn each_part_of_a_model_may_panic() {
    let patches = Damaged::new(|folder| {
        edit_onnx(&folder.join("vision-fp32.onnx"), |model| {
            let graph = model.graph.as_mut().expect("a graph");
            let attributes = graph.node.iter_mut().flat_map(|n| &mut n.attribute);
            for strides in attributes.filter(|a| a.name == "strides") {
                strides.ints.fill(0);
            }
        });
    });
    let error = patches.error(&[]);
    assert!(error.contains("vision-fp32.onnx"), "{error}");

    // The tokenizers' library unwraps what it finds in a decoder, which is not even used.
    let tokenizer = Damaged::new(|folder| {
        replace_in(
            &folder.join("tokenizer.json"),
            "\"decoder\": {",
            "\"decoder\": {7,",
        );
    });
    let error = tokenizer.error(&[]);
    assert!(error.contains("tokenizer.json"), "{error}");

    let padding = Damaged::new(|folder| {
        replace_in(
            &folder.join("model.toml"),
            "pad_token_id = 0",
            "pad_token_id = 600",
        );
    });
    let error = padding.error(&[]);
    assert!(
        error.contains("text.pad_token_id` is 600") && error.contains("0 to 599"),
        "{error}"
    );

    let context = Damaged::new(|folder| {
        replace_in(
            &folder.join("model.toml"),
            "context_length = 16",
            "context_length = 4294967296",
        );
    });
    let error = context.error(&[]);
    assert!(
        error.contains("`text.context_length` is 4294967296"),
        "{error}"
    );
}

#[test]
fn a_model_that_takes_too_long_or_too_much_is_named_with_the_way_out() {
    let chain = Damaged::new(append_chain);
    let error = chain.error(&[("CONSTANCY_LOAD_SECONDS", "5")]);
    for words in ["vision-fp32.onnx", "within 5 s", "CONSTANCY_LOAD_SECONDS"] {
        assert!(error.contains(words), "{error}");
    }
    let good = Damaged::new(|_| {});
    let error = good.error(&[("CONSTANCY_LOAD_MB", "1")]);
    for words in ["more than 1 MB of memory", "CONSTANCY_LOAD_MB"] {
        assert!(error.contains(words), "{error}");
    }
    let output = good.run(
        "embed --model MODEL IMAGES",
        &[
            ("CONSTANCY_LOAD_MB", "2000"),
            ("CONSTANCY_LOAD_SECONDS", "60"),
        ],
    );
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn what_has_no_end_is_no_part_of_a_model() {
    let endless = Damaged::new(|folder| {
        replace_in(
            &folder.join("model.toml"),
            "\"tokenizer.json\"",
            "\"/dev/zero\"",
        );
    });
    let error = endless.error(&[]);
    assert!(error.contains("tokenizer /dev/zero"), "{error}");

    let pipe = Damaged::new(|folder| {
        let path = folder.join("vision-fp32.onnx");
        std::fs::remove_file(&path).expect("the model");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|s| s.success()), "mkfifo");
    });
    let error = pipe.error(&[]);
    assert!(error.contains("only a regular file is read"), "{error}");
}

const CAMERA: &str =
    "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 20.0\nloop = true\n";

#[test]
fn a_reload_to_a_model_that_panics_keeps_the_old_one() {
    let setup = Setup::new(CAMERA);
    write_images(&setup.path("images"), 5);
    let bad = Damaged::new(divide_by_zero);
    let token = Damaged::new(|folder| {
        replace_in(
            &folder.join("model.toml"),
            "pad_token_id = 0",
            "pad_token_id = 99999999",
        );
    });
    let daemon = setup.start();
    daemon.wait_events(3);
    for (i, model) in [&bad, &token].into_iter().enumerate() {
        daemon.setup.write(CAMERA);
        let manifest = model.manifest.display().to_string();
        daemon
            .setup
            .replace(&tiny_model().display().to_string(), &manifest);
        daemon.signal(libc::SIGHUP);
        daemon.wait_log_times("the new configuration is refused, the old one stays", i + 1);
        let so_far = daemon.events().len();
        daemon.wait_events(so_far + 3);
    }
    assert!(daemon.log().contains("divide by zero"), "{}", daemon.log());
}

/// The process that tries a model for the daemon.
fn child_of(daemon: &Daemon) -> Option<PathBuf> {
    let parent = format!("PPid:\t{}\n", daemon.pid());
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries.flatten().map(|e| e.path()).find(|path| {
        let file = |name| std::fs::read_to_string(path.join(name)).unwrap_or_default();
        file("status").contains(&parent) && file("cmdline").contains("vet-model")
    })
}

/// Waits until the process at `path` of `/proc` has ended, whether or not somebody has waited for it.
fn wait_gone(path: &Path) {
    wait_for("the end of the process that tries the model", || {
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        (status.is_empty() || status.contains("State:\tZ")).then_some(())
    });
}

/// A daemon that tries a model for minutes, and the process that does so.
fn loading() -> (Damaged, Daemon, PathBuf) {
    let model = Damaged::new(append_chain);
    let setup = Setup::new(CAMERA).env("CONSTANCY_LOAD_SECONDS", "600");
    write_images(&setup.path("images"), 1);
    setup.replace(
        &tiny_model().display().to_string(),
        &model.manifest.display().to_string(),
    );
    let daemon = setup.start();
    let child = wait_for("the process that tries the model", || child_of(&daemon));
    (model, daemon, child)
}

#[test]
fn a_daemon_that_loads_a_model_stops_when_it_is_asked() {
    let (_model, mut daemon, child) = loading();
    daemon.signal(libc::SIGTERM);
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success(), "{status}: {}", daemon.log());
    wait_gone(&child);
}

#[test]
fn the_process_that_tries_a_model_does_not_outlive_the_daemon() {
    let (_model, daemon, child) = loading();
    daemon.signal(libc::SIGKILL);
    wait_gone(&child);
}

#[test]
fn what_the_child_embeds_is_what_this_process_embeds() {
    let folder = tempfile::tempdir().expect("folder");
    let bank = folder.path().join("bank.safetensors");
    let labels = ["rusty gear", "intact bolt"].map(String::from);
    let output = constancy()
        .args(["classes", "--model"])
        .arg(pocket_model())
        .args(["--labels", &labels.join(","), "--output"])
        .arg(&bank)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let of_child = constancy_core::classify::ClassBank::parse(&std::fs::read(&bank).expect("bank"));
    let frame_encoder = constancy::recognizer::FrameEncoder::load(
        &pocket_model(),
        &constancy_engine::EngineOptions::default(),
    );
    let here = frame_encoder
        .expect("pocket")
        .bank_from_labels(
            &labels,
            &[constancy_core::classify::DEFAULT_PROMPT.to_owned()],
        )
        .expect("bank");
    let here = constancy_core::classify::ClassBank::parse(&here.to_bytes().expect("bytes"));
    assert_eq!(of_child.expect("bank"), here.expect("bank"));
}
