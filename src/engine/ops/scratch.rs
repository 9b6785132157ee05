//! Memory that operators use for the time of one call, kept per thread from call to call.

use std::cell::Cell;

thread_local! {
    static FLOATS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends `len` f32 values of this thread; what they hold is of earlier calls.
pub(super) fn with_floats<T>(len: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    let mut floats = FLOATS.take();
    if floats.len() < len {
        floats.resize(len, 0.0);
    }
    let result = work(&mut floats[..len]);
    FLOATS.set(floats);
    result
}

/// Lends `len` bytes of this thread.
pub(super) fn with_bytes<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut bytes = BYTES.take();
    if bytes.len() < len {
        bytes.resize(len, 0);
    }
    let result = work(&mut bytes[..len]);
    BYTES.set(bytes);
    result
}
