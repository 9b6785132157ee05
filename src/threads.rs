//! Waiting for threads with a time limit.

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
