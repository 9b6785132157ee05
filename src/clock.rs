//! The two clocks of a frame, and whether the wall clock can be trusted.

use constancy_core::frame::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// Both clocks, now.
#[must_use]
pub(crate) fn now() -> Timestamp {
    Timestamp {
        monotonic_ns: monotonic_ns(),
        unix_ns: unix_ns(),
        clock_synced: clock_synced(),
    }
}

/// Both clocks at the moment when `CLOCK_MONOTONIC` showed `monotonic_ns`, as drivers stamp their buffers.
#[must_use]
pub(crate) fn at(monotonic_ns: u64) -> Timestamp {
    let now = now();
    // A driver that stamps by another clock must not move a frame into the future or far into the past.
    let age_ns = now.monotonic_ns.saturating_sub(monotonic_ns);
    if monotonic_ns == 0 || age_ns > 10_000_000_000 {
        return now;
    }
    let age = i64::try_from(age_ns).unwrap_or(0);
    Timestamp {
        monotonic_ns: now.monotonic_ns - age_ns,
        unix_ns: now.unix_ns - age,
        ..now
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[must_use]
pub(crate) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec to write to; CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn unix_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Whether the kernel holds the wall clock for synchronised (`adjtimex`, as `timedatectl` asks it).
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
