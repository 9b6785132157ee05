//! Exponential backoff after stalls: for how many jobs the caller works alone.

/// Jobs of the first backoff, about two images.
const MIN_JOBS: usize = 256;
/// Jobs of the longest backoff, some seconds.
const MAX_JOBS: usize = 1 << 14;

/// How many jobs the caller still runs alone after a stall.
#[derive(Default)]
pub(super) struct Backoff {
    /// Jobs still to be run alone.
    remaining: usize,
    /// Length of the last backoff, in jobs.
    last: usize,
    /// Jobs shared since the last stall.
    shared: usize,
}

impl Backoff {
    /// Whether the caller must run the next job alone; counts that job.
    pub(super) fn skips_next(&mut self) -> bool {
        let skips = self.remaining > 0;
        self.remaining = self.remaining.saturating_sub(1);
        skips
    }

    /// Records a shared job. A stall starts a backoff, twice as long as the last one; a longer series without stalls
    /// resets the length.
    pub(super) fn record(&mut self, stalled: bool) {
        if stalled {
            self.last = (2 * self.last).clamp(MIN_JOBS, MAX_JOBS);
            (self.remaining, self.shared) = (self.last, 0);
        } else {
            self.shared += 1;
            if self.shared > 4 * MIN_JOBS {
                self.last = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_make_the_caller_work_alone_for_longer_and_longer() {
        let mut backoff = Backoff::default();
        let mut alone = |stalled| {
            backoff.record(stalled);
            (0..=2 * MAX_JOBS)
                .take_while(|_| backoff.skips_next())
                .count()
        };
        assert_eq!(
            [alone(false), alone(true), alone(true), alone(true)],
            [0, MIN_JOBS, 2 * MIN_JOBS, 4 * MIN_JOBS]
        );
        assert_eq!((0..6 * MIN_JOBS).map(|_| alone(false)).sum::<usize>(), 0);
        assert_eq!(alone(true), MIN_JOBS);
        assert_eq!((0..20).map(|_| alone(true)).max(), Some(MAX_JOBS));
    }
}
