//! `constancy calibrate`, and what a configuration asks of known answers.

use super::classes::{bank_from_images, classify, example_folder};
use super::{model, run, text};
use crate::support::{picture, stderr, stdout};
use std::path::Path;
use std::process::Output;

fn calibrate(bank: &str, images: &Path, more: &[&str]) -> Output {
    let (model, images) = (model(), text(images));
    let args = ["calibrate", &images, "--model", &model, "--classes", bank];
    run(&[&args[..], more].concat())
}

#[test]
fn a_bank_from_images_says_how_far_to_trust_its_answers() {
    let folder = example_folder(15);
    let lines = classify(&bank_from_images(folder.path()), folder.path());
    assert_eq!(lines.len(), 30);
    for line in lines {
        let confidence = line["confidence"].as_f64().expect("a confidence");
        assert!(confidence > 0.0 && confidence < 1.0, "{line}");
        let known = line["known"] == true;
        assert_eq!(known, line["reason"].is_null(), "{line}");
        assert!(!known || confidence >= 0.9, "{line}");
    }
}

#[test]
fn a_bank_is_calibrated_on_other_images_in_place_or_in_a_new_file() {
    let (examples, others) = (example_folder(4), example_folder(20));
    let bank = bank_from_images(examples.path());
    let before = std::fs::read(&bank).expect("bank");
    let new = text(&examples.path().join("new.safetensors"));
    let output = calibrate(&bank, others.path(), &["--output", &new]);
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = stdout(&output);
    assert!(
        printed.contains("new.safetensors: calibrated on 40 images, "),
        "{printed}"
    );
    assert_eq!(std::fs::read(&bank).expect("bank"), before);
    assert!(calibrate(&bank, others.path(), &[]).status.success());
    assert_eq!(
        std::fs::read(&bank).expect("bank"),
        std::fs::read(&new).expect("bank"),
        "the same images give the same file"
    );
}

#[test]
fn noise_and_one_class_are_not_trusted() {
    let folder = example_folder(30);
    let bank = bank_from_images(folder.path());
    let odd = tempfile::tempdir().expect("folder");
    let mut random = fastrand::Rng::with_seed(5);
    for i in 0..8 {
        let mut noise = picture(64, 64, i);
        let pixels = noise.pixels_mut();
        pixels.for_each(|p| p.0 = [random.u8(..), random.u8(..), random.u8(..)]);
        noise
            .save(odd.path().join(format!("{i}.png")))
            .expect("image");
    }
    for line in classify(&bank, odd.path()) {
        assert!(
            line["known"] == false && line["reason"] == "unfamiliar",
            "{line}"
        );
    }
    std::fs::remove_dir_all(folder.path().join("dark")).expect("class");
    let output = run(&[
        "classes",
        "--model",
        &model(),
        "--from-images",
        &text(folder.path()),
        "-o",
        &bank,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("a bank of one class is not calibrated"));
    let output = calibrate(&bank, odd.path(), &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("8 images are too few to calibrate on; at least 20"));
}

#[test]
fn folders_that_are_no_class_count_as_unknown_and_none_that_is_one_is_refused() {
    let (examples, others) = (example_folder(4), example_folder(22));
    let bank = bank_from_images(examples.path());
    let rename = |from: &str, to: &str| {
        std::fs::rename(others.path().join(from), others.path().join(to)).expect("folder");
    };
    rename("dark", "grey");
    let output = calibrate(&bank, others.path(), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("no class of the bank: grey"),
        "{}",
        stderr(&output)
    );
    rename("bright", "white");
    let output = calibrate(&bank, others.path(), &[]);
    assert_eq!(output.status.code(), Some(64));
    let refused = stderr(&output);
    assert!(
        refused.contains("which has bright, dark; rename them"),
        "{refused}"
    );
}

#[test]
fn a_calibration_that_cannot_be_written_or_names_no_bank_is_refused_before_work() {
    let folder = example_folder(2);
    let output = calibrate("no-such-bank", folder.path(), &["-o", "no/such/folder/x"]);
    assert_eq!(output.status.code(), Some(73), "{}", stderr(&output));
    let output = run(&["calibrate", &text(folder.path()), "--model", &model()]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("give --classes BANK"));
}

#[test]
fn labels_are_calibrated_on_the_images_of_a_list() {
    let folder = example_folder(12);
    let list = folder.path().join("images.txt");
    let lines = |class: &'static str| (0..12).map(move |i| format!("{class}/{i}.png\n"));
    let listed: String = ["bright", "dark"].into_iter().flat_map(lines).collect();
    std::fs::write(&list, listed).expect("list");
    let (model, list) = (model(), text(&list));
    let bank = text(&folder.path().join("bank.safetensors"));
    let labels = ["--labels", "a dark thing, a bright thing", "-o", &bank];
    let args = ["classes", "--model", &model, "--like", &list];
    let output = run(&[&args[..], &labels].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = stdout(&output);
    assert!(printed.contains("calibrated on 24 images"), "{printed}");
}

/// `check` on a configuration with these lines under `[classes]`.
fn check(bank: &str, lines: &str) -> Output {
    let folder = Path::new(bank).parent().expect("folder");
    let config = folder.join("constancy.toml");
    let content = format!(
        "[model]\nmanifest = \"{}\"\n[classes]\nbank = \"{bank}\"\n{lines}\n[[camera]]\nname = \"belt\"\n[camera.synthetic]\n",
        model()
    );
    std::fs::write(&config, content).expect("configuration");
    run(&["check", "--config", &text(&config)])
}

#[test]
fn what_is_asked_of_known_answers_becomes_a_threshold() {
    let folder = example_folder(15);
    let bank = bank_from_images(folder.path());
    let from = |lines: &str| {
        let output = check(&bank, lines);
        assert!(output.status.success(), "{lines}: {}", stdout(&output));
        let printed = stdout(&output);
        let (_, rest) = printed
            .split_once("known from a confidence of ")
            .unwrap_or_else(|| panic!("{lines}: {printed}"));
        (rest[..4].to_owned(), stderr(&output))
    };
    assert_eq!(from("").0, "0.90");
    assert_eq!(from("threshold = 0.25").0, "0.25");
    // 30 images cannot show that 99.9 % are right: the confidence itself must say so.
    let (threshold, log) = from("target_precision = 0.999");
    assert!(threshold.as_str() >= "0.99", "{threshold}");
    assert!(
        log.contains("`classes.target_precision` is more than the bank's calibration can show"),
        "{log}"
    );
    assert!(from("target_precision = 0.6").0.as_str() >= "0.50");
    // What that rests on is said.
    for (lines, said) in [
        (
            "",
            "how often it takes another class for one of these is not known",
        ),
        (
            "target_precision = 0.6",
            "(`classes.target_precision`: of the known answers of calibration (worth ",
        ),
        (
            "target_precision = 0.999",
            "(calibration does not show `classes.target_precision`)",
        ),
        (
            "cost = { dark = { wrong = 4.0, refused = 1.0 } }",
            "on, of 0.75 to 0.90 by class (`classes.cost`: 1 - refused / wrong of each class, on a confidence calibrated on 30 images)",
        ),
    ] {
        let printed = stdout(&check(&bank, lines));
        assert!(printed.contains(said), "{lines}: {printed}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_way_out() {
    let folder = example_folder(4);
    let bank = bank_from_images(folder.path());
    let plain = text(&folder.path().join("labels.safetensors"));
    let labels = ["--labels", "a dark thing, a bright thing", "-o", &plain];
    let made = run(&[&["classes", "--model", &model()][..], &labels].concat());
    assert!(made.status.success(), "{}", stderr(&made));
    for (bank, lines, expected) in [
        (
            &bank,
            "threshold = 0.5\ntarget_precision = 0.9",
            "`classes.target_precision` stands beside `classes.threshold`; keep one of them",
        ),
        (
            &bank,
            "thresholds = { grey = 0.5 }",
            "`classes.thresholds` names `grey`, but the classes are bright, dark",
        ),
        (
            &bank,
            "cost = { grey = { wrong = 5.0, refused = 1.0 } }",
            "`classes.cost` names `grey`",
        ),
        (&bank, "max_false_accept = 2.0", "max_false_accept"),
        (
            &bank,
            "max_false_accept = 0.1",
            "`classes.max_false_accept` needs a class bank of at least three classes, each of which was left out in turn; this one has 2. Add classes",
        ),
        (
            &plain,
            "target_precision = 0.9",
            "`classes.target_precision` needs a class bank that knows how far to trust its answers; calibrate it",
        ),
    ] {
        let output = check(bank, lines);
        assert_eq!(
            output.status.code(),
            Some(78),
            "{lines}: {}",
            stdout(&output)
        );
        assert!(stdout(&output).contains(expected), "{}", stdout(&output));
    }
}
