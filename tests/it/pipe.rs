//! Child processes as cameras: what they send instead of frames, what they write to stderr, and how they end.

mod children;
mod streams;

use super::support::Setup;
use std::path::{Path, PathBuf};

/// A stream of `tests/fixtures/cameras/streams`.
fn stream(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/cameras/streams")
        .join(name)
}

/// A `[[camera]]` whose child process runs a line of shell in the configuration's folder.
fn camera(name: &str, format: &str, stall_s: f64, script: &str) -> String {
    format!(
        "[[camera]]\nname = \"{name}\"\nstall_s = {stall_s}\n[camera.pipe]\nformat = \"{format}\"\n\
         command = [\"sh\", \"-c\", '''cd DIR; {script}''']\n"
    )
}

fn setup(format: &str, stall_s: f64, script: &str) -> Setup {
    Setup::new(&camera("gate", format, stall_s, script))
}
