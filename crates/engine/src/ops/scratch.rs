//! Scratch memory of operators, reused from call to call by each thread.

use constancy_kernels::AlignedBytes;
use std::cell::Cell;

thread_local! {
    /// As many as calls were ever nested.
    static FLOATS: Cell<Vec<Vec<f32>>> = const { Cell::new(Vec::new()) };
    static BYTES: Cell<Option<AlignedBytes>> = const { Cell::new(None) };
}

/// Lends `len` f32 values of this thread; they hold arbitrary values of earlier calls.
pub(super) fn with_floats<T>(len: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    let mut free = FLOATS.take();
    let mut floats = free.pop().unwrap_or_default();
    FLOATS.set(free);
    if floats.len() < len {
        floats.resize(len, 0.0);
    }
    let result = work(&mut floats[..len]);
    let mut free = FLOATS.take();
    free.push(floats);
    FLOATS.set(free);
    result
}

/// Lends `len` bytes of this thread, aligned to a cache line: without that, products in tiles are a
/// tenth slower.
pub(super) fn with_bytes<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut bytes = BYTES
        .take()
        .filter(|bytes| bytes.size() >= len)
        .unwrap_or_else(|| AlignedBytes::zeroed(len));
    let result = work(&mut bytes.as_mut_slice()[..len]);
    BYTES.set(Some(bytes));
    result
}
