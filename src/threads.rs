//! Waiting for threads with a time limit, and the heap that they share.

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

/// Makes all threads allocate from one heap. By default each new thread may get a heap of its own, which stays as large as it
/// ever was: a daemon that loads a model on a thread at each reload took 12 MB more after eight of them. A frame takes few
/// allocations, so the threads hardly wait for each other.
pub(crate) fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt may be called at any time, and takes no pointers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
