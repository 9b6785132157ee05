//! libFuzzer's interface: it calls the chosen target with each input, and takes an abort for a finding.

use super::targets::TARGETS;
use std::ffi::{c_char, c_int};
use std::panic::catch_unwind;
use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

/// Called once by libFuzzer before the first input.
// SAFETY: no other symbol has this name; libFuzzer asks for it.
#[unsafe(export_name = "LLVMFuzzerInitialize")]
extern "C" fn initialize(_: *const c_int, _: *const *const *const c_char) -> c_int {
    let name = std::env::var("CONSTANCY_FUZZ").unwrap_or_default();
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let Some((_, target)) = found else {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        eprintln!("CONSTANCY_FUZZ is `{name}`, expected {}", names.join(", "));
        std::process::exit(64);
    };
    TARGET.get_or_init(|| *target);
    0
}

/// Called by libFuzzer with each input.
// SAFETY: no other symbol has this name; libFuzzer asks for it.
#[unsafe(export_name = "LLVMFuzzerTestOneInput")]
extern "C" fn test_one_input(data: *const u8, len: usize) -> c_int {
    let input = if len == 0 {
        &[]
    } else {
        // SAFETY: libFuzzer passes `len` bytes that live as long as the call.
        unsafe { std::slice::from_raw_parts(data, len) }
    };
    // A panic that the code itself catches is none; one that comes this far would end the daemon.
    if let Some(target) = TARGET.get()
        && catch_unwind(|| target(input)).is_err()
    {
        std::process::abort();
    }
    0
}
