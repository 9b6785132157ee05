//! The frame rate of sources that are not cameras.

use std::time::{Duration, Instant};

/// Decides when the next frame is due.
pub(super) struct Pace {
    /// Frames per second; if `None`, a frame is always due.
    rate: Option<f64>,
    due: Instant,
}

impl Pace {
    pub(super) fn new(rate: Option<f64>) -> Self {
        Self {
            rate,
            due: Instant::now(),
        }
    }

    /// Waits up to `timeout` for a frame to be due, and returns whether it is.
    pub(super) fn wait(&mut self, timeout: Duration) -> bool {
        let Some(rate) = self.rate else { return true };
        let left = self.due.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(timeout));
        if left > timeout {
            return false;
        }
        // Frames missed during a pause are not made up for.
        let behind = self.due.elapsed() > Duration::from_secs(1);
        let from = if behind { Instant::now() } else { self.due };
        self.due = from + Duration::from_secs_f64(1.0 / rate);
        true
    }
}
