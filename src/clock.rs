//! Reads the two clocks of a timestamp, and whether the wall clock is synchronised.

use constancy_core::frame::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// The present time on both clocks.
#[must_use]
pub(crate) fn now() -> Timestamp {
    Timestamp {
        monotonic_ns: monotonic_ns(),
        unix_ns: unix_ns(),
        clock_synced: clock_synced(),
    }
}

/// Older stamps are not trusted.
const MAX_AGE_NS: u64 = 10_000_000_000;

/// Both clocks at a driver's stamp, `monotonic_ns` on `CLOCK_MONOTONIC`. The present time if there is no stamp (0), or
/// if it lies in the future or more than 10 s in the past, as from a driver that uses another clock.
#[must_use]
pub(crate) fn at(monotonic_ns: u64) -> Timestamp {
    let now = now();
    let age_ns = now.monotonic_ns.saturating_sub(monotonic_ns);
    if monotonic_ns == 0 || age_ns > MAX_AGE_NS {
        return now;
    }
    Timestamp {
        monotonic_ns: now.monotonic_ns - age_ns,
        unix_ns: now.unix_ns.saturating_sub_unsigned(age_ns),
        ..now
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[must_use]
#[expect(clippy::cast_sign_loss, reason = "the clock counts up from 0")]
pub(crate) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec to write to; CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds since the Unix epoch; 0 while the wall clock is set before it.
fn unix_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Whether the kernel says that the wall clock is synchronised (`adjtimex`, which `timedatectl` reads as well).
fn clock_synced() -> bool {
    // SAFETY: all-zero is a valid timex; with `modes` 0 the call only reads the clock's state into it.
    let state = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut timex);
        if timex.status & libc::STA_UNSYNC != 0 {
            libc::TIME_ERROR
        } else {
            state
        }
    };
    state != libc::TIME_ERROR && state >= 0
}
