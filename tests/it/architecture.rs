//! The import rules of the source tree, read from the sources.

use std::collections::BTreeMap;
use std::path::Path;

/// Modules without files, clocks, threads or logs; they import only each other.
const PURE: [&str; 7] = [
    "frame",
    "preprocess",
    "icm",
    "classify",
    "tensor_file",
    "stats",
    "workshop",
];

/// Crates that belong to one place.
const EDGES: [(&str, &[&str]); 7] = [
    ("tract_onnx", &["engine/"]),
    ("tract_core", &["engine/"]),
    ("v4l", &["capture/v4l"]),
    ("rumqttc", &["publish/mqtt.rs", "publish/mqtt/"]),
    ("rustls", &["publish/tls.rs"]),
    ("redb", &["publish/queue/"]),
    ("sd_notify", &["daemon/service.rs"]),
];

/// What pure code must not touch.
const IMPURE: [&str; 8] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::env",
    "log::",
];

/// Source files by their path under `src`, without their tests.
fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).expect("src") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path
                    .strip_prefix(root)
                    .expect("under src")
                    .to_string_lossy()
                    .into_owned();
                let text = std::fs::read_to_string(&path).expect("source");
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
                found.insert(name, lines.collect::<Vec<_>>().join("\n"));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 30, "the sources are where they are expected");
    found
}

/// The module that a file belongs to.
fn module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or_default()
}

/// The crate's own modules that a source names by `crate::`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in code.split("crate::").skip(1) {
        let list = part.strip_prefix('{').and_then(|p| p.split('}').next());
        let names: Vec<&str> = list.map_or_else(|| vec![part], |l| l.split(',').collect());
        let name = |n: &str| {
            n.trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect::<String>()
        };
        found.extend(names.into_iter().map(name).filter(|n| !n.is_empty()));
    }
    found
}

fn names_crate(code: &str, name: &str) -> bool {
    let own = |at: usize| {
        code[..at]
            .chars()
            .next_back()
            .is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':'))
    };
    code.match_indices(&format!("{name}::"))
        .any(|(at, _)| own(at))
}

#[test]
fn pure_modules_import_only_pure_ones_and_touch_nothing() {
    for (file, code) in sources().iter().filter(|(f, _)| PURE.contains(&module(f))) {
        for import in imports(code) {
            assert!(
                PURE.contains(&import.as_str()),
                "{file} is pure and imports crate::{import}"
            );
        }
        for impure in IMPURE {
            assert!(!code.contains(impure), "{file} is pure and uses {impure}");
        }
    }
}

#[test]
fn each_edge_has_one_place() {
    for (file, code) in &sources() {
        for (name, places) in EDGES {
            // Our own module of that name is meant.
            let own = name == "v4l"
                && (code.contains("crate::capture::v4l") || code.contains("mod v4l;"));
            let allowed = own || places.iter().any(|p| file.starts_with(p));
            assert!(
                allowed || !names_crate(code, name),
                "{file} uses {name}, which belongs to {places:?}"
            );
        }
    }
}

#[test]
fn only_main_sees_the_command_line() {
    for (file, code) in sources()
        .iter()
        .filter(|(f, _)| !["cli", "main", "lib"].contains(&module(f)))
    {
        let imports = imports(code);
        assert!(
            !imports.iter().any(|i| i == "cli"),
            "{file} imports crate::cli"
        );
        let sees_daemon = imports.iter().any(|i| i == "daemon");
        assert!(
            !sees_daemon || module(file) == "daemon",
            "{file} imports crate::daemon"
        );
    }
}

#[test]
fn the_rules_would_notice() {
    assert_eq!(
        imports("use crate::{engine, frame::Frame};\nlet x = crate::capture::open();"),
        ["engine", "frame", "capture"]
    );
    assert!(names_crate("use rumqttc::Client;", "rumqttc"));
    assert!(names_crate("fn f(c: v4l::Device)", "v4l"));
    assert!(
        !names_crate("super::v4l::open()", "v4l"),
        "our own module of that name is meant"
    );
    assert!(!names_crate("my_v4l::open()", "v4l"));
}

#[test]
fn files_stay_of_a_size_that_one_can_read() {
    for (file, code) in &sources() {
        let lines = code.lines().count();
        assert!(
            lines <= 420,
            "{file} has {lines} lines; it has two owners inside"
        );
    }
}
