//! `constancy classes`: class banks from images and from labels.

use super::{model, run, text};
use crate::support::{fixture, json_lines, picture, stderr, stdout};
use serde_json::Value;
use std::path::Path;

/// Two classes that any embedding separates, `bright` and `dark`, with `count` slightly different images each.
pub(super) fn example_folder(count: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    for (class, level) in [("bright", 200u8), ("dark", 20)] {
        std::fs::create_dir(folder.path().join(class)).expect("class");
        for i in 0..count {
            let mut image = picture(64, 64, i);
            image
                .pixels_mut()
                .for_each(|p| p.0 = p.0.map(|c| level + c / 8));
            image
                .save(folder.path().join(class).join(format!("{i}.png")))
                .expect("image");
        }
    }
    folder
}

/// Makes a bank from the images of each class, and returns its path.
pub(super) fn bank_from_images(folder: &Path) -> String {
    let bank = text(&folder.join("bank.safetensors"));
    let output = run(&[
        "classes",
        "--model",
        &model(),
        "--from-images",
        &text(folder),
        "--output",
        &bank,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("2 classes (bright, dark)"),
        "{}",
        stdout(&output)
    );
    bank
}

/// Classifies images with a bank; returns the lines of JSON.
pub(super) fn classify(bank: &str, images: &Path) -> Vec<Value> {
    let model = model();
    let output = run(&[
        "classify",
        "--model",
        &model,
        "--classes",
        bank,
        &text(images),
        "--json",
    ]);
    json_lines(&output)
}

#[test]
fn a_bank_from_images_recognises_them_and_they_are_in_support() {
    let folder = example_folder(15);
    let bank = bank_from_images(folder.path());
    for class in ["bright", "dark"] {
        let lines = classify(&bank, &folder.path().join(class));
        assert_eq!(lines.len(), 15);
        assert!(lines.iter().all(|l| l["class"] == class), "{lines:?}");
        let inside = lines.iter().filter(|l| l["in_support"] == true).count();
        assert!(
            inside >= 13,
            "{inside} of 15 examples of {class} are in support"
        );
    }
}

#[test]
fn an_image_unlike_the_examples_is_out_of_support_and_unknown() {
    let folder = example_folder(15);
    let bank = bank_from_images(folder.path());
    let image = folder.path().join("chequers.png");
    let colour = |x: u32, y: u32| {
        if (x / 4 + y / 4).is_multiple_of(2) {
            [255, 0, 255]
        } else {
            [0, 255, 0]
        }
    };
    image::RgbImage::from_fn(64, 64, |x, y| image::Rgb(colour(x, y)))
        .save(&image)
        .expect("image");
    let line = &classify(&bank, &image)[0];
    assert_eq!(
        (&line["in_support"], &line["known"]),
        (&Value::Bool(false), &Value::Bool(false)),
        "{line}"
    );
    assert!(line["shift"].as_f64().is_some_and(|s| s > 1.0));
}

#[test]
fn a_bank_from_labels_is_calibrated_on_like_images() {
    let folder = example_folder(15);
    let bank = text(&folder.path().join("bank.safetensors"));
    let (model, images) = (model(), text(folder.path()));
    let few = text(&folder.path().join("dark"));
    let args = [
        "classes",
        "--model",
        &model,
        "--labels",
        "a dark thing, a bright thing",
        "--output",
        &bank,
        "--like",
    ];
    let output = run(&[&args[..], &[&few]].concat());
    assert_eq!(
        output.status.code(),
        Some(64),
        "15 images are too few: {}",
        stderr(&output)
    );
    let output = run(&[&args[..], &[&images]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("calibrated on 30 images"),
        "{}",
        stdout(&output)
    );
    let lines = classify(&bank, folder.path());
    assert!(lines.iter().filter(|l| l["in_support"] == true).count() >= 28);
}

#[test]
fn a_bank_of_another_model_is_refused() {
    let folder = example_folder(2);
    let bank = bank_from_images(folder.path());
    let other = text(&fixture("encoder/vision-dynamo.toml"));
    let output = run(&[
        "classify",
        "--model",
        &other,
        "--classes",
        &bank,
        &text(&fixture("preprocess/rgb.png")),
    ]);
    assert_eq!(output.status.code(), Some(65));
    assert!(
        stderr(&output).contains("constancy classes"),
        "{}",
        stderr(&output)
    );
}
