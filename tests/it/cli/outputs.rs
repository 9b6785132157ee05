//! Output that cannot be written is refused before any work.

use super::{run, text};
use crate::support::stderr;
use std::path::Path;

/// Commands that write to `target`, and that would fail otherwise, because the model is missing.
fn writers(target: &str) -> Vec<Vec<&str>> {
    let model = ["--model", "no-model.toml"];
    let with = |words: &[&'static str], option: &'static str| -> Vec<&str> {
        [words, &model, &[option, target]].concat()
    };
    vec![
        with(&["embed", "image.png"], "--output"),
        with(&["classes", "--labels", "gear"], "--output"),
        with(&["classes", "--from-images", "images"], "-o"),
        with(&["classes", "evaluate", "bank", "held"], "--html"),
        with(&["fit", "images"], "-o"),
        with(&["fit", "images"], "--moments-out"),
        with(&["eval", "images"], "--html"),
        with(&["eval", "images"], "--csv"),
        with(&["eval", "images"], "--markdown"),
        vec!["model", "quantise", "no-model.toml", target],
        vec!["camera", "grab", "--output", target, "/dev/no-camera"],
    ]
}

fn assert_refused(target: &Path, words: &[&str]) {
    let target = text(target);
    for args in writers(&target) {
        let output = run(&args);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(73), "{args:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{args:?}: {message} lacks {word}");
        }
        assert_eq!(message.lines().count(), 1, "one message: {message}");
    }
}

#[test]
fn a_folder_that_does_not_exist_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().expect("folder");
    let missing = text(&folder.path().join("missing"));
    let way_out = format!("make it with `mkdir -p {missing}`");
    assert_refused(
        &Path::new(&missing).join("out.onnx"),
        &[&format!("there is no folder {missing}"), &way_out],
    );
    assert!(!Path::new(&missing).exists());
}

#[test]
fn a_file_in_place_of_a_folder_and_a_folder_in_place_of_a_file_are_named() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").expect("file");
    assert_refused(&file.join("out.onnx"), &["is no folder; name another"]);
    let taken = folder.path().join("taken.onnx");
    std::fs::create_dir(&taken).expect("folder");
    assert_refused(&taken, &["it is a folder; name a file in it"]);
}

#[test]
fn a_folder_that_nobody_may_write_to_is_named() {
    // Not even root can make files there.
    assert_refused(
        Path::new("/proc/out.onnx"),
        &["nothing can be written to the folder /proc", "name one"],
    );
    let output = run(&["synth", "--out", "/proc/renders", "--count", "1"]);
    let message = stderr(&output);
    assert!(
        output.status.code() == Some(73) && message.contains("the folder cannot be made"),
        "{message}"
    );
}

#[test]
fn nothing_is_left_of_the_check() {
    let folder = tempfile::tempdir().expect("folder");
    for args in writers(&text(&folder.path().join("out.onnx"))) {
        let output = run(&args);
        assert_ne!(output.status.code(), Some(73), "{}", stderr(&output));
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn labels_are_put_into_one_template_everywhere() {
    let template = constancy_core::classify::DEFAULT_PROMPT;
    assert_eq!(template, "a photo of a {}");
    for command in ["classes", "classify", "fit", "eval"] {
        let output = run(&[command, "--help"]);
        let help = crate::support::stdout(&output);
        assert!(
            help.contains(&format!("[default: \"{template}\"]")),
            "{command}: {help}"
        );
    }
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/constancy.toml");
    let config = std::fs::read_to_string(config).expect("configuration");
    assert!(config.contains(&format!("#prompts = [\"{template}\"]")));
    let settings = "manifest = \"x.toml\"\n[classes]\nlabels = [\"gear\"]";
    let settings: toml::Table = settings.parse().expect("TOML");
    let classes: constancy::config::ClassSettings =
        settings["classes"].clone().try_into().expect("classes");
    assert_eq!(classes.prompts, [template]);
}
