//! Configurations, models and projections that are wrong: the message, the way out, the exit code.

use super::support::{Setup, constancy, fixture, stderr, tiny_model, write_images};
use constancy::config::{ConfigError, Settings};
use constancy_engine::Manifest;
use std::path::Path;

const CAMERA: &str = "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n";

/// Runs the daemon, which must refuse with `code` and a message that holds all of `parts`.
fn refused(setup: &Setup, code: i32, parts: &[&str]) {
    for command in ["run", "check"] {
        let output = constancy()
            .args([command, "--config"])
            .arg(setup.config())
            .output()
            .expect("it runs");
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            stderr(&output)
        );
        assert_eq!(output.status.code(), Some(code), "{command}: {text}");
        for part in parts {
            assert!(text.contains(part), "{command}: no `{part}` in: {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

fn with(rest: &str) -> Setup {
    let setup = Setup::new(&format!("{CAMERA}{rest}"));
    write_images(&setup.path("images"), 1);
    setup
}

#[test]
fn an_unknown_key_is_named_with_those_that_exist() {
    refused(
        &with("[mqtt]\nbroket = \"mqtt://localhost\"\n"),
        78,
        &["broket", "expected one of", "`broker`", "constancy.toml"],
    );
}

#[test]
fn a_wrong_type_is_named_with_its_line() {
    refused(
        &with("[mqtt]\nkeep_alive_s = \"soon\"\n"),
        78,
        &["keep_alive_s", "invalid type", "constancy.toml"],
    );
}

#[test]
fn a_configuration_that_is_missing_or_no_toml() {
    let setup = with("");
    std::fs::remove_file(setup.config()).expect("configuration");
    refused(&setup, 66, &["constancy.toml", "--config"]);
    refused(
        &Setup::raw("this is = not = toml"),
        78,
        &["constancy.toml", "config/constancy.toml shows every key"],
    );
    refused(&Setup::raw("\u{0}\u{1}"), 78, &["constancy.toml"]);
    let setup = Setup::new("");
    std::fs::write(setup.config(), [0xff, 0xfe, 0x00]).expect("bytes");
    refused(&setup, 78, &["constancy.toml", "UTF-8"]);
}

#[test]
fn a_file_that_is_missing_is_named_with_its_key() {
    let setup = Setup::new(CAMERA);
    refused(
        &setup,
        66,
        &["camera.replay.path (belt)", "images", "put the file there"],
    );
    let setup = Setup::raw(
        "[model]\nmanifest = \"nowhere.toml\"\n[classes]\nlabels = [\"a\"]\n[[camera]]\nname = \"c\"\n[camera.v4l]\ndevice = \"/dev/null\"\n",
    );
    refused(&setup, 66, &["model.manifest", "nowhere.toml"]);
}

#[test]
fn values_out_of_range_are_named() {
    let cases = [
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
    for (rest, key, way_out) in cases {
        refused(&with(rest), 78, &[key, way_out]);
    }
}

#[test]
fn a_projection_of_another_encoder_is_refused_with_both_hashes() {
    let setup = with("");
    let text = std::fs::read_to_string(setup.config()).expect("configuration");
    let other = fixture("encoder/vision-dynamo.toml");
    let text = text.replace(
        &tiny_model().display().to_string(),
        &other.display().to_string(),
    );
    let projection = fixture("projection/tiny.safetensors");
    let text = text.replace(
        "[classes]",
        &format!("projection = \"{}\"\n[classes]", projection.display()),
    );
    std::fs::write(setup.config(), text).expect("configuration");
    let fp32 = Manifest::read(&tiny_model())
        .expect("manifest")
        .encoder
        .sha256
        .expect("hash");
    let dynamo = Manifest::read(&other)
        .expect("manifest")
        .encoder
        .sha256
        .expect("hash");
    refused(
        &setup,
        65,
        &[
            "tiny.safetensors",
            &fp32,
            &dynamo,
            "fit the projection again",
        ],
    );
}

fn with_model(manifest: &Path) -> Setup {
    let setup = with("");
    let text = std::fs::read_to_string(setup.config()).expect("configuration");
    let text = text.replace(
        &tiny_model().display().to_string(),
        &manifest.display().to_string(),
    );
    std::fs::write(setup.config(), text).expect("configuration");
    setup
}

#[test]
fn a_model_with_a_wrong_input_is_refused() {
    let setup = with_model(&fixture("encoder/wrong-shape.toml"));
    refused(
        &setup,
        65,
        &[
            "wrong-shape.onnx",
            "pixel_values",
            "an image tower needs [N, 3, H, W]",
        ],
    );
    let setup = with_model(&fixture("encoder/two-inputs.toml"));
    refused(
        &setup,
        65,
        &[
            "two-inputs.onnx",
            "pixel_values, input_ids",
            "export the vision part alone",
        ],
    );
}

/// The tiny model's manifest in a folder of its own, changed by `change`.
fn changed_model(change: impl Fn(&Path, String) -> String) -> Setup {
    let setup = with_model(Path::new("DIR"));
    let folder = setup.folder.path();
    for file in ["vision-fp32.onnx", "text-fp32.onnx", "tokenizer.json"] {
        std::fs::copy(fixture("encoder").join(file), folder.join(file)).expect("model");
    }
    let manifest = std::fs::read_to_string(tiny_model()).expect("manifest");
    std::fs::write(folder.join("model.toml"), change(folder, manifest)).expect("manifest");
    let text = std::fs::read_to_string(setup.config()).expect("configuration");
    std::fs::write(setup.config(), text.replace("\"DIR\"", "\"model.toml\""))
        .expect("configuration");
    setup
}

#[test]
fn manifests_that_are_wrong() {
    let replaced =
        |from: &'static str, to: &'static str| changed_model(move |_, text| text.replace(from, to));
    refused(
        &replaced("size = 32", "size = 48"),
        65,
        &["input.size", "vision-fp32.onnx"],
    );
    refused(
        &replaced("width = 48", "width = 64"),
        65,
        &["output.width", "[1, 48]"],
    );
    refused(
        &replaced("name = \"image_embeds\"", "name = \"features\""),
        65,
        &["output.name", "`features`", "image_embeds"],
    );
    refused(
        &replaced("name = \"pixel_values\"", "name = \"image\""),
        65,
        &["input.name", "`image`", "pixel_values"],
    );
    refused(
        &replaced("logit_scale = 100.0", "logit_scale = -1.0"),
        65,
        &["output.logit_scale"],
    );
    refused(
        &replaced("filter = \"bicubic\"", "filter = \"cubist\""),
        65,
        &["cubist", "`bicubic`"],
    );
    refused(
        &replaced("file = \"vision-fp32.onnx\"", "file = \"gone.onnx\""),
        66,
        &["gone.onnx"],
    );
    let no_text =
        changed_model(|_, text| text.split("[text]").next().unwrap_or_default().to_owned());
    refused(&no_text, 65, &["[text]", "--from-images"]);
}

#[test]
fn model_files_that_are_cut_short_or_changed() {
    let cut = |keep: usize| {
        changed_model(move |folder, manifest| {
            let path = folder.join("vision-fp32.onnx");
            let bytes = std::fs::read(&path).expect("model");
            std::fs::write(&path, &bytes[..bytes.len() * keep / 100]).expect("model");
            manifest
                .lines()
                .filter(|l| !l.starts_with("sha256"))
                .collect::<Vec<_>>()
                .join("\n")
        })
    };
    for percent in [0, 1, 50, 99] {
        refused(&cut(percent), 65, &["vision-fp32.onnx"]);
    }
    let changed = changed_model(|folder, manifest| {
        std::fs::write(folder.join("vision-fp32.onnx"), "other bytes").expect("model");
        manifest
    });
    refused(&changed, 65, &["sha256", "fetch the model again"]);
    let no_tokenizer = changed_model(|folder, manifest| {
        std::fs::write(folder.join("tokenizer.json"), "{}").expect("tokenizer");
        manifest
    });
    refused(&no_tokenizer, 65, &["tokenizer.json"]);
}

#[test]
fn class_banks_and_projections_that_are_damaged() {
    let write = |key: &str, bytes: &[u8]| {
        let setup = with("");
        let text = std::fs::read_to_string(setup.config()).expect("configuration");
        let text = match key {
            "bank" => text.replace(
                "labels = [\"a gear\", \"a bolt\"]",
                "bank = \"file.safetensors\"",
            ),
            _ => text.replace("[classes]", "projection = \"file.safetensors\"\n[classes]"),
        };
        std::fs::write(setup.config(), text).expect("configuration");
        std::fs::write(setup.path("file.safetensors"), bytes).expect("file");
        setup
    };
    let good = std::fs::read(fixture("projection/tiny.safetensors")).expect("projection");
    refused(
        &write("projection", &good[..good.len() - 10]),
        65,
        &["file.safetensors"],
    );
    refused(&write("projection", b""), 65, &["file.safetensors"]);
    refused(&write("projection", &[0xff; 64]), 65, &["file.safetensors"]);
    refused(
        &write("bank", &good),
        65,
        &["file.safetensors", "constancy-classes"],
    );
    let mut not_a_number = good.clone();
    let end = not_a_number.len();
    not_a_number[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    refused(
        &write("projection", &not_a_number),
        65,
        &["file.safetensors"],
    );
}

/// Every commented key of the reference configuration, made a real one where that gives a whole.
fn uncommented() -> String {
    let text = include_str!("../../config/constancy.toml");
    let is_key = |l: &str| l.starts_with('#') && !l.starts_with("# ") && l.len() > 1;
    let keep = |l: &&str| !l.starts_with("#bank");
    text.lines()
        .filter(keep)
        .map(|l| if is_key(l) { &l[1..] } else { l })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Parses a shipped configuration; files of the user's machine may be missing, nothing else may be wrong.
fn parses(name: &str, text: &str) {
    match Settings::parse(text, Path::new(name)) {
        Ok(_) | Err(ConfigError::Missing { .. }) => {}
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn shipped_configurations_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for entry in std::fs::read_dir(folder).expect("config") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        parses(
            &path.display().to_string(),
            &std::fs::read_to_string(&path).expect("configuration"),
        );
    }
    // The keys of TLS are refused without it.
    parses(
        "constancy.toml with every key",
        &uncommented().replace("mqtt://", "mqtts://"),
    );
}

#[test]
fn the_reference_configuration_shows_every_key() {
    let text = include_str!("../../config/constancy.toml");
    let tables = [
        "",
        "[model]",
        "[classes]",
        "[[camera]]",
        "[[camera]]\n[camera.v4l]",
        "[[camera]]\n[camera.pipe]",
        "[[camera]]\n[camera.replay]",
        "[[camera]]\n[camera.synthetic]",
        "[[camera]]\n[camera.publish]",
        "[[camera]]\n[camera.view]",
        "[mqtt]",
        "[queue]",
        "[homeassistant]",
        "[snapshots]",
    ];
    for table in tables {
        let Err(e) = Settings::parse(&format!("{table}\nno_such_key = 1\n"), Path::new("probe"))
        else {
            panic!("{table} takes an unknown key");
        };
        let message = e.to_string();
        let (_, keys) = message
            .split_once("expected")
            .unwrap_or_else(|| panic!("no list of keys: {message}"));
        let keys: Vec<&str> = keys
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|k| !k.contains('.'))
            .collect();
        assert!(keys.len() >= 2, "{message}");
        for key in keys {
            let shown = |l: &str| {
                let l = l.trim_start_matches('#');
                l.starts_with(&format!("{key} ="))
                    || l.contains(&format!("[{key}]"))
                    || l.contains(&format!(".{key}]"))
            };
            assert!(
                text.lines().any(shown),
                "{table} `{key}` is not in config/constancy.toml"
            );
        }
    }
}

#[test]
fn shipped_manifests_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let paths = std::fs::read_dir(folder)
        .expect("models")
        .map(|e| e.expect("entry").path());
    let manifests: Vec<_> = paths
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    assert!(manifests.len() >= 4);
    for path in manifests {
        let manifest = Manifest::read(&path).expect("a good manifest");
        assert!(
            manifest.encoder.licence.is_some() && manifest.encoder.source.is_some(),
            "{}",
            path.display()
        );
    }
}
