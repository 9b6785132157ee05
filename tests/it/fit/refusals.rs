//! Inputs that `fit` refuses, warns about or leaves out.

use super::Workspace;
use crate::support::{jpeg, picture, stderr, stdout, write_overflowing_model};
use serde_json::Value;

#[test]
fn an_unreadable_image_is_left_out() {
    let workspace = Workspace::with_images(12);
    std::fs::write(workspace.path("images/bad.jpg"), &jpeg(100, 100, 1)[..900]).expect("image");
    std::fs::write(workspace.path("images/worse.png"), "no image").expect("image");
    let output = workspace.fit(&["images", "--interventions", "exposure,haze", "--json"]);
    assert_eq!(output.status.code(), Some(65));
    let message = stderr(&output);
    for words in [
        "bad.jpg: the JPEG is cut short",
        "worse.png: not a readable",
        "2 of 14 images could not be read",
    ] {
        assert!(message.contains(words), "{message}");
    }
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&report["images"], &report["unreadable"]),
        (&12.into(), &2.into())
    );
    assert!(workspace.path("projection.safetensors").exists());
    std::fs::remove_file(workspace.path("projection.safetensors")).expect("projection");
    workspace.assert_refused(
        &["images/bad.jpg", "images/worse.png", "--map", "soft:1"],
        65,
        &["2 of 2 images"],
    );
    assert!(!workspace.path("projection.safetensors").exists());
}

#[test]
fn fewer_images_than_dimensions_are_reported_and_give_a_valid_projection() {
    let workspace = Workspace::with_images(9);
    let output = workspace.fit(&["images", "--interventions", "exposure,haze"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("18 pairs for embeddings of width 48")
            && stderr(&output).contains("more images")
    );
    // With few pairs only soft maps are tried: they keep directions that no pair covers.
    assert!(
        !stdout(&output).contains("without the"),
        "{}",
        stdout(&output)
    );
    workspace.projection("projection.safetensors");
    workspace.assert_refused(
        &["images", "--interventions", "haze"],
        65,
        &["1 families", "at least two"],
    );
    workspace.assert_refused(
        &["images/00001.jpg"],
        65,
        &["there are 1 images", "at least 8"],
    );
}

#[test]
fn unknown_folders_families_and_models_are_named() {
    let workspace = Workspace::with_images(2);
    std::fs::create_dir(workspace.path("empty")).expect("folder");
    workspace.assert_refused(&["empty"], 66, &["empty"]);
    workspace.assert_refused(
        &["images", "--interventions", "paper,fog"],
        64,
        &["`fog`", "haze", "paper, camera and all"],
    );
    workspace.assert_refused(&["images", "--interventions", ","], 64, &["at least one"]);
    let output = workspace.run(&["images"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("--model or --config"),
        "{}",
        stderr(&output)
    );
    assert_eq!(workspace.run(&[]).status.code(), Some(64));
}

#[test]
fn a_non_finite_embedding_is_refused_and_names_its_image() {
    let workspace = Workspace::new();
    write_overflowing_model(&workspace.path("overflow.toml"));
    std::fs::create_dir(workspace.path("images")).expect("folder");
    image::RgbImage::new(40, 30)
        .save(workspace.path("images/black.png"))
        .expect("image");
    picture(40, 30, 1)
        .save(workspace.path("images/bright.png"))
        .expect("image");
    let output = workspace.run(&["images", "--model", "overflow.toml", "--map", "soft:1"]);
    assert_eq!(output.status.code(), Some(65));
    let message = stderr(&output);
    // Either image may be the first.
    let named = [".png: its embedding holds", ".png under"]
        .iter()
        .any(|part| message.contains(part));
    assert!(
        named && message.contains("its embedding holds a value that is not a finite number"),
        "{message}"
    );
}
