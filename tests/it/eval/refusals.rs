//! Inputs that `eval` refuses, warns about or leaves out.

use super::Workspace;
use crate::support::{fixture, picture, stderr, tiny_model, write_overflowing_model};
use serde_json::Value;

#[test]
fn one_environment_cannot_be_left_out() {
    let workspace = Workspace::with_pictures(&["noon"], &["gear", "bolt"], 3);
    workspace.assert_refused(
        &["images"],
        65,
        &["one environment, `noon`", "ENVIRONMENT/CLASS/IMAGE"],
    );
    workspace.assert_refused(
        &["images/noon"],
        65,
        &["lies in no class folder", "ENVIRONMENT/CLASS/IMAGE"],
    );
}

#[test]
fn a_missing_class_and_few_images_are_warned_about() {
    let workspace = Workspace::with_pictures(&["noon", "dusk", "fog"], &["gear", "bolt"], 5);
    std::fs::remove_dir_all(workspace.path("images/dusk/bolt")).expect("folder");
    let output = workspace.run(
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
        message.contains("all environments but `fog` have images of class `gear` only"),
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
fn an_unreadable_image_is_left_out_and_counted() {
    let workspace = Workspace::with_pictures(&["noon", "dusk", "fog"], &["gear", "bolt"], 5);
    std::fs::write(workspace.path("images/noon/gear/broken.png"), "no image").expect("file");
    let output = workspace.run(
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
fn a_non_finite_embedding_is_refused() {
    let workspace = Workspace::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 1);
    picture(40, 30, 1)
        .save(workspace.path("images/noon/gear/bright.png"))
        .expect("image");
    write_overflowing_model(&workspace.path("overflow.toml"));
    let output = workspace.run(
        &workspace.path("overflow.toml"),
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
    let workspace = Workspace::with_pictures(&["noon", "dusk"], &["gear", "bolt"], 4);
    let args = [
        "images",
        "--interventions",
        "exposure,haze",
        "--predictors",
        "means",
    ];
    let caches = || {
        let entries = std::fs::read_dir(workspace.path("cache/constancy")).expect("cache");
        entries
            .map(|e| e.expect("entry").path())
            .collect::<Vec<_>>()
    };
    workspace.report(&tiny_model(), &args);
    let first = caches().remove(0);
    let other = fixture("encoder/vision-int8-tensor.toml");
    assert_eq!(
        workspace.report(&other, &args)["embeddings"]["from_cache"],
        0,
        "it has a cache of its own"
    );
    let second = caches()
        .into_iter()
        .find(|path| *path != first)
        .expect("a second file");
    std::fs::rename(&first, &second).expect("cache");
    let output = workspace.run(&other, &args);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("not of the encoder with sha256"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn invalid_arguments_are_refused() {
    let workspace = Workspace::with_pictures(&["noon", "dusk", "fog"], &["gear", "bolt"], 2);
    workspace.assert_refused(&["nowhere"], 66, &["nowhere", "no such folder"]);
    workspace.assert_refused(
        &["images", "--interventions", "paper,fog"],
        64,
        &["`fog`", "paper, camera and all"],
    );
    workspace.assert_refused(
        &["images", "--interventions", "haze"],
        64,
        &["--interventions haze", "at least 2 families"],
    );
    workspace.assert_refused(
        &["images", "--per-class", "4"],
        64,
        &["--hold-out-families"],
    );
    workspace.assert_refused(
        &["images", "--open", "--hold-out-families"],
        64,
        &["cannot be used with"],
    );
    let few = Workspace::with_pictures(&["noon", "dusk", "fog"], &["gear", "bolt"], 1);
    few.assert_refused(
        &["images", "--select", "identification"],
        65,
        &["no map can be chosen", "at least 8"],
    );
}
