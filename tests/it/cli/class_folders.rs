//! Folders that name classes: copies in them, wrong levels, wrong names.

use super::classes::{bank_from_images, example_folder};
use super::{model, run, text};
use crate::support::{json_lines, stderr, stdout};
use std::path::Path;
use std::process::Output;

fn from_images(folder: &Path, bank: &Path) -> Output {
    let (model, folder, bank) = (model(), text(folder), text(bank));
    let args = [
        "classes",
        "--model",
        &model,
        "--from-images",
        &folder,
        "--output",
        &bank,
    ];
    run(&[&args[..], &["--interventions", "none", "--no-cache"]].concat())
}

fn evaluate(bank: &str, held: &Path) -> Output {
    let (model, held) = (model(), text(held));
    let args = ["classes", "evaluate", bank, &held, "--model", &model];
    run(&[
        &args[..],
        &["--interventions", "none", "--no-cache", "--json"],
    ]
    .concat())
}

fn calibrate(bank: &str, images: &Path) -> Output {
    let (model, images) = (model(), text(images));
    let args = ["calibrate", &images, "--model", &model, "--classes", bank];
    run(&[&args[..], &["--interventions", "none", "--no-cache"]].concat())
}

/// Copies an image under another name.
fn copy(folder: &Path, from: &str, to: &str) {
    let to = folder.join(to);
    std::fs::create_dir_all(to.parent().expect("folder")).expect("folder");
    std::fs::copy(folder.join(from), to).expect("copy");
}

#[test]
fn copies_of_an_image_count_once() {
    let (examples, once) = (example_folder(15), example_folder(15));
    for i in 0..5 {
        copy(
            examples.path(),
            "bright/0.png",
            &format!("bright/copy-{i}.png"),
        );
    }
    let [with, without] = [&examples, &once].map(|folder| folder.path().join("bank"));
    let output = from_images(examples.path(), &with);
    assert!(output.status.success(), "{}", stderr(&output));
    let told = "5 of 35 images are copies and left out";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("bright/copy-0.png is one of "),
        "{}",
        stderr(&output)
    );
    let output = from_images(once.path(), &without);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        stderr(&output)
    );
    let bytes = |bank: &Path| std::fs::read(bank).expect("bank");
    assert_eq!(
        bytes(&with),
        bytes(&without),
        "a bank is the same without its copies"
    );

    let bank = text(&with);
    let report = evaluate(&bank, examples.path());
    assert!(stderr(&report).contains(told), "{}", stderr(&report));
    assert_eq!(json_lines(&report)[0]["images"], 30);
    let output = calibrate(&bank, examples.path());
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("calibrated on 30 images"),
        "{}",
        stdout(&output)
    );

    // An image in folders of two classes is no copy but a contradiction.
    copy(once.path(), "bright/3.png", "dark/bright.png");
    let output = from_images(once.path(), &without);
    assert!(
        stderr(&output).contains("are the same image in folders of two classes"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn class_folders_with_subfolders_are_told() {
    let folder = example_folder(3);
    for class in ["bright", "dark"] {
        for i in 0..3 {
            copy(
                folder.path(),
                &format!("{class}/{i}.png"),
                &format!("up/noon/{class}/{i}.png"),
            );
            copy(
                folder.path(),
                &format!("{class}/{i}.png"),
                &format!("up/dusk/{class}/{i}.png"),
            );
        }
    }
    let root = folder.path().join("up");
    let output = from_images(&root, &folder.path().join("bank"));
    let told = stderr(&output);
    assert!(
        told.contains("2 of 2 class folders hold images in subfolders")
            && told.contains("/up/dusk/bright: these count as `dusk`")
            && told.contains("give "),
        "{told}"
    );
}

#[test]
fn names_of_classes_are_checked_before_their_images_cost_time() {
    let folder = example_folder(2);
    let long = "x".repeat(201);
    // An image that cannot be read would be told if it had been tried.
    std::fs::create_dir(folder.path().join(&long)).expect("folder");
    std::fs::write(folder.path().join(&long).join("1.png"), "no image").expect("file");
    let output = from_images(folder.path(), &folder.path().join("bank"));
    assert_eq!(output.status.code(), Some(65));
    let told = stderr(&output);
    assert!(
        told.lines().count() == 1 && told.contains("has 201 characters"),
        "{told}"
    );
}

#[test]
fn images_to_calibrate_on_that_name_no_class_are_taken_as_unsorted_and_told() {
    let (folder, elsewhere) = (example_folder(12), tempfile::tempdir().expect("folder"));
    let bank = text(&elsewhere.path().join("bank"));
    let (model, images) = (model(), text(folder.path()));
    let args = [
        "classes", "--model", &model, "--output", &bank, "--like", &images,
    ];
    let more = ["--interventions", "exposure", "--no-cache", "--labels"];
    let labelled = |labels: &str| {
        let output = run(&[&args[..], &more, &[labels]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let told = labelled("a dark thing, a bright thing");
    assert!(
        told.contains("no subfolder is named after a class (bright, dark)")
            && told.contains("taken as unsorted")
            && told.contains("named after the classes (a dark thing, a bright thing)"),
        "{told}"
    );
    assert_eq!(labelled("dark, bright"), "");
}

#[test]
fn one_class_folder_is_enough_to_judge_a_bank_and_not_to_calibrate_it() {
    let folder = example_folder(12);
    let bank = bank_from_images(folder.path());
    let one = tempfile::tempdir().expect("folder");
    let place = one.path().join("dark");
    std::fs::create_dir(&place).expect("folder");
    for i in 0..12 {
        let from = folder.path().join("dark").join(format!("{i}.png"));
        std::fs::copy(from, place.join(format!("{i}.png"))).expect("copy");
    }
    let report = evaluate(&bank, one.path());
    assert!(report.status.success(), "{}", stderr(&report));
    assert_eq!(json_lines(&report)[0]["images"], 12);
    let output = calibrate(&bank, one.path());
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("has images of one class alone, `dark`"),
        "{}",
        stderr(&output)
    );
    // A level too low.
    let low = folder.path().join("low");
    for class in ["bright", "dark"] {
        for (i, sub) in [(0, "a"), (1, "b")] {
            copy(
                folder.path(),
                &format!("{class}/{i}.png"),
                &format!("low/{class}/{sub}/{i}.png"),
            );
        }
    }
    let output = evaluate(&bank, &low);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains(
            "/low/bright is named after a class of the bank, but its images lie in subfolders"
        ),
        "{}",
        stderr(&output)
    );
}
