//! How long a camera has given no frame that could be decoded.
//!
//! A frame is fresh when it has been decoded, not when its bytes arrive. Time in which a frame waits for the model is the
//! model's, not the camera's: the clock stands still, so that no slow model makes a camera look dead.

use std::time::{Duration, Instant};

/// One camera's clock.
#[derive(Debug)]
pub(super) struct Freshness {
    /// Time without a decoded frame before `running_since`.
    stale: Duration,
    /// `None` while a frame waits for its result.
    running_since: Option<Instant>,
    /// When the first of the latest frames was captured, all of which failed; nanoseconds of `CLOCK_MONOTONIC`.
    failing_since_ns: Option<u64>,
    /// Why the last of them failed.
    reason: Option<String>,
    /// A frame was decoded since [`Self::take`].
    has_decoded: bool,
}

/// What the capture thread must know.
#[derive(Debug, PartialEq)]
pub(super) struct Staleness {
    /// Time without a decoded frame.
    pub(super) stale: Duration,
    /// Why the last frame could not be decoded, if one came.
    pub(super) reason: Option<String>,
    /// A frame was decoded since the last time that this was asked.
    pub(super) has_decoded: bool,
}

impl Freshness {
    /// Starts when the source is opened.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            stale: Duration::ZERO,
            running_since: Some(now),
            failing_since_ns: None,
            reason: None,
            has_decoded: false,
        }
    }

    /// A frame arrived and waits for its result.
    pub(super) fn arrived(&mut self, now: Instant) {
        if let Some(since) = self.running_since.take() {
            self.stale += now.saturating_duration_since(since);
        }
    }

    /// The source skipped a frame for this reason.
    pub(super) fn skipped(&mut self, reason: &str) {
        self.reason = Some(reason.to_owned());
    }

    /// A frame captured at `captured_ns` was decoded, or was not for a reason. `waits`: another one waits already.
    pub(super) fn settled(
        &mut self,
        captured_ns: u64,
        result: Result<(), String>,
        waits: bool,
        now: Instant,
    ) {
        match result {
            Ok(()) => {
                self.stale = Duration::ZERO;
                (self.failing_since_ns, self.reason) = (None, None);
                self.has_decoded = true;
            }
            Err(reason) => {
                // Between two frames that failed in a row none was decoded, even if one waited all the time.
                let first = *self.failing_since_ns.get_or_insert(captured_ns);
                let failing = Duration::from_nanos(captured_ns.saturating_sub(first));
                self.stale = self.stale.max(failing);
                self.reason = Some(reason);
            }
        }
        self.running_since = (!waits).then_some(now);
    }

    pub(super) fn take(&mut self, now: Instant) -> Staleness {
        let running = self
            .running_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        Staleness {
            stale: self.stale + running,
            reason: self.reason.clone(),
            has_decoded: std::mem::take(&mut self.has_decoded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock and a way to set the time, in milliseconds.
    fn clock() -> (Freshness, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Freshness::new(start), move |ms| {
            start + Duration::from_millis(ms)
        })
    }

    fn stale_ms(clock: &mut Freshness, now: Instant) -> u128 {
        clock.take(now).stale.as_millis()
    }

    fn failed() -> Result<(), String> {
        Err("cut short".into())
    }

    #[test]
    fn bytes_that_cannot_be_decoded_refresh_nothing() {
        let (mut clock, at) = clock();
        for ms in (0..1000).step_by(50) {
            clock.arrived(at(ms));
            clock.settled(ms * 1_000_000, failed(), false, at(ms + 1));
        }
        let Staleness {
            stale,
            reason,
            has_decoded,
        } = clock.take(at(1000));
        // From the first of them on, less the millisecond that the last one waited.
        assert_eq!(stale.as_millis(), 999);
        assert_eq!((reason.as_deref(), has_decoded), (Some("cut short"), false));
        clock.arrived(at(1000));
        clock.settled(1_000_000_000, Ok(()), false, at(1001));
        let Staleness {
            stale,
            reason,
            has_decoded,
        } = clock.take(at(1001));
        assert_eq!((stale, reason, has_decoded), (Duration::ZERO, None, true));
    }

    #[test]
    fn a_slow_model_makes_no_camera_stale() {
        let (mut clock, at) = clock();
        clock.arrived(at(10));
        assert_eq!(stale_ms(&mut clock, at(5000)), 10);
        clock.settled(10_000_000, Ok(()), true, at(5000));
        // One damaged frame is no outage, although the model took seconds for the one before.
        clock.settled(4_990_000_000, failed(), true, at(10_000));
        assert_eq!(stale_ms(&mut clock, at(10_000)), 0);
        clock.settled(9_990_000_000, Ok(()), false, at(15_000));
        assert_eq!(stale_ms(&mut clock, at(15_200)), 200);
    }

    #[test]
    fn failures_in_a_row_count_even_while_a_frame_always_waits() {
        let (mut clock, at) = clock();
        clock.arrived(at(0));
        for s in 0..4 {
            clock.settled(s * 1_000_000_000, failed(), true, at(s * 1000 + 900));
        }
        assert_eq!(stale_ms(&mut clock, at(4000)), 3000);
    }
}
