//! The configurations and manifests that the project ships.

use constancy::config::{ConfigError, Settings};
use constancy_engine::Manifest;
use std::path::Path;

/// The reference configuration with every commented key in force, except those that exclude others.
fn uncommented() -> String {
    let text = include_str!("../../../config/constancy.toml");
    let is_key = |l: &str| l.starts_with('#') && !l.starts_with("# ") && l.len() > 1;
    let excluded = ["#bank", "#threshold =", "#max_false_accept", "#cost"];
    let keep = |l: &&str| !excluded.iter().any(|key| l.starts_with(key));
    text.lines()
        .filter(keep)
        .map(|l| if is_key(l) { &l[1..] } else { l })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Parses a shipped configuration, which must be valid. Files that it names may be missing.
fn assert_parses(name: &str, text: &str) {
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
        assert_parses(
            &path.display().to_string(),
            &std::fs::read_to_string(&path).expect("configuration"),
        );
    }
    // TLS keys are refused without TLS.
    assert_parses(
        "constancy.toml with every key",
        &uncommented().replace("mqtt://", "mqtts://"),
    );
}

/// The tables whose keys the reference configuration must show.
const TABLES: [&str; 15] = [
    "",
    "[model]",
    "[classes]",
    "[[camera]]",
    "[[camera]]\n[camera.v4l]",
    "[[camera]]\n[camera.pipe]",
    "[[camera]]\n[camera.replay]",
    "[[camera]]\n[camera.synthetic]",
    "[[camera]]\n[camera.synthetic.controls]",
    "[[camera]]\n[camera.publish]",
    "[[camera]]\n[camera.view]",
    "[mqtt]",
    "[queue]",
    "[homeassistant]",
    "[snapshots]",
];

/// A table's keys, taken from the message about an unknown one.
fn keys(table: &str) -> Vec<String> {
    let text = format!("{table}\nno_such_key = 1\n");
    let Err(e) = Settings::parse(&text, Path::new("probe")) else {
        panic!("{table} accepts an unknown key");
    };
    let message = e.to_string();
    let (_, expected) = message
        .split_once("expected")
        .unwrap_or_else(|| panic!("no list of keys: {message}"));
    let quoted = expected.split('`').skip(1).step_by(2);
    let keys: Vec<String> = quoted
        .filter(|k| !k.contains('.'))
        .map(str::to_owned)
        .collect();
    assert!(keys.len() >= 2, "{message}");
    keys
}

#[test]
fn the_reference_configuration_shows_every_key() {
    let text = include_str!("../../../config/constancy.toml");
    for table in TABLES {
        for key in keys(table) {
            let shows = |line: &str| {
                let line = line.trim_start_matches('#');
                line.starts_with(&format!("{key} ="))
                    || line.contains(&format!("[{key}]"))
                    || line.contains(&format!(".{key}]"))
            };
            assert!(
                text.lines().any(shows),
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
