//! Moments that are saved and merged.

use super::Workspace;
use crate::support::{pocket_model, stderr};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::Path;

/// The projector A·Aᵀ of a projection file, row by row.
fn projector(path: &Path) -> Vec<f64> {
    let bytes = std::fs::read(path).expect("projection");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = file.tensor("projection").expect("projection");
    let (width, rank) = (view.shape()[0], view.shape()[1]);
    let (words, _) = view.data().as_chunks::<4>();
    let values: Vec<f64> = words
        .iter()
        .map(|&w| f64::from(f32::from_le_bytes(w)))
        .collect();
    let row = |i: usize| &values[i * rank..(i + 1) * rank];
    (0..width * width)
        .map(|ij| {
            row(ij / width)
                .iter()
                .zip(row(ij % width))
                .map(|(a, b)| a * b)
                .sum()
        })
        .collect()
}

#[test]
fn merged_moments_give_the_projection_of_all_images_together() {
    let workspace = Workspace::with_images(40);
    for (i, file) in (0..40).map(|i| (i, format!("{i:05}.jpg"))) {
        let part = workspace.path(if i < 13 { "a" } else { "b" });
        std::fs::create_dir_all(&part).expect("folder");
        std::fs::copy(workspace.path("images").join(&file), part.join(&file)).expect("image");
    }
    let paper = ["--interventions", "paper"];
    for map in ["remove:6", "lambda:3,remove:9"] {
        let fixed = [&paper[..], &["--map", map]].concat();
        workspace.report(&[&["images", "-o", "all"][..], &fixed].concat());
        workspace.report(&[&["a", "--moments-out", "a.m"][..], &fixed].concat());
        workspace.report(&[&["b", "--moments-out", "b.m"][..], &fixed].concat());
        let output = workspace.run(&[
            "--merge",
            "a.m",
            "b.m",
            "--map",
            map,
            "-o",
            "merged",
            "--json",
            "--moments-out",
            "ab.m",
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (&report["images"], &report["pairs"]["equalise"]),
            (&40.into(), &40.into())
        );
        let (all, merged) = (
            projector(&workspace.path("all")),
            projector(&workspace.path("merged")),
        );
        let off = all
            .iter()
            .zip(&merged)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(off < 1e-6, "{map}: {off}");
    }
    // Without images, no criterion can choose a map.
    let output = workspace.run(&["--merge", "a.m", "b.m"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("hold no images") && stderr(&output).contains("--map soft:1"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn moments_of_two_encoders_do_not_mix() {
    let workspace = Workspace::with_images(10);
    workspace.report(&[
        "images",
        "--interventions",
        "haze",
        "--map",
        "soft:1",
        "--moments-out",
        "tiny.m",
    ]);
    let pocket = pocket_model();
    let pocket = pocket.to_str().expect("UTF-8");
    let args = [
        "images",
        "--interventions",
        "haze",
        "--map",
        "soft:1",
        "--moments-out",
        "pocket.m",
        "--model",
        pocket,
    ];
    assert!(workspace.run(&args).status.success());
    let output = workspace.run(&["--merge", "tiny.m", "pocket.m", "--map", "soft:1"]);
    assert_eq!(output.status.code(), Some(65));
    let message = stderr(&output);
    assert!(
        message.contains("pocket.m") && message.contains("with one model"),
        "{message}"
    );
    assert!(message.contains("4e54a9a055d7"), "both hashes: {message}");
}

#[test]
fn moments_that_cannot_be_read_are_named() {
    let workspace = Workspace::with_images(10);
    workspace.report(&[
        "images",
        "--interventions",
        "haze",
        "--map",
        "soft:1",
        "--moments-out",
        "tiny.m",
    ]);
    std::fs::write(workspace.path("broken.m"), "no moments").expect("file");
    let output = workspace.run(&["--merge", "tiny.m", "broken.m", "--map", "soft:1"]);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("broken.m: not a safetensors file"),
        "{}",
        stderr(&output)
    );
    let output = workspace.run(&["--merge", "nowhere.m", "--map", "soft:1"]);
    assert_eq!(output.status.code(), Some(66), "{}", stderr(&output));
}
