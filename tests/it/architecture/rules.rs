//! What a source may name: the order of the program's modules, the places of edge crates, and the purity of `core`.

use super::source::{Name, Source};
use std::collections::BTreeMap;

/// The program's modules; each may use those before it and no other.
pub(super) const ORDER: [&str; 11] = [
    "text",
    "threads",
    "clock",
    "files",
    "config",
    "capture",
    "recognizer",
    "embedding_cache",
    "publish",
    "daemon",
    "cli",
];

/// Crates that one place in the program owns.
const EDGES: [(&str, &[&str]); 9] = [
    ("v4l", &["capture/v4l.rs", "capture/v4l/"]),
    ("rumqttc", &["publish/mqtt.rs", "publish/mqtt/"]),
    ("rustls", &["publish/tls.rs"]),
    ("redb", &["publish/queue/"]),
    ("prost", &["publish/sparkplug/"]),
    ("sd_notify", &["daemon/service.rs"]),
    (
        "signal_hook",
        &["daemon/service.rs", "capture/pipe/guard.rs", "cli/"],
    ),
    ("clap", &["cli/", "main.rs"]),
    ("indicatif", &["cli/"]),
];

/// What opens a file for reading without looking at what it is. `regular_file` opens what somebody named.
const OPENING: [&[&str]; 4] = [
    &["std", "fs", "File", "open"],
    &["std", "fs", "File", "options"],
    &["std", "fs", "read"],
    &["std", "fs", "read_to_string"],
];

/// Where it is allowed: files of the kernel, and files and folders of our own.
const OPENING_PLACES: [&str; 12] = [
    // Where everybody else goes to.
    "regular_file.rs",
    // /proc and /sys.
    "cores.rs",
    "config/settings.rs",
    "daemon/pipeline.rs",
    "capture/pipe/guard.rs",
    "publish/queue/record.rs",
    "cli/bench.rs",
    "capture/v4l/",
    // /etc/machine-id, /proc and /sys.
    "publish/mqtt/hardware.rs",
    // A folder, to sync it; the log of the demo's own daemon.
    "publish/queue/folder.rs",
    "publish/state_file.rs",
    "cli/demo/processes.rs",
];

/// What pure code must not name.
const IMPURE: [&[&str]; 9] = [
    &["std", "env"],
    &["std", "fs"],
    &["std", "net"],
    &["std", "os"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["log"],
];

/// Imports that hide whether something impure is among them.
const ALL: [&[&str]; 2] = [&["std", "*"], &["std", "time", "*"]];

/// Macros that write to the terminal.
const PRINTING: [&str; 5] = ["dbg", "eprint", "eprintln", "print", "println"];

fn begins_with(name: &Name, prefix: &[&str]) -> bool {
    name.len() >= prefix.len() && name.iter().zip(prefix).all(|(a, b)| a == b)
}

/// Where sources of the program break its rules.
pub(super) fn in_program(sources: &BTreeMap<String, Source>) -> Vec<String> {
    let mut found = Vec::new();
    let root = sources
        .get("lib.rs")
        .map(|s| s.children.clone())
        .unwrap_or_default();
    let unordered = root.iter().filter(|m| !ORDER.contains(&m.as_str()));
    found.extend(unordered.map(|m| format!("lib.rs: module {m} has no place in the order")));
    let absent = ORDER.iter().filter(|m| !root.contains(**m));
    found.extend(absent.map(|m| format!("lib.rs: there is no module {m}")));
    for (path, source) in sources {
        for name in source.names.iter().chain(&source.exported) {
            found.extend(out_of_order(source, name).map(|to| format!("{path} uses crate::{to}")));
            found.extend(out_of_place(path, name).map(|name| format!("{path} uses {name}")));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Where files are opened without looking at what they are.
pub(super) fn opened_blindly(sources: &BTreeMap<String, Source>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, source) in sources {
        if OPENING_PLACES.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        for name in &source.names {
            let opening = OPENING.iter().find(|prefix| begins_with(name, prefix));
            found.extend(opening.map(|prefix| format!("{path} calls {}", prefix.join("::"))));
        }
    }
    found
}

/// The module that comes later in the order than the one that names it.
fn out_of_order<'n>(source: &Source, name: &'n Name) -> Option<&'n str> {
    let place = |module: &str| ORDER.iter().position(|m| *m == module);
    let (own, other) = (place(source.module.first()?)?, name.get(1)?);
    (name[0] == "crate" && place(other)? > own).then_some(other)
}

/// The edge crate that belongs elsewhere.
fn out_of_place<'n>(path: &str, name: &'n Name) -> Option<&'n str> {
    let (_, places) = EDGES.iter().find(|(edge, _)| name[0] == *edge)?;
    let elsewhere = !places.iter().any(|p| path.starts_with(p));
    elsewhere.then_some(name[0].as_str())
}

/// Where sources of a pure crate touch the world.
pub(super) fn in_pure_crate(sources: &BTreeMap<String, Source>) -> Vec<String> {
    let mut found = Vec::new();
    for (file, source) in sources {
        for name in source.names.iter().chain(&source.exported) {
            let impure = IMPURE.iter().find(|prefix| begins_with(name, prefix));
            found.extend(impure.map(|prefix| format!("{file} uses {}", prefix.join("::"))));
            let all = ALL.iter().find(|path| name.iter().eq(path.iter()));
            found.extend(all.map(|path| format!("{file} uses {}", path.join("::"))));
        }
        let printing = PRINTING.iter().filter(|m| source.macros.contains(**m));
        found.extend(printing.map(|m| format!("{file} calls {m}!")));
    }
    found.sort();
    found.dedup();
    found
}
