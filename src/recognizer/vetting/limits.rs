//! How much memory and time a model gets in the child.

use std::time::Duration;

/// Memory beside the model's own, for the tower's values, packed weights and thread stacks.
const BASE_MB: u64 = 512;
/// Copies of the weights that tract makes while it loads and optimises a graph, at most.
const COPIES: u64 = 6;
/// Time for a model of no size. The smallest board loads the pocket model in less than a second.
const BASE_S: u64 = 10;
/// The slowest cards read 10 MB/s, and the file is read several times.
const MB_PER_S: u64 = 1;

/// Variables that allow more, for a model that is larger than its file.
pub(super) const MEMORY_VARIABLE: &str = "CONSTANCY_LOAD_MB";
pub(super) const TIME_VARIABLE: &str = "CONSTANCY_LOAD_SECONDS";

/// What loading may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) memory_mb: u64,
    pub(super) seconds: u64,
}

impl Limits {
    /// The limits for files of `bytes` together.
    pub(super) fn for_bytes(bytes: u64) -> Self {
        let megabytes = bytes.div_ceil(1 << 20);
        Self {
            memory_mb: variable(MEMORY_VARIABLE).unwrap_or(BASE_MB + COPIES * megabytes),
            seconds: variable(TIME_VARIABLE).unwrap_or(BASE_S + megabytes / MB_PER_S),
        }
    }

    /// Limits the memory that this process can write to.
    pub(super) fn apply(self) {
        let bytes = self.memory_mb.saturating_mul(1 << 20);
        set(libc::RLIMIT_DATA, bytes);
    }
}

/// Prepares this process to be ended: it does not outlive `parent`, leaves no core dump, and is the
/// first to go when memory runs out.
pub(super) fn make_expendable(parent: u32) -> bool {
    // SAFETY: takes integers and changes only what happens to this process at its parent's end.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    set(libc::RLIMIT_CORE, 0);
    // Where this is not allowed, the limits still hold.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // The parent may have ended before the first line.
    std::os::unix::process::parent_id() == parent
}

fn set(resource: libc::__rlimit_resource_t, value: u64) {
    let value = libc::rlim_t::try_from(value).unwrap_or(libc::RLIM_INFINITY);
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes and reads this one structure.
    unsafe {
        if libc::getrlimit(resource, &raw mut limit) == 0 {
            limit.rlim_cur = value.min(limit.rlim_max);
            // It may be refused in a sandbox; the time limit and the unit's memory limit remain.
            libc::setrlimit(resource, &raw const limit);
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.parse().ok().filter(|&n| n > 0);
    if number.is_none() {
        log::warn!("{name} is `{value}`, not a number above 0, and is ignored");
    }
    number
}

impl Limits {
    pub(super) fn time(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
