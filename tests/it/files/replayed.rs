//! What `replay.path` may name besides a folder, and what is told where it names something else.

use super::run;
use crate::support::{LIMIT, Setup, jpeg, json_lines, write_images};

/// A camera that replays `path`; `more` are lines of its section.
fn replay(path: &str, more: &str) -> Setup {
    Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"{path}\"\n{more}"
    ))
}

/// What `check` says of the camera, and its exit code.
fn check(setup: &Setup) -> (String, Option<i32>) {
    let config = setup.config().display().to_string();
    let output = run(&["check", "--json", "--config", &config]);
    let findings = json_lines(&output);
    let camera = findings.iter().find(|f| f["check"] == "camera belt");
    let detail = camera.and_then(|f| f["detail"].as_str());
    (detail.expect("a finding").to_owned(), output.status.code())
}

#[test]
fn one_picture_is_replayed_as_one() {
    let setup = replay("one.jpg", "");
    std::fs::write(setup.path("one.jpg"), jpeg(160, 120, 1)).expect("image");
    let mut daemon = setup.start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success());
    let events = daemon.wait_events(1);
    assert_eq!(events.len(), 1);
    assert!(
        events[0]["file"]
            .as_str()
            .is_some_and(|f| f.ends_with("one.jpg"))
    );
}

#[test]
fn a_video_is_refused_with_the_way_to_play_it() {
    let two = [jpeg(160, 120, 1), jpeg(160, 120, 2)].concat();
    for (content, format) in [
        (&b"\0\0\0\x20ftypisom\0\0\x02\0"[..], "MP4 or QuickTime"),
        (b"RIFF\x10\0\0\0AVI LIST\0\0", "AVI"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\0", "Matroska or WebM"),
        (&two, "MJPEG"),
    ] {
        let setup = replay("recording", "");
        std::fs::write(setup.path("recording"), content).expect("file");
        let (said, code) = check(&setup);
        let expected = format!("recording is a video ({format}), and a replay takes pictures");
        assert!(said.contains(&expected), "{said}");
        assert!(
            said.contains("[camera.pipe]") && said.contains("ffmpeg -i "),
            "{said}"
        );
        assert_eq!(code, Some(65));
    }
    let setup = replay("moving.gif", "");
    std::fs::write(setup.path("moving.gif"), b"GIF89a\x01\0\x01\0").expect("file");
    let (said, _) = check(&setup);
    assert!(
        said.contains("moving.gif holds GIF images (10 bytes): expected a folder"),
        "{said}"
    );
}

#[test]
fn a_list_whose_lines_are_no_files_is_told_in_short() {
    let setup = replay("page.html", "");
    let lines: Vec<String> = (0..40)
        .map(|i| format!("<p>{i} {}</p>", "text ".repeat(2000)))
        .collect();
    std::fs::write(setup.path("page.html"), lines.join("\n")).expect("file");
    let (said, code) = check(&setup);
    assert_eq!(code, Some(66), "{said}");
    assert!(
        said.contains("<p>9 text") && said.contains("; 30 more"),
        "{said}"
    );
    assert!(said.len() < 5000, "{} characters", said.len());
}

#[test]
fn a_damaged_file_of_a_looping_replay_is_named_once() {
    let setup = replay("images", "rate = 500.0\nloop = true\n");
    write_images(&setup.path("images"), 1);
    for name in ["bad-1.jpg", "bad-2.jpg", "bad-3.jpg"] {
        std::fs::write(setup.path("images").join(name), "no picture").expect("file");
    }
    let daemon = setup.start();
    daemon.wait_log("frame skipped (64 so far)");
    let log = daemon.log();
    let skipped = log.lines().filter(|l| l.contains("frame skipped")).count();
    // Three files, and the powers of two from 4 on.
    assert!(skipped <= 3 + 6, "{log}");
    for name in ["bad-1.jpg", "bad-2.jpg", "bad-3.jpg"] {
        assert!(log.contains(name), "{log}");
    }
}
