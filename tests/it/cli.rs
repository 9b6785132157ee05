//! The subcommands besides `run`, `fit`, `eval` and `model`.

mod calibrate;
mod camera;
mod check;
mod class_folders;
mod classes;
mod classify;
mod evaluate;
mod outputs;
mod unknown;

use super::support::{constancy, fixture, json_lines, stderr, stdout, tiny_model, write_images};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

/// Runs constancy with these arguments.
fn run(args: &[&str]) -> Output {
    constancy().args(args).output().expect("it runs")
}

/// The tiny model's manifest, as an argument.
fn model() -> String {
    tiny_model().display().to_string()
}

/// A path as an argument.
fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn help_and_version_go_to_stdout_and_a_wrong_command_line_exits_with_64() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["classes", "--help"],
        &["classes", "evaluate", "--help"],
        &["camera", "list", "--help"],
        &["--version"],
    ] {
        let output = run(args);
        assert!(
            output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty(),
            "{args:?}"
        );
    }
    for args in [
        &["ruin"][..],
        &["classify"],
        &["run", "--confg", "x"],
        &[],
        &["classes", "--model", "x"],
        &["classes", "evaluate", "bank"],
        &["classes", "--labels", "a, b", "evaluate", "bank", "held"],
    ] {
        let output = run(args);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn embed_writes_unit_rows_as_json_and_as_safetensors() {
    let folder = tempfile::tempdir().expect("folder");
    write_images(folder.path(), 2);
    let (images, model) = (text(folder.path()), model());
    let lines = json_lines(&run(&["embed", "--model", &model, &images]));
    for line in &lines {
        let row: Vec<f64> = line["embedding"]
            .as_array()
            .expect("row")
            .iter()
            .filter_map(Value::as_f64)
            .collect();
        assert_eq!(row.len(), 48);
        assert!((row.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-5);
    }
    let output = folder.path().join("out.safetensors");
    let projection = text(&fixture("projection/tiny.safetensors"));
    let result = run(&[
        "embed",
        "--model",
        &model,
        "--projection",
        &projection,
        &images,
        "--output",
        &text(&output),
    ]);
    assert!(result.status.success(), "{}", stderr(&result));
    let bytes = std::fs::read(&output).expect("output");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    assert_eq!(
        file.tensor("embeddings").expect("embeddings").shape(),
        [2, 40],
        "the projection keeps 40 directions"
    );
    let result = run(&[
        "embed",
        "--model",
        &model,
        &images,
        "--output",
        "/nowhere/out.safetensors",
    ]);
    assert_eq!(result.status.code(), Some(73), "{}", stderr(&result));
}

#[test]
fn bench_reports_latency_memory_and_time_per_operator() {
    let model = model();
    let bench = |more: &[&str]| {
        let args = [
            &["bench", "--model", &model, "--runs", "3", "--threads", "2"],
            more,
        ]
        .concat();
        let output = run(&args);
        assert!(output.status.success(), "{}", stderr(&output));
        output
    };
    let report = &json_lines(&bench(&["--batch", "2", "--json"]))[0];
    for key in [
        "load_ms",
        "median_ms",
        "p95_ms",
        "images_per_second",
        "weights_mb",
        "peak_resident_mb",
    ] {
        assert!(
            report[key].as_f64().is_some_and(|v| v > 0.0),
            "{key}: {report}"
        );
    }
    assert_eq!(
        (&report["threads"], &report["batch"]),
        (&2.into(), &2.into())
    );
    let operators = report["operators"].as_array().expect("operators");
    let percent: f64 = operators.iter().filter_map(|o| o["percent"].as_f64()).sum();
    assert!(
        (percent - 100.0).abs() < 1e-6 && operators.iter().any(|o| o["operator"] == "attention"),
        "{report}"
    );
    let plain = stdout(&bench(&["--plain"]));
    assert!(
        plain.contains(" on tract, ") && !plain.contains("attention"),
        "{plain}"
    );
}

/// Each kind of child that tests start.
#[test]
fn a_users_own_rust_log_changes_no_test() {
    for test in [
        "cli::classify::a_closed_pipe_is_not_an_error",
        "cli::class_folders::names_of_classes_are_checked_before_their_images_cost_time",
    ] {
        let output = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test])
            .env("RUST_LOG", "trace")
            .output()
            .expect("it runs");
        let printed = stdout(&output);
        assert!(
            output.status.success() && printed.contains("1 passed"),
            "{printed}"
        );
    }
}
