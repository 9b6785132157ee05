//! Limits in rate: for commands, and for lines of the log that a flood of messages causes.

use std::time::{Duration, Instant};

/// How long refusals are counted before they are reported.
const REPORT_AFTER: Duration = Duration::from_secs(10);

/// A token bucket that counts what it refuses.
#[derive(Debug)]
pub(super) struct RateLimit {
    burst: f64,
    per_s: f64,
    /// Present from the first request on.
    credit: Option<(f64, Instant)>,
    refused: u64,
    report_at: Option<Instant>,
}

impl RateLimit {
    /// `burst` at once, then `per_s` a second.
    pub(super) fn new(burst: u32, per_s: f64) -> Self {
        Self {
            burst: burst.into(),
            per_s,
            credit: None,
            refused: 0,
            report_at: None,
        }
    }

    /// Whether one more may pass. If not, it is counted.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let (credit, at) = self.credit.unwrap_or((self.burst, now));
        let earned = now.saturating_duration_since(at).as_secs_f64() * self.per_s;
        let credit = (credit + earned).min(self.burst);
        let allowed = credit >= 1.0;
        self.credit = Some((if allowed { credit - 1.0 } else { credit }, now));
        if !allowed {
            self.refused += 1;
            self.report_at.get_or_insert(now + REPORT_AFTER);
        }
        allowed
    }

    /// When [`Self::report`] has something to say.
    pub(super) fn report_at(&self) -> Option<Instant> {
        self.report_at
    }

    /// How many were refused since the last report, if a report is due.
    pub(super) fn report(&mut self, now: Instant) -> Option<u64> {
        self.report_at.take_if(|at| *at <= now)?;
        Some(std::mem::take(&mut self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_the_rest_is_counted_once() {
        let (start, mut limit) = (Instant::now(), RateLimit::new(20, 5.0));
        let passed = |limit: &mut RateLimit, ms: u64| {
            let now = start + Duration::from_millis(ms);
            (0..100).filter(|_| limit.allows(now)).count()
        };
        assert_eq!(passed(&mut limit, 0), 20);
        assert_eq!(passed(&mut limit, 100), 0);
        assert_eq!(passed(&mut limit, 1000), 5);
        assert_eq!(limit.report(start + Duration::from_secs(1)), None);
        assert_eq!(limit.report_at(), Some(start + REPORT_AFTER));
        let later = start + Duration::from_secs(60);
        assert_eq!(limit.report(later), Some(275));
        assert_eq!((limit.report(later), limit.report_at()), (None, None));
        assert_eq!(passed(&mut limit, 60_000), 20);
    }
}
