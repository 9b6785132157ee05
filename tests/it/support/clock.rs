//! A wall clock that a test moves.

use super::Setup;
use super::skip::{InCi, skip};
use std::path::{Path, PathBuf};

/// libfaketime, which moves the wall clock of one process.
pub fn libfaketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.map_while(Result::ok);
    let found = folders
        .map(|f| f.path().join("faketime/libfaketimeMT.so.1"))
        .find(|f| f.exists());
    if found.is_none() {
        skip(
            InCi::Required,
            "libfaketime is not installed; run tools/setup.sh",
        );
    }
    found
}

/// Makes the daemon read its wall clock's offset from the file `clock` of its folder, such as `+3d`. Its monotonic clock
/// stays.
pub fn with_fake_clock(setup: Setup, library: &Path) -> Setup {
    let clock = setup.path("clock");
    setup
        .env("LD_PRELOAD", library.to_string_lossy())
        .env("FAKETIME_TIMESTAMP_FILE", clock.to_string_lossy())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
}
