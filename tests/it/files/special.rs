//! Pipes, sockets and devices where a file is expected, and files that are too large: refused by name, never opened.

use super::{mkfifo, run, with_model};
use crate::support::{Setup, fixture, stderr, stdout, tiny_model, write_images};
use std::fs::File;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

const CAMERA: &str = "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n";

/// A pipe, a socket, a device and a huge file, with a part of the message that each must bring.
fn special_files(folder: &Path) -> Vec<(&'static str, &'static str)> {
    mkfifo(&folder.join("pipe"));
    drop(UnixListener::bind(folder.join("socket")).expect("socket"));
    symlink("/dev/zero", folder.join("zero")).expect("link");
    let huge = File::create(folder.join("huge")).expect("file");
    huge.set_len(10_000_000_000).expect("a sparse file");
    vec![
        ("pipe", "a pipe"),
        ("socket", "a socket"),
        ("zero", "a device"),
        ("huge", "10000.0 MB"),
    ]
}

/// Where a configuration names files: lines to replace the classes or to append, with FILE for the name.
const KEYS: [(&str, &str); 6] = [
    ("projection", "projection = \"FILE\"\n[classes]"),
    ("bank", "bank = \"FILE\""),
    (
        "password_file",
        "broker = \"mqtt://127.0.0.1\"\nusername = \"me\"\npassword_file = \"FILE\"",
    ),
    (
        "ca_file",
        "broker = \"mqtts://127.0.0.1\"\nca_file = \"FILE\"",
    ),
    (
        "client_cert_file",
        "broker = \"mqtts://127.0.0.1\"\nca_file = \"ca.pem\"\nclient_cert_file = \"FILE\"\nclient_key_file = \"FILE\"",
    ),
    ("path", "path = \"FILE\""),
];

#[test]
fn no_key_of_a_configuration_opens_what_is_not_a_file() {
    for (key, lines) in KEYS {
        let setup = Setup::new(&format!("{CAMERA}[mqtt]\n"));
        write_images(&setup.path("images"), 1);
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".into()]);
        std::fs::write(
            setup.path("ca.pem"),
            certificate.expect("certificate").cert.pem(),
        )
        .expect("certificate");
        let files = special_files(setup.folder.path());
        let original = std::fs::read_to_string(setup.config()).expect("configuration");
        for (file, reason) in files {
            std::fs::write(setup.config(), &original).expect("configuration");
            let lines = lines.replace("FILE", file);
            match key {
                "projection" => setup.replace("[classes]", &lines),
                "bank" => setup.replace("labels = [\"a gear\", \"a bolt\"]", &lines),
                "path" => setup.replace("path = \"images\"", &lines),
                _ => setup.replace("[mqtt]\n", &format!("[mqtt]\n{lines}\n")),
            }
            let config = setup.config().display().to_string();
            let output = run(&["check", "--config", &config]);
            let text = stdout(&output) + &stderr(&output);
            assert!(
                output.status.code().is_some_and(|c| c != 0),
                "{key} {file}: {text}"
            );
            assert!(
                text.contains(reason) && text.contains(file),
                "{key} {file}: {text}"
            );
        }
    }
}

#[test]
fn no_argument_opens_what_is_not_a_file() {
    let folder = tempfile::tempdir().expect("folder");
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (model, image) = (
        tiny_model().display().to_string(),
        fixture("preprocess/rgb.png").display().to_string(),
    );
    for (file, reason) in special_files(folder.path()) {
        let (path, at) = (place(file), format!("@{}", place(file)));
        let out = place("out");
        for args in [
            &["check", "--config", &path][..],
            &["run", "--config", &path],
            &["embed", "--model", &path, &image],
            &["embed", "--model", &model, &path],
            &["classify", "--model", &model, "--labels", &at, &image],
            &["classify", "--model", &model, "--classes", &path, &image],
            &["embed", "--model", &model, "--projection", &path, &image],
            &["fit", "--merge", &path, "--map", "remove:1", "-o", &out],
            &[
                "classes", "--model", &model, "--labels", "a,b", "--like", &path, "-o", &out,
            ],
            &[
                "fit",
                "--model",
                &model,
                "--no-cache",
                "--captions",
                &path,
                "-o",
                &out,
                &image,
            ],
        ] {
            let output = run(args);
            let text = stdout(&output) + &stderr(&output);
            assert!(
                output.status.code().is_some_and(|c| c != 0),
                "{args:?}: {text}"
            );
            assert!(
                text.contains(reason) && text.contains(file),
                "{args:?}: {text}"
            );
            assert!(!text.contains("panicked"), "{text}");
        }
    }
}

#[test]
fn no_key_of_a_manifest_opens_what_is_not_a_file() {
    let folder = tempfile::tempdir().expect("folder");
    let place = |name: &str| folder.path().join(name);
    for file in ["vision-fp32.onnx", "text-fp32.onnx", "tokenizer.json"] {
        std::fs::copy(fixture("encoder").join(file), place(file)).expect("model");
    }
    let manifest = std::fs::read_to_string(tiny_model()).expect("manifest");
    for (special, reason) in &special_files(folder.path())[..3] {
        for file in ["vision-fp32.onnx", "text-fp32.onnx", "tokenizer.json"] {
            let changed = manifest.replace(&format!("\"{file}\""), &format!("\"{special}\""));
            assert_ne!(changed, manifest);
            std::fs::write(place("model.toml"), changed).expect("manifest");
            let (model, image) = (place("model.toml"), fixture("preprocess/rgb.png"));
            let (model, image) = (model.display().to_string(), image.display().to_string());
            let output = run(&["classify", "--model", &model, "--labels", "a,b", &image]);
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(65), "{file} {special}: {text}");
            assert!(text.contains(reason) && text.contains(special), "{text}");
        }
    }
}

#[test]
fn a_pipe_among_several_images_is_reported_and_the_others_are_read() {
    let folder = tempfile::tempdir().expect("folder");
    write_images(folder.path(), 1);
    mkfifo(&folder.path().join("pipe"));
    let pipe = folder.path().join("pipe").display().to_string();
    let output = with_model("embed", &[&pipe], folder.path());
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 1);
    assert!(stderr(&output).contains("pipe: it is a pipe") && stderr(&output).contains("1 of 2"));
}
