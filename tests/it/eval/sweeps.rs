//! `--map`: maps that are evaluated as they are.

use super::{Workspace, rows};
use crate::support::{stderr, tiny_model};

const SMALL: [&str; 5] = [
    "images",
    "--interventions",
    "exposure,haze",
    "--predictors",
    "means",
];

#[test]
fn lambda_and_rank_are_swept() {
    let workspace = Workspace::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 6);
    let maps = [
        "--map",
        "icm:lambda:1/10,rank:24/40",
        "--map",
        "soft:1",
        "--map",
        "soft:1,within:3/10",
        "--csv",
        "r.csv",
    ];
    let report = workspace.report(&tiny_model(), &[&SMALL[..], &maps].concat());
    let rows = rows(&report["sections"][0], "class means");
    let names: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["row"]["map"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "λ' = 1, without the 24 most variant directions",
            "λ' = 1, without the 8 most variant directions",
            "λ' = 10, without the 24 most variant directions",
            "λ' = 10, without the 8 most variant directions",
            "soft, strength 1",
            "whitened, interventions 1, within classes 3",
            "whitened, interventions 1, within classes 10",
        ]
    );
    assert_eq!(rows[0]["row"]["candidates"], "raw");
    assert_eq!(
        report["choices"],
        serde_json::json!([]),
        "nothing is chosen"
    );
    let csv = std::fs::read_to_string(workspace.path("r.csv")).expect("CSV");
    let line =
        ",class means,\"λ' = 10, without the 8 most variant directions\",\"exposure,haze\",,,mean,";
    assert!(csv.contains(line), "{csv}");
}

#[test]
fn keys_without_values_stand_for_usual_ones() {
    let workspace = Workspace::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 4);
    for (maps, count) in [("icm:lambda,rank", 24), ("soft", 6), ("lambda:3,remove", 3)] {
        let report = workspace.report(&tiny_model(), &[&SMALL[..], &["--map", maps]].concat());
        let found = rows(&report["sections"][0], "class means").len();
        assert_eq!(found, 1 + count, "{maps}");
    }
}

#[test]
fn maps_that_cannot_be_swept_are_refused() {
    let workspace = Workspace::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 4);
    for (more, words) in [
        (
            &["--map", "rank:48"][..],
            &["--map", "48 cannot be left", "1 to 47"][..],
        ),
        (&["--map", "lambda"], &["`lambda`", "icm:lambda,rank"]),
        (
            &["--map", "soft", "--select", "identification"],
            &["--select"],
        ),
    ] {
        workspace.assert_refused(&[&SMALL[..], more].concat(), 64, words);
    }
    // More directions than interventions moved.
    let output = workspace.run(
        &tiny_model(),
        &[&SMALL[..], &["--map", "remove:47"]].concat(),
    );
    assert!(!output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("direction"), "{}", stderr(&output));
}
