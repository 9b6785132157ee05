//! V4L2 cameras whose drivers lack what is optional, played by a preloaded library.

use super::support::{Setup, constancy, jpeg, stderr, stdout};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

const DEVICE: &str = "/dev/video90";

/// The library, compiled once.
fn library() -> String {
    static LIBRARY: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("fake_camera.so").display().to_string();
        let source =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cameras/fake_camera.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-w", "-o", &path])
            .arg(source)
            .status();
        assert!(compiled.expect("a C compiler").success());
        (folder, path)
    });
    path.clone()
}

fn setup(lacks: &str, refusal: &str, settings: &str) -> Setup {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"grabber\"\n[camera.v4l]\ndevice = \"{DEVICE}\"\nwidth = 64\nheight = 48\n{settings}"
    ));
    std::fs::write(setup.path("frame.jpg"), jpeg(64, 48, 1)).expect("image");
    let frame = setup.path("frame.jpg").display().to_string();
    let setup = setup
        .env("LD_PRELOAD", library())
        .env("FAKE_CAMERA_LACKS", lacks)
        .env("FAKE_CAMERA_FRAME", frame);
    if refusal == "EINVAL" {
        setup.env("FAKE_CAMERA_REFUSAL", refusal)
    } else {
        setup
    }
}

fn camera_command(command: &str, lacks: &str) -> Output {
    constancy()
        .args(["camera", command, DEVICE])
        .env("LD_PRELOAD", library())
        .env("FAKE_CAMERA_LACKS", lacks)
        .output()
        .expect("constancy runs")
}

#[test]
fn a_camera_needs_nothing_that_is_optional() {
    for refusal in ["ENOTTY", "EINVAL"] {
        let daemon = setup("controls,rate,formats,sizes", refusal, "fps = 25\n").start();
        daemon.wait_events(2);
        assert!(
            daemon.log().contains("`fps` has no effect"),
            "{}",
            daemon.log()
        );
    }
}

#[test]
fn a_configured_control_that_the_camera_lacks_is_named() {
    for (lacks, settings, message) in [
        (
            "controls",
            "exposure = 100\n",
            "control `exposure` is not one of this camera's, which has no controls at all",
        ),
        (
            "controls",
            "controls = { gamma = 1 }\n",
            "control `gamma` is not one of this camera's, which has no controls",
        ),
        (
            "",
            "controls = { gamma = 1 }\n",
            "control `gamma` is not one of this camera's; `constancy camera controls` lists them",
        ),
        (
            "",
            "white_balance = 4000\n",
            "control `white_balance` is not one of this camera's; `constancy camera controls`",
        ),
        (
            "",
            "controls = { of_tomorrow = 1 }\n",
            "control `of_tomorrow` cannot be set",
        ),
    ] {
        setup(lacks, "ENOTTY", settings).start().wait_log(message);
    }
}

#[test]
fn one_control_that_is_not_understood_hides_no_other() {
    let daemon = setup("", "ENOTTY", "controls = { brightness = 7 }\n").start();
    daemon.wait_events(1);
    assert!(
        !daemon.log().contains("brightness"),
        "it keeps the value: {}",
        daemon.log()
    );
    let output = camera_command("controls", "");
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = stdout(&output);
    let brightness = lines.lines().find(|l| l.starts_with("brightness "));
    assert!(
        brightness.is_some_and(|l| l.contains("100  (integer, 0 to 255, step 1, default 0)")),
        "{lines}"
    );
    assert!(
        lines.contains("na_me") && !lines.contains("tomorrow"),
        "{lines}"
    );
}

#[test]
fn commands_on_a_camera_that_lacks_what_is_optional() {
    let output = camera_command("controls", "controls");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        format!("{DEVICE} has no controls that can be set\n")
    );
    let output = camera_command("formats", "sizes");
    assert_eq!(
        stdout(&output),
        "MJPG  Motion-JPEG\n",
        "{}",
        stderr(&output)
    );
    let output = camera_command("formats", "formats");
    assert!(
        stdout(&output).contains("does not list its formats"),
        "{}",
        stderr(&output)
    );
}
