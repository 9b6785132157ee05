//! `constancy camera`.

use super::{run, text};
use crate::support::{Setup, jpeg, stderr};

#[test]
fn an_absent_camera_is_named_and_exits_with_69() {
    for command in ["formats", "controls", "grab"] {
        let output = run(&["camera", command, "/dev/video99"]);
        assert_eq!(
            output.status.code(),
            Some(69),
            "{command}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("/dev/video99"),
            "{}",
            stderr(&output)
        );
    }
    let output = run(&["camera", "formats", "/dev/null"]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("/dev/null"));
    assert!(run(&["camera", "list"]).status.success());
}

#[test]
fn grab_writes_a_frame_of_any_configured_camera() {
    let setup = Setup::new(
        "[[camera]]\nname = \"gate\"\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"cat DIR/a.jpg DIR/a.jpg; sleep 60\"]\n",
    );
    let bytes = jpeg(64, 48, 1);
    std::fs::write(setup.path("a.jpg"), &bytes).expect("image");
    let (config, jpg, png) = (
        text(&setup.config()),
        text(&setup.path("out.jpg")),
        text(&setup.path("out.png")),
    );
    for output in [&jpg, &png] {
        let result = run(&[
            "camera", "grab", "gate", "--config", &config, "--skip", "1", "--output", output,
        ]);
        assert!(result.status.success(), "{}", stderr(&result));
    }
    assert_eq!(
        std::fs::read(&jpg).expect("frame"),
        bytes,
        "a JPEG frame is not compressed again"
    );
    assert_eq!(
        image::open(&png).expect("frame").into_rgb8().dimensions(),
        (64, 48)
    );
    let result = run(&["camera", "grab", "door", "--config", &config]);
    assert_eq!(result.status.code(), Some(64));
    assert!(stderr(&result).contains("gate"));
}
