//! Snapshots of events on disk, and masks and regions.

use super::support::{LIMIT, Setup, constancy, jpeg, stderr, wait_for, write_images};
use image::ImageEncoder;
use std::path::Path;

const CAMERA: &str = "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n";

/// The names of a folder's files, sorted; empty if there is no folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder)
        .map(|e| e.map_while(Result::ok).collect::<Vec<_>>())
        .unwrap_or_default();
    let mut names: Vec<String> = entries
        .iter()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn each_event_leaves_a_snapshot_and_the_oldest_are_deleted() {
    let setup = Setup::new(&format!(
        "{CAMERA}rate = 10.0\n[snapshots]\nfolder = \"kept\"\nmax_files = 3\n"
    ));
    write_images(&setup.path("images"), 8);
    let mut daemon = setup.start();
    daemon.wait_exit(LIMIT);
    // On a busy machine a newer frame may have replaced one.
    let events = daemon.events();
    let count = events.len();
    assert!(count > 3, "{count} events");
    let kept = daemon.setup.path("kept");
    let boot = &events[0]["boot_id"].as_str().expect("boot_id")[..8];
    let expected: Vec<String> = (count - 3..count)
        .map(|seq| format!("{seq:012}-belt-{boot}-{seq}.jpg"))
        .collect();
    assert_eq!(files(&kept), expected);
    let bytes = std::fs::read(kept.join(&expected[2])).expect("file");
    let shown = image::load_from_memory(&bytes).expect("a JPEG");
    assert_eq!((shown.width(), shown.height()), (160, 120));
}

#[test]
fn a_folder_that_cannot_be_created_is_reported_and_events_go_on() {
    let setup = Setup::new(&format!(
        "{CAMERA}rate = 20.0\nloop = true\n[snapshots]\nfolder = \"kept\"\n"
    ));
    write_images(&setup.path("images"), 3);
    std::fs::write(setup.path("kept"), "in the way").expect("file");
    let daemon = setup.start();
    daemon.wait_log("see `snapshots.folder`");
    let so_far = daemon.events().len();
    daemon.wait_events(so_far + 3);
    std::fs::remove_file(daemon.setup.path("kept")).expect("removed");
    daemon.wait_log("they can be written again");
    wait_for("a snapshot", || {
        (!files(&daemon.setup.path("kept")).is_empty()).then_some(())
    });
}

/// The scores that the real daemon gives an image, with these lines in `[camera.view]`.
fn scores(image: &[u8], view: &str) -> Vec<f64> {
    let setup = Setup::new(&format!("{CAMERA}[camera.view]\n{view}"));
    std::fs::create_dir_all(setup.path("images")).expect("folder");
    std::fs::write(setup.path("images/a.png"), image).expect("image");
    let daemon = setup.start();
    let event = daemon.wait_events(1).remove(0);
    event["top"]
        .as_array()
        .expect("top")
        .iter()
        .map(|c| c["score"].as_f64().expect("score"))
        .collect()
}

fn png(image: &image::RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder
        .write_image(
            image.as_raw(),
            image.width(),
            image.height(),
            image::ExtendedColorType::Rgb8,
        )
        .expect("PNG");
    bytes
}

#[test]
fn masked_pixels_and_pixels_outside_the_region_change_no_score() {
    let calm = image::load_from_memory(&jpeg(160, 120, 5))
        .expect("image")
        .to_rgb8();
    // The same with something in the upper left corner.
    let mut busy = calm.clone();
    for (x, y, pixel) in busy
        .enumerate_pixels_mut()
        .filter(|(x, y, _)| *x < 60 && *y < 50)
    {
        pixel.0 = [(x * 37 % 256) as u8, (y * 91 % 256) as u8, 250];
    }
    let scores = |image, view| scores(&png(image), view);
    assert_ne!(
        scores(&calm, ""),
        scores(&busy, ""),
        "without a mask it changes the scores"
    );
    for view in [
        "mask = [[0.0, 0.0, 0.5, 0.5]]",
        "mask = [[[0, 0], [1, 0], [0, 1]]]",
        "region = [0.5, 0.0, 1, 1]",
    ] {
        assert_eq!(scores(&calm, view), scores(&busy, view), "{view}");
    }
    let cut = image::imageops::crop_imm(&calm, 80, 0, 80, 120).to_image();
    assert_eq!(
        scores(&calm, "region = [0.5, 0.0, 1, 1]"),
        scores(&cut, ""),
        "a region is scored like the cropped image"
    );
}

#[test]
fn grab_writes_the_visible_part() {
    let setup = Setup::new(&format!(
        "{CAMERA}[camera.view]\nregion = [0.5, 0.25, 1.0, 1.0]\n"
    ));
    write_images(&setup.path("images"), 1);
    let output = setup.path("visible.png");
    constancy()
        .args(["camera", "grab", "belt", "-c"])
        .arg(setup.config())
        .arg("-o")
        .arg(&output)
        .assert()
        .success();
    let visible = image::open(&output).expect("PNG");
    assert_eq!((visible.width(), visible.height()), (80, 90));
    let jpg = constancy()
        .args(["camera", "grab", "belt", "-o", "x.jpg", "-c"])
        .arg(setup.config())
        .output();
    let text = stderr(&jpg.expect("it runs"));
    assert!(text.contains("has no region or mask"), "{text}");
}
