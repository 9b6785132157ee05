//! Reconnect backoff.
//!
//! Two waits double: one with every attempt that fails, and one with every connection that does not last. The second
//! applies to a broker that accepts connections and closes them at once, and to two devices with the same client id,
//! each of which makes the broker close the other's connection. A network that comes and goes triggers neither, however
//! long it was away before.

use std::time::Duration;

const MIN: Duration = Duration::from_millis(500);
/// The first and the longest wait while the publisher is being closed, when there is little time left.
const MIN_CLOSING: Duration = Duration::from_millis(100);
const MAX_CLOSING: Duration = Duration::from_secs(1);
/// A connection counts as lasting if it outlives this many times the wait that earlier ones have earned. Of two devices
/// that disconnect each other, one stays connected for as long as the other waits. That is up to three times its own
/// wait: doubled once, and half as much again from [`spread`].
const LASTING: u32 = 4;

#[derive(Debug)]
pub(super) struct Backoff {
    max: Duration,
    /// The wait after the next failed attempt.
    next: Duration,
    /// The wait earned by connections that did not last.
    earned: Duration,
    /// The next wait while the publisher is being closed.
    closing: Duration,
}

impl Backoff {
    pub(super) fn new(max: Duration) -> Self {
        Self {
            max,
            next: MIN,
            earned: MIN,
            closing: MIN_CLOSING,
        }
    }

    /// The wait after an attempt that was `connected` for this long, or `None` if it failed.
    pub(super) fn after(&mut self, connected: Option<Duration>) -> Duration {
        let due = match connected {
            None => self.next,
            Some(lasted) => {
                self.earned = if lasted > self.earned * LASTING {
                    MIN
                } else {
                    self.doubled(self.earned)
                };
                self.earned
            }
        };
        self.next = self.doubled(due);
        due
    }

    /// The wait after an attempt while the publisher is being closed.
    pub(super) fn while_closing(&mut self) -> Duration {
        let due = self.closing;
        self.closing = (due * 2).min(MAX_CLOSING);
        due
    }

    fn doubled(&self, wait: Duration) -> Duration {
        (wait * 2).min(self.max)
    }
}

/// Jitter: scales a wait by 0.5 to 1.5, by a `random` number in `0..1`, so that devices do not reconnect all at once.
pub(super) fn spread(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(0.5 + random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: Duration = Duration::from_secs(60);

    fn waits(backoff: &mut Backoff, connected: Option<Duration>, count: usize) -> Vec<f64> {
        (0..count)
            .map(|_| backoff.after(connected).as_secs_f64())
            .collect()
    }

    #[test]
    fn the_wait_doubles_while_attempts_fail_or_connections_end_at_once() {
        let mut backoff = Backoff::new(MAX);
        let doubling = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
        assert_eq!(waits(&mut backoff, None, 9), doubling);
        let at_once = Some(Duration::from_millis(200));
        assert_eq!(waits(&mut Backoff::new(MAX), at_once, 8), doubling[1..]);
        // Failed attempts in between do not reset what such a broker has earned.
        let mut backoff = Backoff::new(MAX);
        assert_eq!(waits(&mut backoff, at_once, 2), [1.0, 2.0]);
        assert_eq!(waits(&mut backoff, None, 2), [4.0, 8.0]);
        assert_eq!(waits(&mut backoff, at_once, 2), [4.0, 8.0]);
        assert_eq!(waits(&mut backoff, Some(Duration::from_secs(33)), 1), [0.5]);
    }

    #[test]
    fn closing_waits_little_and_does_not_hammer() {
        let mut backoff = Backoff::new(MAX);
        let waits: Vec<f64> = (0..6)
            .map(|_| backoff.while_closing().as_secs_f64())
            .collect();
        assert_eq!(waits, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]);
        assert_eq!(backoff.after(None), MIN, "it counts for itself");
    }

    proptest! {
        #[test]
        fn a_network_that_comes_and_goes_never_causes_a_long_wait(
            times in prop::collection::vec((2.1..10.0f64, 0..20usize), 1..50),
        ) {
            let mut backoff = Backoff::new(MAX);
            for (lasted, failed_attempts) in times {
                waits(&mut backoff, None, failed_attempts);
                prop_assert_eq!(backoff.after(Some(Duration::from_secs_f64(lasted))), MIN);
            }
        }

        #[test]
        fn devices_that_disconnect_each_other_soon_do_so_rarely(random in prop::collection::vec(0.0..1.0f64, 20)) {
            // The first had been connected for an hour when the second came.
            let mut devices = [Backoff::new(MAX), Backoff::new(MAX)];
            let mut connected = Duration::from_secs(3600);
            let mut due = MIN;
            for (turn, random) in random.into_iter().enumerate() {
                due = devices[turn % 2].after(Some(connected));
                connected = spread(due, random);
            }
            prop_assert_eq!(due, MAX);
        }
    }
}
