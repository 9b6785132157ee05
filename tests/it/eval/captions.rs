//! Interventions in text: sets of families with and without captions.

use super::{Workspace, number, rows};
use crate::support::tiny_model;
use serde_json::Value;

fn accuracy(row: &Value) -> f64 {
    number(&row["mean"]["accuracy"]["estimate"])
}

#[test]
fn captions_join_the_sets_that_name_them() {
    let workspace = Workspace::with_pictures(&["noon", "dusk"], &["hex_bolt", "gear"], 6);
    std::fs::write(workspace.path("pairs.tsv"), "a gear\ta gear at night\n").expect("pairs");
    let report = |captions: &[&str]| {
        let sets = [
            "images",
            "--interventions",
            "exposure,haze",
            "--interventions",
            "exposure,haze,captions",
            "--predictors",
            "means",
            "--map",
            "soft:30",
        ];
        workspace.report(&tiny_model(), &[&sets[..], captions].concat())
    };
    let (edits, file) = (
        report(&["--caption-edits"]),
        report(&["--captions", "pairs.tsv"]),
    );
    assert_eq!(edits["sets"][1]["families"][2], "captions");
    for (report, other) in [(&edits, &file), (&file, &edits)] {
        assert_eq!(rows(&report["sections"][0], "class means").len(), 3);
        assert_ne!(
            report["spectra"][0], report["spectra"][1],
            "captions move other directions"
        );
        assert_eq!(
            report["spectra"][0], other["spectra"][0],
            "the first set has none"
        );
        assert_ne!(report["spectra"][1], other["spectra"][1]);
    }
    let alone = [
        "images",
        "--interventions",
        "captions",
        "--caption-edits",
        "--predictors",
        "means",
        "--map",
        "soft:1",
    ];
    let alone = workspace.report(&tiny_model(), &alone);
    let of_captions = rows(&alone["sections"][0], "class means");
    assert!(
        of_captions.len() == 2 && accuracy(of_captions[1]) <= 1.0,
        "{alone}"
    );
}

#[test]
fn with_captions_the_default_sets_are_all_without_and_with_them() {
    let workspace = Workspace::with_pictures(&["noon", "dusk"], &["hex_bolt", "gear"], 4);
    let args = [
        "images",
        "--caption-edits",
        "--predictors",
        "means",
        "--map",
        "soft:1",
    ];
    let report = workspace.report(&tiny_model(), &args);
    let names = [&report["sets"][0]["name"], &report["sets"][1]["name"]];
    assert_eq!(names, ["all", "all,captions"]);
    assert_eq!(report["sets"].as_array().map(Vec::len), Some(2));
}

#[test]
fn captions_without_a_source_or_a_use_are_refused() {
    let workspace = Workspace::with_pictures(&["noon", "dusk"], &["hex_bolt", "gear"], 4);
    for (args, words) in [
        (
            &["--interventions", "exposure,haze,captions"][..],
            &["captions need --captions FILE or --caption-edits"][..],
        ),
        (
            &["--interventions", "exposure,haze", "--caption-edits"],
            &["no set uses --caption-edits", "add captions"],
        ),
        (
            &["--interventions", "captions", "--caption-edits"],
            &["at least 2 families"],
        ),
    ] {
        workspace.assert_refused(&[&["images"][..], args].concat(), 64, words);
    }
}
