//! `constancy-core` against golden numbers from Python, and against worlds whose causes are known.

#![allow(unreachable_pub, reason = "a test program has no outside")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "test images are small"
)]
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failing test panics"
)]

mod cameras;
mod condition;
mod confidence;
mod formats;
mod icm;
mod interventions;
mod preprocess;
mod reliability;

use std::path::{Path, PathBuf};

/// A file of `tests/fixtures`.
fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(path)
}
