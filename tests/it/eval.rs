//! `constancy eval`: protocols on rendered images, the formats of its report, and its error messages.

mod captions;
mod protocols;
mod refusals;
mod sweeps;
mod trust;

use super::support::{constancy, stderr, tiny_model, write_environments};
use constancy_core::numeric::Rng;
use constancy_core::workshop::{Condition, Environment, Part, Scene, render};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

const PARTS: [Part; 4] = [Part::Gear, Part::Spring, Part::Bolt, Part::Washer];

/// A folder with images and a cache of its own, where evaluations run and write.
struct Workspace(tempfile::TempDir);

impl Workspace {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes `count` meaningless images of each class in each environment to `images/ENVIRONMENT/CLASS`.
    fn with_pictures(environments: &[&str], classes: &[&str], count: u32) -> Self {
        let workspace = Self::new();
        write_environments(&workspace.path("images"), environments, classes, count);
        workspace
    }

    /// Writes `count` renders of each of the first parts in each environment to `images/ENVIRONMENT/PART`. The model
    /// pocket recognises them.
    fn with_renders(environments: &[&str], parts: usize, count: u64) -> Self {
        let workspace = Self::new();
        for (e, name) in (0..).zip(environments) {
            for (p, part) in (0..).zip(&PARTS[..parts]) {
                let folder = workspace.path("images").join(name).join(part.name());
                std::fs::create_dir_all(&folder).expect("folder");
                for i in 0..count {
                    let mut rng = Rng::new((e << 40) + (p << 32) + i + 77);
                    let environment = Environment::named(name).expect("an environment");
                    let scene = Scene::of(*part, Condition::Intact, &mut rng, environment);
                    let pixels = image::RgbImage::from_raw(320, 240, render(&scene, 320, 240))
                        .expect("a render");
                    pixels.save(folder.join(format!("{i}.jpg"))).expect("image");
                }
            }
        }
        workspace
    }

    /// Runs `constancy eval` in this folder.
    fn run(&self, model: &Path, args: &[&str]) -> Output {
        let mut command = constancy();
        command
            .current_dir(self.0.path())
            .arg("eval")
            .arg("--model")
            .arg(model)
            .args(args);
        command
            .env("XDG_CACHE_HOME", self.path("cache"))
            .output()
            .expect("it runs")
    }

    /// The JSON report of a run, which must succeed.
    fn report(&self, model: &Path, args: &[&str]) -> Value {
        let output = self.run(model, &[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Runs it with the tiny model: it must exit with `code`, and stderr must contain all of `words`.
    fn assert_refused(&self, args: &[&str], code: i32, words: &[&str]) {
        let output = self.run(&tiny_model(), args);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{args:?}: {message} lacks {word}");
        }
    }
}

/// The rows of a predictor in a section of the report.
fn rows<'a>(section: &'a Value, predictor: &str) -> Vec<&'a Value> {
    let figures = section["figures"].as_array().expect("figures");
    figures
        .iter()
        .filter(|f| f["row"]["predictor"] == predictor)
        .collect()
}

/// Whether a row is that of whitenings, which `assert_consistent` does not count.
fn is_whitened(row: &Value) -> bool {
    row["row"]["candidates"] == "whitened"
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Asserts that every interval contains its estimate and that every gain is the difference to the raw row, which is the
/// first. A section has `groups` groups and, for each predictor, up to `rows_each` rows besides those of whitenings: the
/// choices of hard and soft maps share one where they are the same.
fn assert_consistent(section: &Value, predictors: &[&str], groups: usize, rows_each: usize) {
    for predictor in predictors {
        let rows = rows(section, predictor);
        let both = rows
            .iter()
            .filter(|row| row["row"]["candidates"] == "ICM and soft");
        let whitened = rows.iter().filter(|row| is_whitened(row)).count();
        assert_eq!(
            rows.len() - whitened + both.count(),
            rows_each,
            "{predictor}: {section}"
        );
        assert!(whitened == 0 || *predictor != "zero-shot", "{section}");
        let raw = rows[0];
        assert!(
            raw["row"]["candidates"] == "raw" && raw["mean"]["gain"].is_null(),
            "{raw}"
        );
        for row in &rows {
            let figures = figures(row);
            assert_eq!(figures.len(), groups + 1, "{row}");
            for (figure, raw) in figures.into_iter().zip(self::figures(raw)) {
                assert_figure(figure, raw);
            }
        }
    }
}

/// A row's figures: of each group, and their mean.
fn figures(row: &Value) -> Vec<&Value> {
    let groups = row["groups"].as_array().expect("groups");
    groups.iter().chain([&row["mean"]]).collect()
}

fn assert_figure(figure: &Value, raw: &Value) {
    let intervals = [&figure["accuracy"], &figure["gain"]];
    for interval in intervals.into_iter().filter(|i| !i.is_null()) {
        let [low, estimate, high] = ["low", "estimate", "high"].map(|key| number(&interval[key]));
        assert!(
            low <= estimate + 1e-9 && estimate <= high + 1e-9,
            "{figure}"
        );
    }
    if !figure["gain"].is_null() {
        let estimate = |figure: &Value| number(&figure["accuracy"]["estimate"]);
        let gain = estimate(figure) - estimate(raw);
        assert!(
            (gain - number(&figure["gain"]["estimate"])).abs() < 1e-9,
            "{figure}"
        );
    }
}

#[test]
fn sample_limits_the_images_of_each_class_and_environment() {
    let workspace = Workspace::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 7);
    let args = [
        "images",
        "--interventions",
        "exposure,haze",
        "--predictors",
        "means",
        "--sample",
        "5",
    ];
    let report = workspace.report(&tiny_model(), &args);
    assert_eq!(
        (&report["images"], &report["embeddings"]["computed"]),
        (&20.into(), &60.into())
    );
}
