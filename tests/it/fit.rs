//! `constancy fit`: its report, its files, its cache, and its error messages.

mod cache;
mod choice;
mod harm;
mod moments;
mod pairs;
mod refusals;

use super::support::{constancy, stderr, stdout, tiny_model, write_environments, write_images};
use constancy_core::icm::Projection;
use constancy_engine::{Encoder, EngineOptions};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Width of the tiny model's embeddings.
const WIDTH: usize = 48;

/// A folder with images and a cache of its own, where fits run and write.
struct Workspace(tempfile::TempDir);

impl Workspace {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes `count` images to `images`.
    fn with_images(count: u32) -> Self {
        let workspace = Self::new();
        write_images(&workspace.path("images"), count);
        workspace
    }

    /// Writes `count` images of each class in each environment to `images/ENVIRONMENT/CLASS`.
    fn with_environments(environments: &[&str], classes: &[&str], count: u32) -> Self {
        let workspace = Self::new();
        write_environments(&workspace.path("images"), environments, classes, count);
        workspace
    }

    /// `constancy fit` in this folder, at a fixed time.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_constancy"));
        command
            .current_dir(self.0.path())
            .arg("fit")
            .args(args)
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env_remove("RUST_LOG");
        command.env("SOURCE_DATE_EPOCH", "1767225600");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }

    /// Runs it with the tiny model.
    fn fit(&self, args: &[&str]) -> Output {
        let model = tiny_model();
        self.run(&[&["--model", model.to_str().expect("UTF-8")], args].concat())
    }

    /// The JSON report of a run with the tiny model, which must succeed.
    fn report(&self, args: &[&str]) -> Value {
        let output = self.fit(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Runs it with the tiny model: it must exit with `code`, and stderr must contain all of `words`.
    fn assert_refused(&self, args: &[&str], code: i32, words: &[&str]) {
        let output = self.fit(args);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{args:?}: {message} lacks {word}");
        }
    }

    /// A written projection, read as the daemon reads it.
    fn projection(&self, name: &str) -> Projection {
        let encoder = Encoder::load(&tiny_model(), &EngineOptions::default()).expect("model");
        let bytes = std::fs::read(self.path(name)).expect("projection");
        Projection::parse(&bytes, encoder.sha256(), WIDTH).expect("projection")
    }

    /// The cache's file, if there is one; panics if there are several.
    fn cache_file(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path("cache/constancy")).ok()?;
        let files: Vec<PathBuf> = entries.map(|e| e.expect("entry").path()).collect();
        assert!(files.len() < 2, "{files:?}");
        files.into_iter().next()
    }
}

#[test]
fn a_fit_reports_its_choice_and_the_projection_can_be_used() {
    let workspace = Workspace::with_images(40);
    let output = workspace.fit(&[
        "images",
        "--interventions",
        "paper",
        "--select",
        "identification",
        "--draws",
        "2",
        "-o",
        "p.safetensors",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for words in [
        "images       40\n",
        "0 from the cache, 600 computed",
        "80 each of colour-jitter, equalise,",
        "tried by identification of images under an intervention that was left out",
        "* ",
        "soft, strength 1 ",
        "without the 20 most variant directions",
        "% of what interventions changed",
        "s for the fit at width 48",
        "written      p.safetensors",
    ] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
    let used = constancy()
        .current_dir(workspace.0.path())
        .args([
            "embed",
            "images/00001.jpg",
            "--projection",
            "p.safetensors",
            "--model",
        ])
        .arg(tiny_model())
        .output()
        .expect("it runs");
    assert!(used.status.success(), "{}", stderr(&used));
}

#[test]
fn the_file_records_how_it_was_fitted() {
    let workspace = Workspace::with_environments(&["noon", "dusk"], &["gear", "bolt"], 6);
    workspace.report(&["images", "--interventions", "exposure,haze", "-o", "p"]);
    let bytes = std::fs::read(workspace.path("p")).expect("projection");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("safetensors");
    let metadata = header.metadata().clone().expect("metadata");
    let fitted: Value = serde_json::from_str(&metadata["fitted"]).expect("JSON");
    assert_eq!(fitted["environments"], serde_json::json!(["dusk", "noon"]));
    assert_eq!(
        fitted["interventions"],
        serde_json::json!({"exposure": 24, "haze": 24})
    );
    assert_eq!(fitted["images"], 24);
    assert!(
        fitted["score_before"].is_f64()
            && fitted["score_after"].is_f64()
            && fitted["identity"].is_boolean()
    );
    assert_eq!(metadata["created"], "2026-01-01T00:00:00.000Z");
}
