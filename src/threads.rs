//! Leaving in time whatever threads do.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Waits until the threads have ended, or until the deadline: one may be inside a driver, a disk or the network.
pub(crate) fn wait_for_end<T>(threads: &[JoinHandle<T>], deadline: Instant) {
    // Joining knows no deadline.
    while threads.iter().any(|t| !t.is_finished()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}
