//! What a running daemon takes of the machine.

use super::Daemon;

/// A number of `/proc/PID/status`, in its unit.
fn status(daemon: &Daemon, key: &str) -> u64 {
    let status = std::fs::read_to_string(daemon.proc("status")).expect("status");
    let line = status.lines().find(|l| l.starts_with(key)).expect(key);
    let value = line.split_whitespace().nth(1);
    value.and_then(|v| v.parse().ok()).expect("a number")
}

/// Resident memory in KiB.
pub fn resident_kib(daemon: &Daemon) -> u64 {
    status(daemon, "VmRSS:")
}

/// Threads.
pub fn threads(daemon: &Daemon) -> u64 {
    status(daemon, "Threads:")
}

/// Open file descriptors.
pub fn descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(daemon.proc("fd")).expect("fd").count()
}
