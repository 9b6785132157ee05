//! The rhythm of sources that are not cameras.

use std::time::{Duration, Instant};

/// When the next frame is due.
pub(super) struct Pace {
    /// Frames per second; without it a frame is always due.
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

    /// Waits until a frame is due, `limit` at most; whether it is.
    pub(super) fn wait(&mut self, limit: Duration) -> bool {
        let Some(rate) = self.rate else { return true };
        let left = self.due.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(limit));
        if left > limit {
            return false;
        }
        // After a pause the frames that were missed are not made up for.
        let behind = self.due.elapsed() > Duration::from_secs(1);
        let from = if behind { Instant::now() } else { self.due };
        self.due = from + Duration::from_secs_f64(1.0 / rate);
        true
    }
}
