//! Names that are not UTF-8, or that hold line ends.

use super::{run, with_model};
use crate::support::{LIMIT, Setup, jpeg, json_lines, stderr, stdout, tiny_model, write_images};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// `gr\xfcn` in Latin-1, and a name with a line of its own.
const LATIN_1: &[u8] = b"gr\xfcn";
const TWO_LINES: &[u8] = b"a\nok  forged: a gear 1.000";

fn place(folder: &Path, name: &[u8], extension: &str) -> PathBuf {
    let mut name = OsStr::from_bytes(name).to_owned();
    name.push(extension);
    folder.join(name)
}

/// A folder with an image of each name.
fn odd_images(folder: &Path) {
    std::fs::create_dir_all(folder).expect("folder");
    for (i, name) in (0..).zip([LATIN_1, TWO_LINES]) {
        std::fs::write(place(folder, name, ".jpg"), jpeg(64, 64, i)).expect("image");
    }
}

#[test]
fn every_output_of_the_commands_shows_odd_names() {
    let folder = tempfile::tempdir().expect("folder");
    odd_images(folder.path());
    let labels = ["--labels", "a,b", "--json"];
    let output = with_model("classify", &labels, folder.path());
    let lines = json_lines(&output);
    assert!(
        output.status.success() && lines.len() == 2,
        "{}",
        stderr(&output)
    );
    assert!(
        lines[0]["file"]
            .as_str()
            .is_some_and(|f| f.ends_with("1.000.jpg"))
    );
    assert!(
        lines[1]["file"]
            .as_str()
            .is_some_and(|f| f.ends_with("gr\u{fffd}n.jpg"))
    );
    let output = with_model("classify", &labels[..2], folder.path());
    assert_eq!(stdout(&output).lines().count(), 2, "{}", stdout(&output));
    let elsewhere = tempfile::tempdir().expect("folder");
    let saved = elsewhere.path().join("rows.safetensors");
    let output = with_model(
        "embed",
        &["-o", &saved.display().to_string()],
        folder.path(),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let bytes = std::fs::read(&saved).expect("rows");
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).expect("metadata");
    let files = &metadata.metadata().as_ref().expect("files")["files"];
    assert!(
        files.contains("gr\u{fffd}n.jpg") && files.contains("\\n"),
        "{files}"
    );
    // A damaged image is reported in one line, too.
    std::fs::write(place(folder.path(), b"b\nerror: forged", ".png"), "none").expect("file");
    let output = with_model("embed", &[], folder.path());
    assert_eq!(output.status.code(), Some(65));
    assert_eq!(stderr(&output).lines().count(), 2, "{}", stderr(&output));
}

#[test]
fn the_daemon_publishes_odd_names() {
    let setup = Setup::new("[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n");
    odd_images(&setup.path("images"));
    let mut daemon = setup.start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success(), "{}", daemon.log());
    let events = daemon.wait_events(2);
    let file = events[1]["file"].as_str().expect("file");
    assert!(file.ends_with("images/gr\u{fffd}n.jpg"), "{file}");
}

#[test]
fn odd_names_of_classes_and_of_the_configuration_are_taken() {
    let folder = tempfile::tempdir().expect("folder");
    let root = place(folder.path(), b"data\xff", "");
    for class in [LATIN_1, TWO_LINES] {
        write_images(&place(&root, class, ""), 2);
    }
    let bank = folder.path().join("bank").display().to_string();
    let classes = || with_model("classes", &["-o", &bank, "--from-images"], &root);
    let refused = classes();
    assert_eq!(refused.status.code(), Some(65));
    assert_eq!(stderr(&refused).lines().count(), 1, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("has control characters"));
    std::fs::remove_dir_all(place(&root, TWO_LINES, "")).expect("class");
    let output = classes();
    assert!(output.status.success(), "{}", stderr(&output));
    let printed = stdout(&output);
    assert_eq!(printed.lines().count(), 2, "whitening and bank: {printed}");
    assert!(
        stdout(&output).contains("gr\u{fffd}n"),
        "{}",
        stdout(&output)
    );
    // The same names as environments and classes.
    let data = place(folder.path(), b"more\xff", "");
    for environment in [LATIN_1, TWO_LINES] {
        for class in [LATIN_1, TWO_LINES] {
            write_images(&place(&place(&data, environment, ""), class, ""), 4);
        }
    }
    let csv = folder.path().join("figures.csv");
    let (model, csv_arg) = (tiny_model(), csv.as_os_str().to_owned());
    let args: Vec<OsString> = vec![
        "eval".into(),
        data.into(),
        "--model".into(),
        model.into(),
        "--no-cache".into(),
        "--interventions".into(),
        "grey-scale,inversion".into(),
        "--predictors".into(),
        "means".into(),
        "--json".into(),
        "--csv".into(),
        csv_arg,
    ];
    let output = run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = &json_lines(&output)[0];
    assert_eq!(report["environments"][1], "gr\u{fffd}n");
    let table = std::fs::read_to_string(csv).expect("figures");
    let columns = table.lines().map(|line| line.split(',').count());
    assert!(columns.min() >= Some(14), "no line is forged: {table}");
}

#[test]
fn two_class_folders_that_read_alike_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    for class in [&b"\xfe"[..], b"\xff"] {
        write_images(&place(folder.path(), class, ""), 1);
    }
    let bank = folder.path().join("bank").display().to_string();
    let output = with_model("classes", &["-o", &bank, "--from-images"], folder.path());
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("rename one"),
        "{}",
        stderr(&output)
    );
}
