//! The rendered workshop: as the daemon's source, as images on disk, and on another processor.

use super::support::skip::{InCi, file_in_env, skip};
use super::support::{LIMIT, Setup, constancy, stderr, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `constancy synth`; returns the lines of its captions.
fn synth(out: &Path, args: &[&str]) -> Vec<Value> {
    let output = constancy()
        .args(["synth", "--out"])
        .arg(out)
        .args(args)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let text = std::fs::read_to_string(out.join("captions.jsonl")).expect("captions");
    text.lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect()
}

/// The pixels of the image that a line names.
fn pixels(folder: &Path, line: &Value) -> Vec<u8> {
    let path = folder.join(line["file"].as_str().expect("file"));
    image::open(path).expect("image").into_rgb8().into_raw()
}

#[test]
fn the_same_seed_gives_the_same_images_and_captions() {
    let folder = tempfile::tempdir().expect("folder");
    let (a, b, c) = (
        folder.path().join("a"),
        folder.path().join("b"),
        folder.path().join("c"),
    );
    let args = [
        "-n",
        "20",
        "--size",
        "160x120",
        "--environments",
        "all",
        "--seed",
    ];
    let lines = synth(&a, &[&args[..], &["7"]].concat());
    assert_eq!(lines, synth(&b, &[&args[..], &["7"]].concat()));
    let others = synth(&c, &[&args[..], &["8"]].concat());
    assert_ne!(lines, others);
    for line in &lines {
        assert_eq!(pixels(&a, line), pixels(&b, line));
        let caption = line["caption"].as_str().expect("caption");
        for key in ["part", "condition", "surface", "light"] {
            assert!(
                caption.contains(line[key].as_str().expect(key)),
                "{caption}"
            );
        }
    }
    let environments: std::collections::BTreeSet<&str> = lines
        .iter()
        .filter_map(|l| l["environment"].as_str())
        .collect();
    assert_eq!(environments.len(), 10);
}

#[test]
fn pairs_share_part_and_condition() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, flag) in [("pairs", "--pairs"), ("relit", "--relit")] {
        let out = folder.path().join(name);
        let lines = synth(&out, &["-n", "20", "--size", "64x48", "-e", "all", flag]);
        for pair in lines.chunks(2) {
            assert_eq!(
                (&pair[0]["part"], &pair[0]["condition"]),
                (&pair[1]["part"], &pair[1]["condition"])
            );
            assert!(flag == "--pairs" || pair[0]["surface"] == pair[1]["surface"]);
            assert_ne!(pixels(&out, &pair[0]), pixels(&out, &pair[1]));
        }
    }
}

#[test]
fn raw_frames_are_the_images_concatenated() {
    let folder = tempfile::tempdir().expect("folder");
    let (png, raw) = (folder.path().join("png"), folder.path().join("raw"));
    let lines = synth(&png, &["-n", "5", "--size", "40x30"]);
    synth(&raw, &["-n", "5", "--size", "40x30", "--format", "raw"]);
    let expected: Vec<u8> = lines.iter().flat_map(|l| pixels(&png, l)).collect();
    assert_eq!(
        std::fs::read(raw.join("frames.bin")).expect("frames"),
        expected
    );
}

#[test]
fn invalid_arguments_exit_with_64_and_an_impossible_folder_with_73() {
    for (args, hint) in [
        (["-e", "moon"], "noon"),
        (["--size", "4x4"], "16 to 4096"),
        (["--size", "big"], "WIDTHxHEIGHT"),
    ] {
        let output = constancy()
            .args(["synth", "--out", "x"])
            .args(args)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(64));
        assert!(stderr(&output).contains(hint), "{args:?}");
    }
    let output = constancy()
        .args(["synth", "-n", "1", "--out", "/proc/none"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(73));
}

#[test]
fn the_daemon_steps_through_environments_and_publishes_the_truth() {
    let setup = Setup::new(
        "[[camera]]\nname = \"workshop\"\n[camera.synthetic]\nenvironments = [\"noon\", \"dusk\"]\nframes_each = 3\nseed = 4\ncount = 12\nwidth = 160\nheight = 120\n",
    );
    let mut daemon = setup.start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success(), "{}", daemon.log());
    let events = daemon.events();
    let schema: Value =
        serde_json::from_str(include_str!("../../docs/event.schema.json")).expect("schema");
    let environments: Vec<&str> = events
        .iter()
        .filter_map(|e| e["truth"]["environment"].as_str())
        .collect();
    assert_eq!(
        environments,
        [["noon"; 3], ["dusk"; 3], ["noon"; 3], ["dusk"; 3]].concat()
    );
    for event in &events {
        jsonschema::validate(&schema, event).expect("the event matches its schema");
        let truth = &event["truth"];
        let (part, condition) = (
            truth["part"].as_str().expect("part"),
            truth["condition"].as_str().expect("condition"),
        );
        assert_eq!(truth["class"], format!("{condition} {part}"));
    }
}

#[test]
fn an_unknown_environment_is_named_with_the_known_ones() {
    let setup = Setup::new(
        "[[camera]]\nname = \"w\"\n[camera.synthetic]\nenvironments = [\"noon\", \"moon\"]\n",
    );
    let output = constancy()
        .args(["run", "--config"])
        .arg(setup.config())
        .output()
        .expect("it runs");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(
        text.contains("`moon`") && text.contains("workshop-lamp"),
        "{text}"
    );
}

#[test]
fn synth_bench_prints_its_speed() {
    let output = constancy()
        .args(["synth", "--bench", "-n", "3"])
        .output()
        .expect("it runs");
    let text = stdout(&output);
    assert!(
        output.status.success() && text.contains("frames"),
        "{text}{}",
        stderr(&output)
    );
}

/// The program for 64-bit ARM, which `make test-arm` builds, if this machine can run it.
fn aarch64_binary() -> Option<PathBuf> {
    let path = file_in_env(
        "CONSTANCY_AARCH64_BINARY",
        "a cross-built constancy",
        InCi::Optional,
    )?;
    let mut qemu = Command::new("qemu-aarch64-static");
    if qemu.arg("--version").output().is_err() {
        skip(
            InCi::Required,
            "qemu-aarch64-static is not installed; run tools/setup-cross.sh",
        );
        return None;
    }
    Some(path)
}

#[test]
fn another_processor_renders_the_same() {
    let Some(binary) = aarch64_binary() else {
        return;
    };
    let folder = tempfile::tempdir().expect("folder");
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let args = ["-n", "40", "--size", "320x240", "-e", "all", "--seed", "7"];
    let lines = synth(&here, &args);
    let status = Command::new("qemu-aarch64-static")
        .args(["-L", "/usr/aarch64-linux-gnu", "-cpu", "cortex-a76"])
        .arg(&binary)
        .args(["synth", "--out"])
        .arg(&there)
        .args(args)
        .status();
    assert!(status.expect("qemu").success());
    let difference = |line: &Value| {
        let pairs = pixels(&here, line).into_iter().zip(pixels(&there, line));
        pairs.map(|(a, b)| a.abs_diff(b)).max().unwrap_or_default()
    };
    let most = lines.iter().map(difference).max();
    println!("largest difference {most:?}/255");
    assert!(most <= Some(2), "{most:?}");
}

#[test]
fn images_can_be_written_to_folders_by_environment_and_class() {
    let folder = tempfile::tempdir().expect("folder");
    for line in synth(
        folder.path(),
        &[
            "-n",
            "6",
            "--size",
            "40x30",
            "-e",
            "noon,dusk",
            "--format",
            "folders",
        ],
    ) {
        let text = |key: &str| line[key].as_str().expect("text").to_owned();
        let sorted = format!(
            "{}/{} {}/",
            text("environment"),
            text("condition"),
            text("part")
        );
        assert!(text("file").starts_with(&sorted), "{line}");
        assert!(folder.path().join(text("file")).is_file(), "{line}");
    }
}
