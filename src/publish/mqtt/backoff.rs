//! How long to wait before connecting again.
//!
//! Two waits double: one from attempt to attempt that reaches nobody, and one from connection to connection that does
//! not last. A broker that lets everybody in and throws them out again at once meets the second, as do two devices with
//! one client id, of which each throws the other out; a network that comes and goes meets neither, however long it was
//! away before.

use std::time::Duration;

const MIN: Duration = Duration::from_millis(500);
/// A connection lasts if it outlives this many times the wait that those before it earned. Of two devices that throw
/// each other out, one is connected for as long as the other waits: up to three times its own wait, doubled once and
/// with half as much again by [`spread`].
const LASTING: u32 = 4;

#[derive(Debug)]
pub(super) struct Backoff {
    max: Duration,
    /// After the next attempt that reaches nobody.
    next: Duration,
    /// What connections that did not last have earned.
    earned: Duration,
}

impl Backoff {
    pub(super) fn new(max: Duration) -> Self {
        Self {
            max,
            next: MIN,
            earned: MIN,
        }
    }

    /// The wait that is due now that an attempt has ended, which was `connected` for so long, if it was at all.
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

    fn doubled(&self, wait: Duration) -> Duration {
        (wait * 2).min(self.max)
    }
}

/// From half to one and a half times a wait, by a `random` number of `0..1`: devices are not to come all at once.
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
    fn the_wait_doubles_while_nobody_is_reached_or_connections_end_at_once() {
        let mut backoff = Backoff::new(MAX);
        let doubling = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
        assert_eq!(waits(&mut backoff, None, 9), doubling);
        let at_once = Some(Duration::from_millis(200));
        assert_eq!(waits(&mut Backoff::new(MAX), at_once, 8), doubling[1..]);
        // Nobody was there at times: what such a broker has earned is not forgotten.
        let mut backoff = Backoff::new(MAX);
        assert_eq!(waits(&mut backoff, at_once, 2), [1.0, 2.0]);
        assert_eq!(waits(&mut backoff, None, 2), [4.0, 8.0]);
        assert_eq!(waits(&mut backoff, at_once, 2), [4.0, 8.0]);
        assert_eq!(waits(&mut backoff, Some(Duration::from_secs(33)), 1), [0.5]);
    }

    proptest! {
        #[test]
        fn a_network_that_comes_and_goes_is_never_waited_for_long(
            times in prop::collection::vec((2.1..10.0f64, 0..20usize), 1..50),
        ) {
            let mut backoff = Backoff::new(MAX);
            for (lasted, attempts_in_vain) in times {
                waits(&mut backoff, None, attempts_in_vain);
                prop_assert_eq!(backoff.after(Some(Duration::from_secs_f64(lasted))), MIN);
            }
        }

        #[test]
        fn devices_that_throw_each_other_out_soon_do_so_seldom(random in prop::collection::vec(0.0..1.0f64, 20)) {
            // The first was connected for long before the second came.
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
