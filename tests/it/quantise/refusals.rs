//! Files that cannot be read, quantised or written.

use super::{altered, change, failure, fp32, report, text};
use crate::support::{fixture, stderr};
use std::path::Path;

#[test]
fn unusable_files_are_refused_with_the_way_out() {
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| text(&folder.path().join(name));
    let out = path("out.onnx");
    let nan = altered(&folder, "nan", |graph| {
        change(graph, "class_embedding", |values| values[3] = f32::NAN);
    });
    std::fs::write(
        folder.path().join("cut.onnx"),
        &std::fs::read(fixture("encoder/vision-fp32.onnx")).expect("model")[..9000],
    )
    .expect("model");
    report(
        &fp32(),
        &folder.path().join("fp16.onnx"),
        &["--format", "fp16"],
    );
    let model = |name: &str| text(&fixture(&format!("encoder/{name}")));
    for (input, code, hint) in [
        (path("nowhere.onnx"), 66, "nowhere.onnx"),
        (path("nowhere.toml"), 66, "nowhere.toml"),
        (model("vision-int8-channel.toml"), 65, "give the fp32 file"),
        (model("text-fp32.onnx"), 65, "export the vision part alone"),
        (model("wrong-shape.onnx"), 65, "is this the vision tower?"),
        (model("two-inputs.toml"), 65, "export the vision part alone"),
        (path("cut.onnx"), 65, "cut short"),
        (text(&nan), 65, "class_embedding"),
    ] {
        let (found, message) = failure(&[&input, &out]);
        assert_eq!(found, Some(code), "{input}: {message}");
        assert!(
            message.contains(hint) && message.lines().count() == 1,
            "{input}: {message}"
        );
    }
    let (code, message) = failure(&[&path("fp16.onnx"), &out, "--format", "fp16"]);
    assert!(
        code == Some(65) && message.contains("fp16 already"),
        "{message}"
    );
    for (args, hint) in [
        (
            [model("vision-fp32.toml"), path("out")],
            "ending in .onnx or .toml",
        ),
        (
            [path("fp16.onnx"), path("fp16.onnx")],
            "give OUT another name",
        ),
    ] {
        let (code, message) = failure(&[&args[0], &args[1]]);
        assert!(code == Some(64) && message.contains(hint), "{message}");
    }
    assert!(!Path::new(&out).exists() && !folder.path().join("out.onnx.partial").exists());
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("out.onnx");
    let (code, message) = failure(&[&text(&fp32()), &text(&folder.path().join("none/out.onnx"))]);
    assert!(
        code == Some(73) && message.contains("make it with `mkdir -p"),
        "{message}"
    );
    std::fs::write(&out, "the old one").expect("file");
    // A limit on the file's size stands in for a full disk. Without the trap its signal would end the process.
    let script = format!(
        "trap '' XFSZ; ulimit -f 100; exec \"$0\" model quantise --threads 1 {} {}",
        text(&fp32()),
        text(&out)
    );
    let binary = env!("CARGO_BIN_EXE_constancy");
    let output = std::process::Command::new("sh")
        .args(["-c", &script, binary])
        .env_remove("RUST_LOG")
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(73), "{}", stderr(&output));
    assert!(stderr(&output).contains("make room"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&out).expect("file"), "the old one");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("folder").count(),
        1,
        "no partial file is left"
    );
    report(&fp32(), &out, &[]);
    assert!(
        std::fs::metadata(&out).expect("file").len() > 100_000,
        "a complete file replaces the old one"
    );
}
