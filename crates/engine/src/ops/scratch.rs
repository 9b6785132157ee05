//! Memory that operators use for the time of one call, kept per thread from call to call.

use constancy_kernels::Bytes;
use std::cell::Cell;

thread_local! {
    static FLOATS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static BYTES: Cell<Option<Bytes>> = const { Cell::new(None) };
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

/// Lends `len` bytes of this thread, from a cache line on: rows that begin anywhere else cost products in tiles a tenth.
pub(super) fn with_bytes<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut bytes = BYTES
        .take()
        .filter(|bytes| bytes.size() >= len)
        .unwrap_or_else(|| Bytes::zeroed(len));
    let result = work(&mut bytes.as_mut_slice()[..len]);
    BYTES.set(Some(bytes));
    result
}
