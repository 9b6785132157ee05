//! How fast a backlog is sent, so that many devices do not overload a broker that has come back.

use std::time::{Duration, Instant};

/// How far the backlog may be ahead of its rate, since timers are not exact.
const AHEAD: Duration = Duration::from_millis(100);

/// A token bucket that shrinks the backlog at a fixed rate. Time earns tokens, and so does each new
/// event: otherwise new events would make the backlog longer.
#[derive(Debug)]
pub(crate) struct Pace {
    per_s: f64,
    credit: f64,
    /// The time up to which tokens have been earned; in the future while the start is delayed.
    credited: Instant,
}

impl Pace {
    pub(crate) fn new(per_s: f64, now: Instant) -> Self {
        Self {
            per_s,
            credit: 0.0,
            credited: now,
        }
    }

    /// Starts over, after `delay`.
    pub(crate) fn start(&mut self, delay: Duration, now: Instant) {
        (self.credit, self.credited) = (0.0, now + delay);
    }

    /// A new event was queued.
    pub(crate) fn earn(&mut self) {
        self.credit += 1.0;
    }

    /// An event of the backlog was sent.
    pub(crate) fn spend(&mut self) {
        self.credit -= 1.0;
    }

    /// Whether an event of the backlog may be sent now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let most = (self.per_s * AHEAD.as_secs_f64()).max(1.0);
        let earned = now.saturating_duration_since(self.credited).as_secs_f64() * self.per_s;
        // The limit applies to time, not to what new events have earned.
        if self.credit < most {
            self.credit = (self.credit + earned).min(most);
        }
        self.credited = self.credited.max(now);
        self.credit >= 1.0
    }

    /// When the next event may be sent, if nothing else happens.
    pub(crate) fn due_at(&self) -> Instant {
        self.credited + Duration::from_secs_f64(((1.0 - self.credit) / self.per_s).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many events may be sent in `seconds`, asking every millisecond.
    fn sent(
        pace: &mut Pace,
        from: Instant,
        seconds: u64,
        mut each_ms: impl FnMut(&mut Pace, u64),
    ) -> usize {
        let mut sent = 0;
        for ms in 0..seconds * 1000 {
            each_ms(pace, ms);
            while pace.is_due(from + Duration::from_millis(ms)) {
                pace.spend();
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn a_backlog_shrinks_at_its_rate_after_the_delay_whatever_comes_meanwhile() {
        let now = Instant::now();
        let mut pace = Pace::new(50.0, now);
        pace.start(Duration::from_secs(3), now);
        assert_eq!(sent(&mut pace, now, 3, |_, _| ()), 0);
        assert_eq!(
            sent(&mut pace, now + Duration::from_secs(3), 10, |_, _| ()),
            500 - 1
        );
        pace.start(Duration::ZERO, now);
        let with_new = sent(&mut pace, now, 10, |pace, ms| {
            if ms % 5 == 0 {
                pace.earn();
            }
        });
        assert_eq!(with_new, 2000 + 500 - 1);
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let now = Instant::now();
        let mut pace = Pace::new(50.0, now);
        let later = now + Duration::from_secs(3600);
        let at_once = std::iter::from_fn(|| pace.is_due(later).then(|| pace.spend())).count();
        assert_eq!(at_once, 5);
        assert!(pace.due_at() > later && pace.due_at() <= later + Duration::from_millis(20));
    }
}
