//! Invalid configurations: the message, the way out, and the exit code.

mod models;
mod secrets;
mod shipped;

use super::support::{Setup, constancy, stderr, stdout, write_images};

const CAMERA: &str = "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n";

/// Runs `run` and `check`: both must exit with `code` and print all of `parts`.
fn assert_refused(setup: &Setup, code: i32, parts: &[&str]) {
    for command in ["run", "check"] {
        let output = constancy()
            .args([command, "--config"])
            .arg(setup.config())
            .output()
            .expect("it runs");
        let text = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{command}: {text}");
        for part in parts {
            assert!(text.contains(part), "{command}: no `{part}` in: {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

/// A configuration with one camera, one image, and `rest`.
fn with(rest: &str) -> Setup {
    let setup = Setup::new(&format!("{CAMERA}{rest}"));
    write_images(&setup.path("images"), 1);
    setup
}

#[test]
fn an_unknown_key_is_named_with_the_known_ones() {
    assert_refused(
        &with("[mqtt]\nbroket = \"mqtt://localhost\"\n"),
        78,
        &["broket", "expected one of", "`broker`", "constancy.toml"],
    );
}

#[test]
fn a_wrong_type_is_named_with_its_line() {
    assert_refused(
        &with("[mqtt]\nkeep_alive_s = \"soon\"\n"),
        78,
        &[
            "line 12, `mqtt.keep_alive_s`",
            "invalid type",
            "constancy.toml",
        ],
    );
}

#[test]
fn a_configuration_that_is_missing_or_not_toml_is_refused() {
    let setup = with("");
    std::fs::remove_file(setup.config()).expect("configuration");
    assert_refused(&setup, 66, &["constancy.toml", "--config"]);
    assert_refused(
        &Setup::raw("this is = not = toml"),
        78,
        &["constancy.toml", "config/constancy.toml shows every key"],
    );
    assert_refused(&Setup::raw("\u{0}\u{1}"), 78, &["constancy.toml"]);
    let setup = Setup::new("");
    std::fs::write(setup.config(), [0xff, 0xfe, 0x00]).expect("bytes");
    assert_refused(&setup, 78, &["constancy.toml", "UTF-8"]);
}

#[test]
fn a_missing_file_is_named_with_its_key() {
    let setup = Setup::new(CAMERA);
    assert_refused(
        &setup,
        66,
        &["camera.replay.path (belt)", "images", "put the file there"],
    );
    let setup = Setup::raw(
        "[model]\nmanifest = \"nowhere.toml\"\n[classes]\nlabels = [\"a\"]\n[[camera]]\nname = \"c\"\n[camera.v4l]\ndevice = \"/dev/null\"\n",
    );
    assert_refused(&setup, 66, &["model.manifest", "nowhere.toml"]);
}

/// Lines of a configuration, the key that the message must name, and the way out.
const OUT_OF_RANGE: [(&str, &str, &str); 18] = [
    (
        "[mqtt]\nbroker = \"localhost:1883\"\n",
        "mqtt.broker",
        "mqtt://host:port",
    ),
    (
        "[mqtt]\nbroker = \"mqtt://localhost:0\"\n",
        "mqtt.broker",
        "1 to 65535",
    ),
    (
        "[mqtt]\nbroker = \"mqtt://me:secret@localhost\"\n",
        "mqtt.broker",
        "password_file",
    ),
    ("[mqtt]\nprefix = \"a//b\"\n", "mqtt.prefix", "a//b"),
    ("[mqtt]\nprefix = \"plant/#\"\n", "mqtt.prefix", "plant/#"),
    ("[queue]\nmemory = 0\n", "queue.memory", "expected 1"),
    (
        "[queue]\ndrain_per_s = 0.0\n",
        "queue.drain_per_s",
        "expected 0.01",
    ),
    (
        "[mqtt]\nbroker = \"mqtt://localhost\"\nca_file = \"images\"\n",
        "mqtt.ca_file",
        "mqtts://",
    ),
    (
        "[[camera]]\nname = \"belt\"\n[camera.v4l]\ndevice = \"/dev/video0\"\n",
        "camera.name",
        "twice",
    ),
    (
        "[[camera]]\nname = \"a b\"\n[camera.v4l]\ndevice = \"/dev/video0\"\n",
        "camera.name",
        "A–Z",
    ),
    (
        "[[camera]]\nname = \"none\"\n",
        "none",
        "exactly one of `v4l`, `pipe`, `replay` and `synthetic`",
    ),
    (
        "[[camera]]\nname = \"p\"\n[camera.pipe]\ncommand = []\n",
        "camera.pipe.command (p)",
        "is empty",
    ),
    (
        "[camera.view]\nregion = [0.5, 0.0, 0.5, 1.0]\n",
        "camera.view.region (belt)",
        "left must be less than right",
    ),
    (
        "[camera.view]\nmask = [[[0, 0], [1, 1]]]\n",
        "camera.view.mask (belt)",
        "2 corners, expected 3",
    ),
    (
        "[camera.view]\nregion = \"left half\"\n",
        "region",
        "[left, top, right, bottom] or three or more corners",
    ),
    (
        "[snapshots]\nmax_files = 0\n",
        "snapshots.max_files",
        "expected 1",
    ),
    (
        "[mqtt]\ncommands = [\"reboot\"]\n",
        "reboot",
        "`enabled`, `labels`, `threshold`, `snapshot`",
    ),
    (
        "[mqtt]\npayload = \"xml\"\n",
        "xml",
        "`json` or `sparkplug`",
    ),
];

#[test]
fn values_out_of_range_are_named() {
    for (rest, key, way_out) in OUT_OF_RANGE {
        assert_refused(&with(rest), 78, &[key, way_out]);
    }
}
