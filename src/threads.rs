//! Waiting for threads with a time limit, and catching panics.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Waits until the threads have ended or the deadline has passed: a thread may be blocked by a driver, a disk or the
/// network.
pub(crate) fn wait_for_end<T>(threads: &[JoinHandle<T>], deadline: Instant) {
    // `join` has no deadline.
    while threads.iter().any(|t| !t.is_finished()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, and turns a panic into its message. Whoever calls this reports the message; what `work` borrowed may be
/// half changed.
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
    result.map_err(|panic| panic_message(&*panic).to_owned())
}

/// Whether this thread's panics are caught by [`catch_panic`], and so are reported by its caller.
pub(crate) fn is_catching_panics() -> bool {
    CATCHING.get()
}

/// The message that a panic carries.
pub(crate) fn panic_message(panic: &dyn Any) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        let divisor = std::hint::black_box(0);
        assert_eq!(catch_panic(|| 6 / 2), Ok(3));
        let caught = catch_panic(|| 6 / divisor);
        assert_eq!(caught, Err("attempt to divide by zero".to_owned()));
        let nested = catch_panic(|| {
            assert!(is_catching_panics());
            let inner = catch_panic(|| std::panic::panic_any(7));
            assert!(is_catching_panics(), "the outer one still catches");
            inner
        });
        assert_eq!(nested, Ok(Err("it panicked without a message".to_owned())));
        assert!(!is_catching_panics());
    }
}
