//! The walk through folders of images, and lists of images.

use super::{mkfifo, run, with_model};
use crate::support::{
    LIMIT, Setup, constancy, jpeg, json_lines, picture, set_mode, stderr, stdout, tiny_model,
    unprivileged, write_images,
};
use std::os::unix::fs::symlink;
use std::path::Path;

/// Class folders `bad` and `ok` with `count` images each.
fn classes(root: &Path, count: u32) {
    for (c, class) in (0..).zip(["bad", "ok"]) {
        std::fs::create_dir_all(root.join(class)).expect("folder");
        for i in 0..count {
            let path = root.join(class).join(format!("{i:05}.jpg"));
            std::fs::write(path, jpeg(160, 120, 100 * c + i)).expect("image");
        }
    }
}

/// Makes a bank of the class folders in `root`; returns exit code, stdout and stderr.
fn bank(root: &Path) -> (Option<i32>, String, String) {
    let bank = root.join("bank.safetensors");
    let output = with_model(
        "classes",
        &["-o", &bank.display().to_string(), "--from-images"],
        root,
    );
    (output.status.code(), stdout(&output), stderr(&output))
}

#[test]
fn what_file_managers_and_editors_leave_is_passed_over() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path();
    classes(root, 2);
    std::fs::create_dir(root.join(".ipynb_checkpoints")).expect("folder");
    std::fs::write(root.join(".ipynb_checkpoints/0-checkpoint.jpg"), "").expect("file");
    for class in ["bad", "ok"] {
        std::fs::write(root.join(class).join("._00000.jpg"), "resource fork").expect("file");
        std::fs::write(root.join(class).join("Thumbs.db"), "").expect("file");
    }
    let (code, out, errors) = bank(root);
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.contains("2 classes (bad, ok)"), "{out}");
    assert!(errors.contains("2 files left out: .db (2)"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "one line: {errors}");
    let output = with_model("embed", &[], root);
    assert_eq!(json_lines(&output).len(), 4, "{}", stderr(&output));
}

#[test]
fn a_class_folder_that_loses_all_files_by_their_extension_is_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path();
    classes(root, 2);
    std::fs::create_dir(root.join("scratched")).expect("folder");
    for name in ["1.heic", "2.HEIC", "notes.txt"] {
        std::fs::write(root.join("scratched").join(name), "").expect("file");
    }
    let (code, _, errors) = bank(root);
    assert_eq!(code, Some(66), "{errors}");
    assert!(
        errors.contains("scratched holds no JPEG")
            && errors.contains("3 files left out: .heic (2), .txt (1)"),
        "{errors}"
    );
    // eval reads the same layout under environments.
    let data = tempfile::tempdir().expect("folder");
    for environment in ["day", "night"] {
        classes(&data.path().join(environment), 2);
    }
    let odd = data.path().join("night/scratched");
    std::fs::create_dir(&odd).expect("folder");
    std::fs::write(odd.join("1.heic"), "").expect("file");
    for command in [
        &["eval", "--no-cache"][..],
        &["fit", "--no-cache", "--select", "environments"],
    ] {
        let output = with_model(command[0], &command[1..], data.path());
        assert_eq!(
            output.status.code(),
            Some(66),
            "{command:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("night/scratched holds no"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn links_in_circles_and_second_names_bring_no_image_twice() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path();
    classes(root, 2);
    symlink("..", root.join("ok/up")).expect("link");
    symlink(".", root.join("all")).expect("link");
    let output = with_model("embed", &[], root);
    assert_eq!(json_lines(&output).len(), 4, "{}", stderr(&output));
    assert!(
        stderr(&output).is_empty(),
        "a loop loses nothing: {}",
        stderr(&output)
    );
    symlink("ok", root.join("accepted")).expect("link");
    let (code, out, errors) = bank(root);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        out.contains("2 classes (bad, ok)"),
        "under its own name: {out}"
    );
    assert!(errors.contains("accepted: the same folder as"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn what_cannot_be_read_is_named_once_and_only_an_empty_result_is_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path();
    write_images(&root.join("ok"), 1);
    symlink("gone.png", root.join("ok/broken.png")).expect("link");
    symlink("loop", root.join("loop")).expect("link");
    mkfifo(&root.join("ok/pipe.jpg"));
    let output = with_model("embed", &[], root);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(json_lines(&output).len(), 1);
    for name in ["broken.png", "/loop", "pipe.jpg"] {
        assert_eq!(
            stderr(&output).matches(name).count(),
            1,
            "{name}: {}",
            stderr(&output)
        );
    }
    std::fs::remove_file(root.join("ok/00000.jpg")).expect("image");
    let output = with_model("embed", &[], root);
    assert_eq!(output.status.code(), Some(66));
    assert!(stderr(&output).contains("holds no JPEG") && stderr(&output).contains("a pipe"));
}

#[test]
fn a_folder_that_may_not_be_entered_is_named_and_passed_over() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path();
    write_images(&root.join("images/open"), 1);
    write_images(&root.join("images/closed"), 1);
    set_mode(&root.join("images/closed"), 0o000);
    for file in ["vision-fp32.toml", "vision-fp32.onnx"] {
        let from = tiny_model().with_file_name(file);
        std::fs::copy(from, root.join(file)).expect("model");
    }
    let args = ["embed", "--model", "vision-fp32.toml", "images"];
    let output = unprivileged(root).args(args).output().expect("it runs");
    set_mode(&root.join("images/closed"), 0o755);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(json_lines(&output).len(), 1);
    assert!(
        stderr(&output).contains("closed: cannot be entered: Permission denied"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn one_damaged_image_of_a_class_is_counted_and_the_bank_is_written() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path();
    classes(root, 2);
    std::fs::write(root.join("ok/cut.jpg"), "no image").expect("file");
    let (code, out, errors) = bank(root);
    assert_eq!(code, Some(65), "{errors}");
    assert!(out.contains("2 classes (bad, ok)") && root.join("bank.safetensors").exists());
    assert!(
        errors.contains("cut.jpg") && errors.contains("1 of 5 images"),
        "{errors}"
    );
    // A class of nothing else cannot be made.
    std::fs::create_dir(root.join("lost")).expect("folder");
    std::fs::write(root.join("lost/cut.jpg"), "no image").expect("file");
    let (code, out, errors) = bank(root);
    assert_eq!((code, out.as_str()), (Some(65), ""), "{errors}");
    assert!(
        errors.contains("none of the 1 images of") && errors.contains("lost"),
        "{errors}"
    );
}

#[test]
fn bitmaps_are_listed_whatever_the_case_of_their_extension() {
    let folder = tempfile::tempdir().expect("folder");
    write_images(folder.path(), 1);
    for name in ["a.BMP", "b.tif", "c.TIFF"] {
        std::fs::write(folder.path().join(name), "").expect("file");
    }
    let output = with_model("embed", &[], folder.path());
    assert!(
        stderr(&output).contains("of 4 images"),
        "{}",
        stderr(&output)
    );
}

/// A camera that replays `path`.
fn replay(path: &str, rest: &str) -> Setup {
    Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"{path}\"\n{rest}"
    ))
}

#[test]
fn a_list_with_a_byte_order_mark_and_missing_images_is_read() {
    let setup = replay("list.txt", "");
    write_images(&setup.path("images"), 2);
    let list = "\u{feff}images/00000.jpg\r\n\r\ngone.jpg\r\nimages/00001.jpg";
    std::fs::write(setup.path("list.txt"), list).expect("list");
    let mut daemon = setup.start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success());
    let events = daemon.wait_events(2);
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["damaged_frames"], 0, "{}", daemon.log());
    assert_eq!(
        daemon.log().matches("gone.jpg").count(),
        1,
        "{}",
        daemon.log()
    );
}

#[test]
fn a_recording_that_starts_over_tells_what_it_passes_over_once() {
    let setup = replay("images", "loop = true\n");
    write_images(&setup.path("images"), 2);
    mkfifo(&setup.path("images/pipe.jpg"));
    std::fs::write(setup.path("images/notes.txt"), "").expect("file");
    let daemon = setup.start();
    let events = daemon.wait_events(10);
    assert!(
        events
            .iter()
            .all(|e| !e["file"].as_str().unwrap_or("pipe").contains("pipe"))
    );
    for told in ["pipe.jpg", "1 file left out: .txt (1)"] {
        assert_eq!(
            daemon.log().matches(told).count(),
            1,
            "{told}: {}",
            daemon.log()
        );
    }
}

#[test]
fn a_list_whose_images_are_all_missing_is_an_error_that_says_so() {
    let setup = replay("list.txt", "");
    std::fs::write(setup.path("list.txt"), "gone.jpg\n").expect("list");
    let config = setup.config();
    let output = constancy()
        .arg("check")
        .arg("--config")
        .arg(config)
        .output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(66), "{}", stdout(&output));
    assert!(
        stdout(&output).contains("gone.jpg: No such file"),
        "{}",
        stdout(&output)
    );
}

/// Two more ways in: a picture by its own name, and the sorted order of a folder.
#[test]
fn the_order_is_that_of_the_names_with_subfolders() {
    let folder = tempfile::tempdir().expect("folder");
    for name in ["b.jpg", "a/2.jpg", "a/1.jpg"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(path, jpeg(64, 64, 1)).expect("image");
    }
    picture(64, 64, 2)
        .save(folder.path().join("0.png"))
        .expect("image");
    let model = tiny_model().display().to_string();
    let root = folder.path().display().to_string();
    let output = run(&["embed", "--model", &model, &root]);
    let files: Vec<String> = json_lines(&output)
        .iter()
        .map(|l| l["file"].as_str().expect("file")[root.len() + 1..].to_owned())
        .collect();
    assert_eq!(files, ["0.png", "a/1.jpg", "a/2.jpg", "b.jpg"]);
}
