//! `constancy classify`.

use super::{model, run, text};
use crate::support::{fixture, jpeg, json_lines, stderr, stdout, tiny_model, write_images};

#[test]
fn one_class_alone_is_warned_of() {
    let image = text(&fixture("preprocess/rgb.png"));
    let output = run(&[
        "classify",
        "--model",
        &model(),
        "--labels",
        "a part",
        &image,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let log = stderr(&output);
    assert!(log.contains("`a part` is the only class"), "{log}");
}

#[test]
fn classify_names_the_class_of_each_image() {
    let folder = tempfile::tempdir().expect("folder");
    write_images(folder.path(), 3);
    let (images, model) = (text(folder.path()), model());
    let args = [
        "classify",
        "--model",
        &model,
        "--labels",
        "a gear, a bolt, a spring",
        &images,
    ];
    let output = run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 3);
    let output = run(&[&args[..], &["--json", "--top", "2"]].concat());
    for line in json_lines(&output) {
        assert_eq!(line["top"].as_array().map(Vec::len), Some(2));
        assert_eq!(line["class"], line["top"][0]["class"]);
        assert!(line["in_support"].is_null(), "labels alone have no support");
    }
}

#[test]
fn unreadable_images_are_reported_and_the_others_classified() {
    let folder = tempfile::tempdir().expect("folder");
    write_images(folder.path(), 2);
    std::fs::write(folder.path().join("bad.jpg"), &jpeg(100, 100, 1)[..900]).expect("image");
    std::fs::write(folder.path().join("worse.png"), "no image").expect("image");
    let output = run(&[
        "classify",
        "--model",
        &model(),
        "--labels",
        "a,b",
        &text(folder.path()),
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(65));
    assert_eq!(json_lines(&output).len(), 2);
    let errors = stderr(&output);
    assert!(
        errors.contains("bad.jpg")
            && errors.contains("worse.png")
            && errors.contains("2 of 4 images"),
        "{errors}"
    );
    let output = run(&[
        "classify",
        "--model",
        &model(),
        "--labels",
        "a,b",
        "/nowhere/at/all.jpg",
    ]);
    assert_eq!(output.status.code(), Some(66), "{}", stderr(&output));
    let output = run(&[
        "classify",
        "--model",
        "/nowhere.toml",
        "--labels",
        "a,b",
        "x.jpg",
    ]);
    assert_eq!(output.status.code(), Some(66));
    assert!(stderr(&output).contains("/nowhere.toml"));
}

#[test]
fn invalid_labels_are_refused() {
    let (model, image) = (model(), text(&fixture("preprocess/rgb.png")));
    for (labels, hint) in [
        (",", "names no class"),
        ("a, b, a", "`a`"),
        ("@/nowhere.txt", "/nowhere.txt"),
    ] {
        let output = run(&["classify", "--model", &model, "--labels", labels, &image]);
        assert!(!output.status.success());
        assert!(
            stderr(&output).contains(hint),
            "{labels}: {}",
            stderr(&output)
        );
    }
    let output = run(&[
        "classify", "--model", &model, "--labels", "a,b", "--prompt", "a photo", &image,
    ]);
    assert!(
        !output.status.success() && stderr(&output).contains("{}"),
        "{}",
        stderr(&output)
    );
    let output = run(&["classify", "--model", &model, &image]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("--labels"));
}

#[test]
fn top_limits_the_listed_classes() {
    let (model, image) = (model(), text(&fixture("preprocess/rgb.png")));
    for top in ["1", "8"] {
        let args = [
            "classify",
            "--model",
            &model,
            "--labels",
            "a,b,c,d,e,f,g,h,i",
            "--json",
            "--top",
            top,
            &image,
        ];
        let shown = json_lines(&run(&args))[0]["top"]
            .as_array()
            .map(|t| t.len().to_string());
        assert_eq!(shown.as_deref(), Some(top));
    }
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    write_images(folder.path(), 30);
    let script = format!(
        "{} classify --model {} --labels a,b {} | head -n 1",
        env!("CARGO_BIN_EXE_constancy"),
        tiny_model().display(),
        folder.path().display()
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .env_remove("RUST_LOG")
        .output()
        .expect("sh");
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}
