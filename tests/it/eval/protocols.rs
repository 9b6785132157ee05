//! The protocols: what is held out, and the figures of the report.

use super::{Workspace, assert_consistent, is_whitened, number, rows};
use crate::support::{pocket_model, stdout, tiny_model};
use serde_json::Value;

/// The mean accuracy of class means under the first set's map, chosen by identification.
fn class_means_accuracy(section: &Value) -> f64 {
    let mean = &rows(section, "class means")[1]["mean"];
    number(&mean["accuracy"]["estimate"])
}

/// The line of a report that starts with `start`.
fn line<'a>(report: &'a str, start: &str) -> &'a str {
    let mut lines = report.lines();
    lines.find(|l| l.starts_with(start)).expect("a line")
}

/// What the report calls the choice by identification among all maps: also that among soft ones if both are the same.
fn maps(section: &Value) -> &str {
    let row = &rows(section, "class means")[1]["row"];
    row["candidates"].as_str().expect("a name")
}

fn assert_csv(csv: &str, section: &Value, accuracy: f64) {
    let rows = section["figures"].as_array().expect("figures").len();
    assert_eq!(csv.lines().count(), 1 + rows * 4);
    let mean = format!(
        "class means,{},\"exposure,gamma,haze\",identification,,mean",
        maps(section)
    );
    let line = csv.lines().find(|l| l.contains(&mean)).expect("a line");
    assert!(
        line.contains(&format!(",{accuracy:.6},")),
        "{line} has {accuracy}"
    );
}

fn assert_markdown(markdown: &str, maps: &str) {
    let row = format!("| {maps}, exposure,gamma,haze, by identification");
    let line = line(markdown, &row);
    assert!(
        markdown.contains("## Class means: ") && line.contains('|'),
        "{markdown}"
    );
}

fn assert_html(html: &str, accuracy: f64) {
    let percent = format!("{:.1} (", accuracy * 100.0);
    for part in [
        percent.as_str(),
        "<svg",
        "data:image/jpeg;base64,/9j/",
        "prefers-color-scheme:dark",
        "aria-label",
        "lang=\"en\"",
        "<code>constancy eval --model ",
        concat!("Made by constancy ", env!("CARGO_PKG_VERSION"), " on 20"),
        "Area under the risk-coverage curve by what ranks the answers",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("http"), "it loads nothing from elsewhere");
    let times = |what: &str| html.matches(what).count();
    assert_eq!(
        times("<table>"),
        times("<div class=\"scroll\" tabindex=\"0\"><table>"),
        "a wide table scrolls by itself"
    );
}

fn assert_text(text: &str, maps: &str) {
    let line = line(
        text,
        &format!("{maps}, exposure,gamma,haze, by identification"),
    );
    assert!(
        text.contains("class means: environments that nothing was learnt from")
            && line.contains("to"),
        "{text}"
    );
}

#[test]
fn environments_are_left_out_in_turn_and_all_report_formats_agree() {
    let workspace = Workspace::with_renders(&["noon", "overcast", "dusk"], 3, 8);
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
    let report = workspace.report(&pocket_model(), &args);
    let predictors = ["zero-shot", "class means", "linear probe"];
    let section = &report["sections"][0];
    assert_consistent(section, &predictors, 3, 1 + 2 * 2 * 2);
    let noon = &rows(section, "zero-shot")[0]["groups"][1];
    assert!(
        noon["name"] == "noon" && number(&noon["accuracy"]["estimate"]) > 0.8,
        "pocket was trained in daylight: {noon}"
    );
    assert_eq!(report["embeddings"]["computed"], 72 * 6);
    // Three targets, two sets; two criteria among all maps and soft ones, and a whitening.
    assert_eq!(report["choices"].as_array().map(Vec::len), Some(30));
    let whitened = |predictor| {
        let rows = rows(section, predictor).into_iter();
        rows.filter(|row| is_whitened(row)).count()
    };
    assert_eq!((whitened("class means"), whitened("linear probe")), (2, 2));
    assert_eq!(report["spectra"][0].as_array().map(Vec::len), Some(256));

    let read = |name: &str| std::fs::read_to_string(workspace.path(name)).expect("a report");
    let accuracy = class_means_accuracy(section);
    assert_csv(&read("r.csv"), section, accuracy);
    assert_markdown(&read("r.md"), maps(section));
    assert_html(&read("r.html"), accuracy);
    let again = workspace.report(&pocket_model(), &args);
    assert_eq!(
        (&again["embeddings"]["computed"], &again["sections"]),
        (&0.into(), &report["sections"])
    );
    assert_text(
        &stdout(&workspace.run(&pocket_model(), &args)),
        maps(section),
    );
}

#[test]
fn with_open_known_and_unknown_classes_are_scored_separately() {
    let workspace = Workspace::with_renders(&["noon", "overcast", "morning"], 4, 6);
    let args = [
        "images",
        "--open",
        "--interventions",
        "exposure,gamma,haze",
        "--predictors",
        "means,zero-shot",
    ];
    let report = workspace.report(&pocket_model(), &args);
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
        assert_consistent(
            &report["sections"][section],
            &["class means", "zero-shot"],
            3,
            5,
        );
    }
    let two = Workspace::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 2);
    two.assert_refused(
        &["images", "--open"],
        64,
        &["half of 2 classes", "at least 3"],
    );
}

/// A folder of classes, without environments.
const CLASSES: &str = "images/noon";
/// Holds out families, and learns from eight images of each class, drawn twice.
const FROM_FEW: [&str; 6] = [
    CLASSES,
    "--hold-out-families",
    "--per-class",
    "8",
    "--draws",
    "2",
];

#[test]
fn families_are_left_out_in_turn_and_the_probe_learns_from_few_images() {
    let workspace = Workspace::with_renders(&["noon"], 3, 14);
    let families = [
        "--interventions",
        "exposure,gamma,infrared,low-light",
        "--predictors",
        "means,probe",
    ];
    let args = [&FROM_FEW[..], &families].concat();
    let report = workspace.report(&pocket_model(), &args);
    let predictors = ["class means", "linear probe"];
    assert_consistent(&report["sections"][0], &predictors, 4, 3);
    assert_consistent(&report["sections"][1], &predictors, 1, 3);
    let groups = &report["sections"][0]["figures"][0]["groups"];
    let groups = groups.as_array().expect("groups");
    let names: Vec<&str> = groups.iter().filter_map(|g| g["name"].as_str()).collect();
    assert_eq!(names, ["exposure", "gamma", "infrared", "low-light"]);
    // Each draw leaves six images of each class for the test; two draws together leave more than six.
    let images = groups[0]["images"].as_u64().expect("a count");
    assert!((19..=36).contains(&images), "{images}");
    assert_eq!(report["environments"], serde_json::json!(["noon"]));
    let other_seed = [&args[..], &["--seed", "2"]].concat();
    assert_ne!(
        workspace.report(&pocket_model(), &other_seed)["sections"],
        report["sections"],
        "another seed draws other images"
    );
}

#[test]
fn same_class_pairs_join_a_set_of_families() {
    let workspace = Workspace::with_renders(&["noon"], 3, 14);
    let families = [
        "--interventions",
        "exposure,gamma,infrared,low-light,same-class",
        "--predictors",
        "means",
        "--interventions",
        "exposure,haze,jpeg",
    ];
    let report = workspace.report(&pocket_model(), &[&FROM_FEW[..], &families].concat());
    assert_consistent(&report["sections"][0], &["class means"], 6, 5);
    assert_eq!(report["sets"][0]["families"][4], "same-class");
}

#[test]
fn a_whitening_is_chosen_from_the_sources_and_sets_that_differ_in_same_class_share_it() {
    let workspace = Workspace::with_renders(&["noon"], 3, 14);
    let sets = [
        "--interventions",
        "exposure,gamma,infrared,low-light",
        "--interventions",
        "exposure,gamma,infrared,low-light,same-class",
        "--predictors",
        "means,probe",
        "--select",
        "within-class",
    ];
    let args = [&FROM_FEW[..], &sets].concat();
    let report = workspace.report(&pocket_model(), &args);
    for predictor in ["class means", "linear probe"] {
        let rows = rows(&report["sections"][0], predictor);
        assert!(rows.len() == 2 && is_whitened(rows[1]), "{report}");
        assert_eq!(rows[1]["row"]["criterion"], "held_out_images");
    }
    let choices = report["choices"].as_array().expect("choices");
    // Four families and the images as they are.
    assert_eq!(choices.len(), 5);
    for choice in choices {
        let trials = choice["selection"]["trials"].as_array().expect("trials");
        let left_out = choice["target"].as_str().expect("a name");
        assert!(trials[0]["map"] == "identity", "{left_out}: {trials:?}");
    }
    let text = stdout(&workspace.run(&pocket_model(), &args));
    let row = "whitened, exposure,gamma,infrared,low-light, by held-out images";
    assert!(text.contains(row), "{text}");
}

#[test]
fn holding_out_families_needs_images_families_and_no_environments() {
    let workspace = Workspace::with_renders(&["noon"], 3, 14);
    let hold_out = [CLASSES, "--hold-out-families"];
    for (more, words) in [
        (
            &["--per-class", "14"][..],
            &["has 14 images", "learn from fewer"][..],
        ),
        (&["--interventions", "haze,jpeg"], &["at least 3 families"]),
        (
            &["--per-class", "4", "--select", "environments"],
            &["choose by identification"],
        ),
    ] {
        workspace.assert_refused(&[&hold_out[..], more].concat(), 64, words);
    }
}

#[test]
fn with_two_environments_identification_chooses_and_a_warning_says_so() {
    let workspace = Workspace::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 6);
    let args = [
        "images",
        "--interventions",
        "exposure,haze",
        "--predictors",
        "means",
    ];
    let report = workspace.report(&tiny_model(), &args);
    assert_consistent(&report["sections"][0], &["class means"], 2, 3);
    // With fewer pairs than dimensions all candidates are soft, so both choices are one row.
    assert_eq!(maps(&report["sections"][0]), "ICM and soft");
    assert_eq!(rows(&report["sections"][0], "class means").len(), 3);
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("with two environments the sources are one"),
        "{warnings}"
    );
    let wanted = [&args[..], &["--select", "environments"]].concat();
    workspace.assert_refused(
        &wanted,
        65,
        &["of one environment, `noon`", "choose by identification"],
    );
}
