//! Names of files and classes with any bytes in them: they end nothing and forge nothing.

use super::support::{LIMIT, Setup, jpeg, write_images};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

const CAMERA: &str = "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n";

/// A recording of good images and one file more.
fn recording(name: &[u8], content: &[u8]) -> Setup {
    let setup = Setup::new(CAMERA);
    write_images(&setup.path("images"), 2);
    let path = setup.path("images").join(OsStr::from_bytes(name));
    std::fs::write(path, content).expect("image");
    setup
}

#[test]
fn a_name_that_is_not_utf_8_ends_no_recording() {
    let mut daemon = recording(b"caf\xe9.jpg", &jpeg(160, 120, 7)).start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success(), "{status}: {}", daemon.log());
    let events = daemon.wait_events(3);
    let file = events[2]["file"].as_str().expect("a file");
    assert!(file.ends_with("/caf\u{fffd}.jpg"), "{file}");
}

#[test]
fn no_name_of_a_file_forges_a_log_line() {
    for (journal, forged) in [(true, "<0>forged"), (false, "[2026-01-01 ERROR] forged")] {
        let name = format!("a\n{forged}\r{forged}.jpg");
        let mut setup = recording(name.as_bytes(), b"no image");
        if journal {
            setup = setup.env("JOURNAL_STREAM", "1:2");
        }
        let mut daemon = setup.start();
        let (status, _) = daemon.wait_exit(LIMIT);
        assert!(status.success(), "{status}: {}", daemon.log());
        let log = daemon.log();
        let line = log.lines().find(|l| l.contains("frame skipped"));
        let line = line.expect("the file is named");
        assert!(
            line.contains(&format!("a\\n{forged}\\r{forged}.jpg")),
            "{line}"
        );
        let is_ours = |l: &str| l.starts_with(if journal { "<" } else { "[" }) && l.contains(' ');
        assert!(log.lines().all(is_ours), "{log}");
        assert!(log.lines().all(|l| !l.starts_with(forged)), "{log}");
        assert!(!log.contains('\r'), "{log:?}");
    }
}
