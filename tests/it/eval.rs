//! `constancy eval`: protocols on rendered images, the forms of its report, and what it refuses.

use super::support::{
    constancy, fixture, overflowing_model, picture, stderr, tiny_model, write_environments,
};
use constancy_core::numeric::Rng;
use constancy_core::workshop::{Condition, Environment, Part, Scene, render};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

const PARTS: [Part; 4] = [Part::Gear, Part::Spring, Part::Bolt, Part::Washer];

/// A folder with images, a cache, and what is reported.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Pictures that mean nothing, for the small tower.
    fn with_pictures(environments: &[&str], classes: &[&str], count: u32) -> Self {
        let place = Self::new();
        write_environments(&place.path("images"), environments, classes, count);
        place
    }

    /// Renders of the first `parts`, `images/ENVIRONMENT/PART`, as pocket knows them.
    fn with_renders(environments: &[&str], parts: usize, count: u64) -> Self {
        let place = Self::new();
        for (e, name) in (0..).zip(environments) {
            for (p, part) in (0..).zip(&PARTS[..parts]) {
                let folder = place.path("images").join(name).join(part.name());
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
        place
    }

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

    /// What must go well, as JSON.
    fn report(&self, model: &Path, args: &[&str]) -> Value {
        let output = self.run(model, &[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// What the small tower's run must be refused for, with `code` and all of `words`.
    fn refused(&self, args: &[&str], code: i32, words: &[&str]) {
        let output = self.run(&tiny_model(), args);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{args:?}: {message} lacks {word}");
        }
    }
}

fn pocket() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pocket/pocket.toml")
}

/// A section's rows of a predictor.
fn rows<'a>(section: &'a Value, predictor: &str) -> Vec<&'a Value> {
    let figures = section["figures"].as_array().expect("figures");
    figures
        .iter()
        .filter(|f| f["row"]["predictor"] == predictor)
        .collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Every gain is the difference to the raw row, and every interval holds its estimate.
fn check(section: &Value, predictors: &[&str], groups: usize, rows_each: usize) {
    for predictor in predictors {
        let rows = rows(section, predictor);
        assert_eq!(rows.len(), rows_each, "{predictor}: {section}");
        let raw = rows[0];
        assert!(
            raw["row"]["candidates"] == "raw" && raw["mean"]["gain"].is_null(),
            "{raw}"
        );
        for row in &rows {
            let figures = row["groups"].as_array().expect("groups");
            assert_eq!(figures.len(), groups, "{row}");
            let of_raw = raw["groups"]
                .as_array()
                .expect("groups")
                .iter()
                .chain([&raw["mean"]]);
            for (figure, raw) in figures.iter().chain([&row["mean"]]).zip(of_raw) {
                for interval in [&figure["accuracy"], &figure["gain"]]
                    .into_iter()
                    .filter(|i| !i.is_null())
                {
                    let [low, estimate, high] =
                        ["low", "estimate", "high"].map(|key| number(&interval[key]));
                    assert!(
                        low <= estimate + 1e-9 && estimate <= high + 1e-9,
                        "{figure}"
                    );
                }
                if !figure["gain"].is_null() {
                    let (after, before) = (
                        &figure["accuracy"]["estimate"],
                        &raw["accuracy"]["estimate"],
                    );
                    let gain = number(after) - number(before);
                    assert!(
                        (gain - number(&figure["gain"]["estimate"])).abs() < 1e-9,
                        "{figure}"
                    );
                }
            }
        }
    }
}

#[test]
fn environments_are_left_out_in_turn_and_all_forms_say_the_same() {
    let place = Place::with_renders(&["noon", "overcast", "dusk"], 3, 8);
    let args = [
        "images",
        "--interventions",
        "exposure,gamma,haze",
        "--interventions",
        "jpeg,gain-noise",
        "--csv",
        "r.csv",
        "--markdown",
        "r.md",
        "--html",
        "r.html",
        "--prompt",
        "a photo of a {}",
    ];
    let report = place.report(&pocket(), &args);
    let predictors = ["zero-shot", "class means", "linear probe"];
    let section = &report["sections"][0];
    check(section, &predictors, 3, 1 + 2 * 2 * 2);
    let noon = &rows(section, "zero-shot")[0]["groups"][1];
    assert!(
        noon["name"] == "noon" && number(&noon["accuracy"]["estimate"]) > 0.8,
        "pocket knows daylight: {noon}"
    );
    assert_eq!(report["embeddings"]["computed"], 72 * 6);
    // Three targets, two sets, two criteria, all maps and soft ones.
    assert_eq!(report["choices"].as_array().map(Vec::len), Some(24));
    assert_eq!(report["spectra"][0].as_array().map(Vec::len), Some(192));

    let read = |name: &str| std::fs::read_to_string(place.path(name)).expect("a report");
    let csv = read("r.csv");
    assert_eq!(csv.lines().count(), 1 + 3 * 9 * 4);
    let mean = rows(section, "class means")[1]["mean"]["accuracy"]["estimate"]
        .as_f64()
        .expect("a mean");
    let line = csv
        .lines()
        .find(|l| l.contains("class means,ICM,\"exposure,gamma,haze\",identification,mean"))
        .expect("a line");
    assert!(line.contains(&format!(",{mean:.6},")), "{line} has {mean}");
    let percent = format!("{:.1} (", mean * 100.0);
    let markdown = read("r.md");
    let line = markdown
        .lines()
        .find(|l| l.starts_with("| ICM, exposure,gamma,haze, by identification"))
        .expect("a row");
    assert!(
        markdown.contains("## Class means: ") && line.contains('|'),
        "{markdown}"
    );
    let html = read("r.html");
    assert!(
        html.contains(&percent)
            && html.contains("<svg")
            && html.contains("data:image/jpeg;base64,/9j/")
    );
    assert!(
        html.contains("prefers-color-scheme:dark")
            && html.contains("aria-label")
            && html.contains("lang=\"en\"")
    );
    assert!(!html.contains("http"), "it needs nothing else");

    let again = place.report(&pocket(), &args);
    assert_eq!(
        (&again["embeddings"]["computed"], &again["sections"]),
        (&0.into(), &report["sections"])
    );
    let text = String::from_utf8(place.run(&pocket(), &args).stdout).expect("UTF-8");
    let line = text
        .lines()
        .find(|l| l.starts_with("ICM, exposure,gamma,haze, by identification"))
        .expect("a row");
    assert!(
        text.contains("class means: environments that nothing was learnt from")
            && line.contains("to"),
        "{text}"
    );
}

#[test]
fn open_classes_are_judged_apart() {
    let place = Place::with_renders(&["noon", "overcast", "morning"], 4, 6);
    let args = [
        "images",
        "--open",
        "--interventions",
        "exposure,gamma,haze",
        "--predictors",
        "means,zero-shot",
    ];
    let report = place.report(&pocket(), &args);
    let titles: Vec<&str> = report["sections"]
        .as_array()
        .expect("sections")
        .iter()
        .filter_map(|s| s["title"].as_str())
        .collect();
    assert_eq!(
        titles,
        [
            "classes that fit and choice knew",
            "classes that they did not know",
            "all classes"
        ]
    );
    let images =
        |section: usize| report["sections"][section]["figures"][0]["groups"][0]["images"].as_u64();
    assert_eq!(
        [images(0), images(1), images(2)],
        [Some(12), Some(12), Some(24)]
    );
    for section in 0..3 {
        check(
            &report["sections"][section],
            &["class means", "zero-shot"],
            3,
            5,
        );
    }
    let two = Place::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 2);
    two.refused(
        &["images", "--open"],
        64,
        &["half of 2 classes", "at least 3"],
    );
}

#[test]
fn families_are_left_out_in_turn_and_few_images_learnt_from() {
    let place = Place::with_renders(&["noon"], 3, 14);
    // A folder of classes alone.
    let folder = place.path("images/noon").display().to_string();
    let args = [
        &folder,
        "--hold-out-families",
        "--per-class",
        "8",
        "--draws",
        "2",
        "--interventions",
        "exposure,gamma,infrared,low-light",
        "--predictors",
        "means,probe",
    ];
    let report = place.report(&pocket(), &args);
    check(
        &report["sections"][0],
        &["class means", "linear probe"],
        4,
        3,
    );
    check(
        &report["sections"][1],
        &["class means", "linear probe"],
        1,
        3,
    );
    let groups = &report["sections"][0]["figures"][0]["groups"];
    let names: Vec<&str> = groups
        .as_array()
        .expect("groups")
        .iter()
        .filter_map(|g| g["name"].as_str())
        .collect();
    assert_eq!(names, ["exposure", "gamma", "infrared", "low-light"]);
    // Six of each class are left by a draw, and more than six were left by one of two.
    let images = groups[0]["images"].as_u64().expect("a count");
    assert!((19..=36).contains(&images), "{images}");
    assert_eq!(report["environments"], serde_json::json!(["noon"]));
    let fewer = [&args[..], &["--seed", "2"]].concat();
    assert_ne!(
        place.report(&pocket(), &fewer)["sections"],
        report["sections"],
        "another seed draws others"
    );
    place.refused(
        &[&folder, "--hold-out-families", "--per-class", "14"],
        64,
        &["has 14 images", "learn from fewer"],
    );
    place.refused(
        &[
            &folder,
            "--hold-out-families",
            "--interventions",
            "haze,jpeg",
        ],
        64,
        &["at least 3 families"],
    );
    // Labels join, as one more set.
    let labels = [
        "--interventions",
        "exposure,gamma,infrared,low-light,same-class",
        "--predictors",
        "means",
    ];
    let report = place.report(
        &pocket(),
        &[
            &args[..6],
            &labels,
            &["--interventions", "exposure,haze,jpeg"],
        ]
        .concat(),
    );
    check(&report["sections"][0], &["class means"], 6, 5);
    assert_eq!(report["sets"][0]["families"][4], "same-class");
    place.refused(
        &[
            &folder,
            "--hold-out-families",
            "--per-class",
            "4",
            "--select",
            "environments",
        ],
        64,
        &["choose by identification"],
    );
}

#[test]
fn one_environment_cannot_be_left_out() {
    let place = Place::with_pictures(&["noon"], &["gear", "bolt"], 3);
    place.refused(
        &["images"],
        65,
        &["one environment, `noon`", "ENVIRONMENT/CLASS/IMAGE"],
    );
    place.refused(
        &["images/noon"],
        65,
        &["lies in no class folder", "ENVIRONMENT/CLASS/IMAGE"],
    );
}

#[test]
fn two_environments_choose_by_identification_and_say_so() {
    let place = Place::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 6);
    let args = [
        "images",
        "--interventions",
        "exposure,haze",
        "--predictors",
        "means",
    ];
    let report = place.report(&tiny_model(), &args);
    check(&report["sections"][0], &["class means"], 2, 3);
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("with two environments the sources are one"),
        "{warnings}"
    );
    let wanted = [&args[..], &["--select", "environments"]].concat();
    place.refused(
        &wanted,
        65,
        &["of one environment, `noon`", "choose by identification"],
    );
}

#[test]
fn a_class_that_is_missing_and_few_images_are_warned_of() {
    let place = Place::with_pictures(&["noon", "dusk", "fog"], &["gear", "bolt"], 5);
    std::fs::remove_dir_all(place.path("images/dusk/bolt")).expect("folder");
    let output = place.run(
        &tiny_model(),
        &["images", "--interventions", "exposure,haze", "--json"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(
        message.contains("environment `dusk` has no image of class `bolt`"),
        "{message}"
    );
    assert!(
        message.contains("beside environment `fog` there are images of class `gear` only"),
        "{message}"
    );
    assert!(
        message.contains("pairs for embeddings of width 48") && message.contains("more images"),
        "{message}"
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let images: Vec<u64> = report["sections"][0]["figures"][0]["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .filter_map(|g| g["images"].as_u64())
        .collect();
    assert_eq!(images, [5, 10, 10]);
}

#[test]
fn an_image_that_cannot_be_read_is_left_out_and_counted() {
    let place = Place::with_pictures(&["noon", "dusk", "fog"], &["gear", "bolt"], 5);
    std::fs::write(place.path("images/noon/gear/broken.png"), "no image").expect("file");
    let output = place.run(
        &tiny_model(),
        &["images", "--interventions", "exposure,haze", "--json"],
    );
    assert_eq!(output.status.code(), Some(65));
    let message = stderr(&output);
    assert!(
        message.contains("broken.png: not a readable") && message.contains("1 of 31 images"),
        "{message}"
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&report["images"], &report["unreadable"]),
        (&30.into(), &1.into())
    );
}

#[test]
fn an_embedding_that_is_no_number_is_refused_by_its_images_name() {
    let place = Place::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 1);
    picture(40, 30, 1)
        .save(place.path("images/noon/gear/bright.png"))
        .expect("image");
    overflowing_model(&place.path("overflow.toml"));
    let output = place.run(
        &place.path("overflow.toml"),
        &["images", "--interventions", "exposure,haze"],
    );
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("its embedding holds a value that is not a finite number"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_caches_of_two_encoders_do_not_mix() {
    let place = Place::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 4);
    let args = [
        "images",
        "--interventions",
        "exposure,haze",
        "--predictors",
        "means",
    ];
    let caches = || {
        let entries = std::fs::read_dir(place.path("cache/constancy")).expect("cache");
        entries
            .map(|e| e.expect("entry").path())
            .collect::<Vec<_>>()
    };
    place.report(&tiny_model(), &args);
    let first = caches().remove(0);
    let other = fixture("encoder/vision-int8-tensor.toml");
    assert_eq!(
        place.report(&other, &args)["embeddings"]["from_cache"],
        0,
        "it has a file of its own"
    );
    let second = caches()
        .into_iter()
        .find(|path| *path != first)
        .expect("a second file");
    std::fs::rename(&first, &second).expect("cache");
    let output = place.run(&other, &args);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("not of the encoder with sha256"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_is_asked_wrongly_is_told() {
    let place = Place::with_pictures(&["noon", "dusk", "fog"], &["gear", "bolt"], 2);
    place.refused(&["nowhere"], 66, &["nowhere", "no such folder"]);
    place.refused(
        &["images", "--interventions", "paper,fog"],
        64,
        &["`fog`", "paper, camera and all"],
    );
    place.refused(
        &["images", "--interventions", "haze"],
        64,
        &["--interventions haze", "at least 2 families"],
    );
    place.refused(
        &["images", "--per-class", "4"],
        64,
        &["--hold-out-families"],
    );
    place.refused(
        &["images", "--open", "--hold-out-families"],
        64,
        &["cannot be used with"],
    );
    let few = Place::with_pictures(&["noon", "dusk", "fog"], &["gear", "bolt"], 1);
    few.refused(
        &["images", "--select", "identification"],
        65,
        &["no map can be chosen", "at least 8"],
    );
}

#[test]
fn a_sample_of_the_images_is_enough_where_one_says_so() {
    let place = Place::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 7);
    let args = [
        "images",
        "--interventions",
        "exposure,haze",
        "--predictors",
        "means",
        "--sample",
        "5",
    ];
    let report = place.report(&tiny_model(), &args);
    assert_eq!(
        (&report["images"], &report["embeddings"]["computed"]),
        (&20.into(), &60.into())
    );
}
