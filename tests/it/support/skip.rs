//! Skipping a test that this machine cannot run.
//!
//! A test asks for what it needs first, and returns if that is missing:
//!
//! ```ignore
//! let Some(python) = judges_python() else { return };
//! ```
//!
//! The skip is printed as `SKIPPED TEST: REASON` even though the test passes. In CI, which sets `CI`, it is a failure
//! if the missing thing is [`InCi::Required`]. `skips.rs` tests it.

use std::io::Write;
use std::path::PathBuf;

/// Whether CI is expected to have what a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InCi {
    Required,
    Optional,
}

/// Reports that the calling test is skipped; panics in CI if the missing thing is required there.
pub fn skip(in_ci: InCi, reason: &str) {
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(
        !ci || in_ci == InCi::Optional,
        "CI must not skip this test: {reason}"
    );
    let thread = std::thread::current();
    // libtest names the thread after the test. It captures `println!` and `eprintln!`, but not writes to the handle.
    let test = thread.name().unwrap_or("a test");
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {reason}\n").as_bytes());
}

/// The existing file that an environment variable names. A variable that names a missing file is a mistake, which CI
/// does not tolerate; `unset` says whether CI must set the variable.
pub fn file_in_env(variable: &str, content: &str, unset: InCi) -> Option<PathBuf> {
    let Some(path) = std::env::var_os(variable).map(PathBuf::from) else {
        skip(unset, &format!("{variable} is not set; it names {content}"));
        return None;
    };
    if path.exists() {
        return Some(path);
    }
    let reason = format!(
        "{variable} names {}, which does not exist; it should name {content}",
        path.display()
    );
    skip(InCi::Required, &reason);
    None
}

/// A file or folder of the test data, which is not part of the repository. A machine may lack the whole data set, but
/// not a part of it.
pub fn test_data(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("CONSTANCY_TEST_DATA")
        .map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let file = root.join(path);
    if file.exists() {
        return Some(file);
    }
    let (in_ci, missing) = if root.is_dir() {
        (InCi::Required, &file)
    } else {
        (InCi::Optional, &root)
    };
    let reason = format!(
        "{} does not exist; CONSTANCY_TEST_DATA names the folder of test data",
        missing.display()
    );
    skip(in_ci, &reason);
    None
}

/// The Python interpreter with the packages that check published messages.
pub fn judges_python() -> Option<PathBuf> {
    file_in_env(
        "CONSTANCY_TEST_JUDGES",
        "a Python with pysparkplug and jinja2; `make test` makes one",
        InCi::Required,
    )
}
