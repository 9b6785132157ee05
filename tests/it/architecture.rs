//! The rules of the architecture that the compiler cannot enforce, checked on the parsed sources.
//!
//! The crates enforce most of it: `core` cannot name tract, and the engine cannot name a camera.
//! This test enforces the rest: the order of the program's modules, the one place of each edge
//! crate, the purity of `core`, and that no files import each other in a circle.
//! `cargo test --test it architecture -- --nocapture` prints the figures of the sources, or those
//! of another checkout that `CONSTANCY_SOURCES` names.

mod figures;
mod rules;
mod source;

use figures::{Figures, circles};
use source::{Source, read};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CRATES: [&str; 4] = [
    "src",
    "crates/core/src",
    "crates/engine/src",
    "crates/kernels/src",
];

/// The crates of a checkout by name, with their sources; one from before the workspace has `src` and `kernels` alone.
fn crates() -> Vec<(String, BTreeMap<String, Source>)> {
    let root = std::env::var_os("CONSTANCY_SOURCES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let folders = CRATES.iter().chain(&["kernels/src"]);
    let there = folders.filter(|f| root.join(f).is_dir());
    there
        .map(|f| (f.trim_end_matches("/src").to_owned(), read(&root.join(f))))
        .collect()
}

fn sources(folder: &str) -> BTreeMap<String, Source> {
    let sources = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    assert!(
        sources.len() > 20,
        "{folder} has only {} sources",
        sources.len()
    );
    sources
}

/// Sources as if they were the program's, next to a `lib.rs` that declares every module if `files` has none.
fn planted(files: &[(&str, &str)]) -> BTreeMap<String, Source> {
    let lib: String = rules::ORDER.iter().map(|m| format!("mod {m};\n")).collect();
    let all = std::iter::once(("lib.rs", lib.as_str())).chain(files.iter().copied());
    all.map(|(path, text)| (path.to_owned(), Source::parse(path, text)))
        .collect()
}

#[test]
fn modules_of_the_program_keep_their_order_and_edges_their_place() {
    assert_eq!(rules::in_program(&sources("src")), Vec::<String>::new());
}

#[test]
fn files_that_somebody_named_are_opened_in_one_place() {
    for folder in ["src", "crates/engine/src"] {
        assert_eq!(
            rules::opened_blindly(&sources(folder)),
            Vec::<String>::new()
        );
    }
}

#[test]
fn core_is_pure() {
    assert_eq!(
        rules::in_pure_crate(&sources("crates/core/src")),
        Vec::<String>::new()
    );
}

#[test]
fn crates_depend_on_what_is_below_them() {
    let manifest = |folder: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(folder)
            .join("Cargo.toml");
        let text = std::fs::read_to_string(path).expect("Cargo.toml");
        let table: toml::Table = text.parse().expect("TOML");
        let names = table["dependencies"]
            .as_table()
            .expect("dependencies")
            .keys()
            .cloned();
        names.collect::<Vec<_>>()
    };
    let kernels = manifest("crates/kernels");
    assert_eq!(kernels, ["log"], "kernels compute and nothing else");
    let outside = [
        "clap",
        "constancy",
        "env_logger",
        "jiff",
        "redb",
        "rumqttc",
        "rustls",
        "sd-notify",
        "v4l",
    ];
    for (folder, own) in [
        (
            "crates/core",
            &[
                "constancy-engine",
                "constancy-kernels",
                "libc",
                "log",
                "tract-core",
                "tract-onnx",
            ][..],
        ),
        ("crates/engine", &[]),
    ] {
        let named = manifest(folder);
        let wrong = named
            .iter()
            .filter(|d| outside.iter().chain(own).any(|o| o == d));
        assert_eq!(
            wrong.collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "{folder} depends on them"
        );
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for folder in CRATES {
        assert_eq!(circles(&sources(folder)), Vec::<Vec<String>>::new());
    }
}

#[test]
fn files_stay_of_a_size_that_one_can_read() {
    for folder in CRATES {
        for (path, source) in sources(folder) {
            assert!(
                source.lines <= 450,
                "{folder}/{path} has {} lines: two owners inside",
                source.lines
            );
        }
    }
}

#[test]
fn figures_of_the_sources() {
    for (name, sources) in crates() {
        let f = Figures::of(&sources);
        println!(
            "{name}: {} files, {} functions; lines per function: median {}, 90th percentile {}, longest {} ({})",
            sources.len(),
            f.functions,
            f.median,
            f.ninetieth,
            f.longest.0,
            f.longest.1
        );
        let long: Vec<String> = f
            .long_files
            .iter()
            .map(|(lines, path)| format!("{path} {lines}"))
            .collect();
        println!(
            "  files over 400 lines: {}: {}",
            long.len(),
            long.join(", ")
        );
        let circles = circles(&sources);
        println!("  circles of imports: {}", circles.len());
        for circle in circles {
            println!("    {}", circle.join(", "));
        }
    }
}

/// Each hole that an earlier form of this test had, and each rule, with a violation planted in it.
#[test]
fn planted_violations_are_found() {
    let program: [(&str, &str, &str); 7] = [
        // A `#[cfg(test)]` item ended the reading of a file.
        (
            "publish/queue/mod.rs",
            "#[cfg(test)] use crate::threads;\nfn f() { crate::daemon::run() }",
            "publish/queue/mod.rs uses crate::daemon",
        ),
        // Code after a nested brace was not seen.
        (
            "config.rs",
            "use crate::{clock::{now, at}, cli::Cli};",
            "config.rs uses crate::cli",
        ),
        // Only `crate::` was followed.
        (
            "capture/v4l/device.rs",
            "use super::super::super::daemon;",
            "capture/v4l/device.rs uses crate::daemon",
        ),
        // An alias hides what it stands for.
        (
            "daemon/slot.rs",
            "use rumqttc as bus;\nfn f(c: bus::Client) {}",
            "daemon/slot.rs uses rumqttc",
        ),
        // A macro's arguments are not parsed.
        (
            "cli/run.rs",
            "fn f() { write!(w, \"{}\", redb::VERSION) }",
            "cli/run.rs uses redb",
        ),
        // A re-export is a use.
        (
            "recognizer.rs",
            "pub use crate::publish::Event;",
            "recognizer.rs uses crate::publish",
        ),
        (
            "capture/mod.rs",
            "use sd_notify::notify;",
            "capture/mod.rs uses sd_notify",
        ),
    ];
    for (path, text, expected) in program {
        assert_eq!(
            rules::in_program(&planted(&[(path, text)])),
            [expected],
            "{text}"
        );
    }
    let pure: [(&str, &str); 6] = [
        // A group of imports hides the one that is impure.
        (
            "use std::time::{Duration, Instant};",
            "a.rs uses std::time::Instant",
        ),
        ("use std::{cmp::Ordering, fs};", "a.rs uses std::fs"),
        (
            "use std::time;\nfn f() { time::SystemTime::now(); }",
            "a.rs uses std::time::SystemTime",
        ),
        ("use std::time::*;", "a.rs uses std::time::*"),
        ("fn f() { vec![std::env::args()]; }", "a.rs uses std::env"),
        (
            "fn f() { if true { println!(\"x\") } }",
            "a.rs calls println!",
        ),
    ];
    for (text, expected) in pure {
        assert_eq!(
            rules::in_pure_crate(&planted(&[("a.rs", text)])),
            [expected],
            "{text}"
        );
    }
    for blind in ["std::fs::read(p)", "std::fs::File::open(p)"] {
        let text = format!("fn f() {{ {blind} }}");
        let found = rules::opened_blindly(&planted(&[("cli/fit.rs", &text)]));
        assert_eq!(found.len(), 1, "{text}");
    }
    let with_web = planted(&[("lib.rs", "mod web;")]);
    assert!(
        rules::in_program(&with_web)
            .contains(&"lib.rs: module web has no place in the order".to_owned())
    );
}

#[test]
fn tests_are_not_judged_and_circles_are_found() {
    let fine = "#[cfg(test)]\nmod tests { use crate::daemon::run; fn f() { std::fs::read(\"x\"); } }\nfn f() {}";
    assert_eq!(
        rules::in_program(&planted(&[("config.rs", fine)])),
        Vec::<String>::new()
    );
    assert_eq!(
        rules::in_pure_crate(&planted(&[("config.rs", fine)])),
        Vec::<String>::new()
    );
    // Through a re-export of the parent.
    let circle = planted(&[
        ("publish/mod.rs", "mod a;\nmod b;\npub use a::A;"),
        ("publish/a.rs", "use super::b::B;\npub struct A(B);"),
        ("publish/b.rs", "use super::A;\npub struct B(Option<A>);"),
        ("clock.rs", "use crate::publish::A;"),
    ]);
    assert_eq!(circles(&circle), [["publish/a.rs", "publish/b.rs"]]);
}
