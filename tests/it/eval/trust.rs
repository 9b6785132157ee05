//! How far answers can be trusted: calibration, ranking and classes that nobody knew.

use super::{Workspace, figures, number, rows};
use crate::support::{pocket_model, stdout};
use serde_json::Value;

const RANKERS: [&str; 8] = [
    "softmax",
    "fitted softmax",
    "margin",
    "energy",
    "cosine",
    "Mahalanobis",
    "relative Mahalanobis",
    "neighbours",
];

/// An estimate within its interval, and within `0..=1`.
fn share(interval: &Value) -> f64 {
    let [low, estimate, high] = ["low", "estimate", "high"].map(|key| number(&interval[key]));
    assert!(
        (0.0..=estimate).contains(&low) && (estimate..=1.0).contains(&high),
        "{interval}"
    );
    estimate
}

/// Checks a figure's trust, and returns the area under the risk–coverage curve of each ranker.
fn areas(figure: &Value) -> Vec<f64> {
    let trust = figure["trust"].as_array().expect("trust");
    let names: Vec<&str> = trust.iter().filter_map(|t| t["ranker"].as_str()).collect();
    assert_eq!(names, RANKERS);
    let wrong = 1.0 - number(&figure["accuracy"]["estimate"]);
    trust
        .iter()
        .map(|trust| {
            let probability = trust["ranker"].as_str().expect("name").contains("softmax");
            assert_eq!(trust["ece"].is_object(), probability, "{trust}");
            if probability {
                share(&trust["ece"]);
                assert!(number(&trust["ece_by_chance"]) < 0.5, "{trust}");
            }
            // The wrong ones could all be among the rest.
            let least = 1.0 - wrong / 0.8 - 1e-9;
            assert!(share(&trust["accuracy_at_80"]) >= least, "{trust}");
            share(&trust["aurc"])
        })
        .collect()
}

#[test]
fn every_figure_says_how_far_its_answers_can_be_trusted() {
    let workspace = Workspace::with_renders(&["noon", "overcast", "night-ir"], 3, 8);
    let args = [
        "images",
        "--interventions",
        "exposure,gamma,haze",
        "--predictors",
        "means,probe,zero-shot",
        "--csv",
        "r.csv",
    ];
    let report = workspace.report(&pocket_model(), &args);
    let section = &report["sections"][0];
    for row in section["figures"].as_array().expect("figures") {
        let of_groups: Vec<Vec<f64>> = figures(row).into_iter().map(areas).collect();
        let (mean, groups) = of_groups.split_last().expect("the mean");
        for (ranker, mean) in mean.iter().enumerate() {
            let sum: f64 = groups.iter().map(|areas| areas[ranker]).sum();
            assert!((sum / groups.len() as f64 - mean).abs() < 1e-9, "{row}");
        }
    }
    let softmax = &rows(section, "class means")[0]["mean"]["trust"][0];
    let csv = std::fs::read_to_string(workspace.path("r.csv")).expect("CSV");
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().expect("a head").split(',').collect();
    let column = |name: &str| head.iter().position(|h| *h == name).expect("a column");
    let raw = lines.find(|line| line.contains("class means,raw,,,,mean"));
    let cells: Vec<&str> = raw.expect("a line").split(',').collect();
    for (name, interval) in [
        ("aurc softmax", &softmax["aurc"]),
        ("ece softmax", &softmax["ece"]),
    ] {
        let cell: f64 = cells[column(name)].parse().expect("a number");
        assert!((cell - share(interval)).abs() < 1e-6, "{name}: {cell}");
    }
    let text = stdout(&workspace.run(&pocket_model(), &args));
    for words in [
        "class means: how far softmax scores can be trusted",
        "linear probe: area under the risk-coverage curve",
        "relative Mahalanobis",
    ] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
    assert!(!text.contains("unknown"), "no class is unknown: {text}");
}

#[test]
fn with_open_classes_false_accepts_are_counted() {
    let workspace = Workspace::with_renders(&["noon", "overcast", "morning"], 4, 6);
    let args = [
        "images",
        "--open",
        "--interventions",
        "exposure,gamma",
        "--predictors",
        "means,zero-shot",
        "--map",
        "identity",
    ];
    let report = workspace.report(&pocket_model(), &args);
    for (section, of_unknown) in [(0, false), (1, true), (2, false)] {
        for row in report["sections"][section]["figures"]
            .as_array()
            .expect("figures")
        {
            for figure in figures(row) {
                let trust = figure["trust"].as_array().expect("trust");
                let counted = trust.iter().filter(|t| t["false_accepts"].is_object());
                let expected = if of_unknown { RANKERS.len() } else { 0 };
                assert_eq!(counted.count(), expected, "{figure}");
            }
        }
    }
    let mean = &rows(&report["sections"][1], "zero-shot")[0]["mean"]["trust"][0];
    // Pocket knows the parts by name, so prompts of two of them leave the others far off.
    assert!(share(&mean["false_accepts"]) < 0.8, "{mean}");
    let text = stdout(&workspace.run(&pocket_model(), &args));
    assert!(text.contains("% unknown accepted"), "{text}");
}
