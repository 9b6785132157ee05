//! `[queue]`: where events wait for the broker.

use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[queue]`: where events wait that the broker has not acknowledged, and how fast a backlog is sent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// A folder that outlives restarts; `$STATE_DIRECTORY` unless given, and memory alone without either.
    pub folder: Option<PathBuf>,
    /// MiB of events on disk, 1 to 65536; beyond that the oldest are dropped, and counted.
    pub max_mib: u64,
    /// Hours after which an event is not worth sending any more.
    pub max_age_h: f64,
    /// Seconds that an event may wait before it is written to disk: what a power cut can take.
    pub sync_s: f64,
    /// Events that are written sooner than that.
    pub sync_events: usize,
    /// Events in memory at most, where there is no disk or it cannot be used.
    pub memory: usize,
    /// Events a second by which a backlog shrinks.
    pub drain_per_s: f64,
    /// Longest random wait before a backlog is sent, seconds; never longer than the broker was away.
    pub drain_delay_s: f64,
    /// New events need not wait for the backlog.
    pub live_first: bool,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            folder: None,
            max_mib: 128,
            max_age_h: 168.0,
            sync_s: 5.0,
            sync_events: 200,
            memory: 10_000,
            drain_per_s: 50.0,
            drain_delay_s: 30.0,
            live_first: false,
        }
    }
}

impl QueueSettings {
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.max_mib << 20
    }

    #[must_use]
    pub fn max_age(&self) -> Duration {
        Duration::from_secs_f64(self.max_age_h * 3600.0)
    }
}

/// The first of the folders that systemd's `StateDirectory=` provides.
pub(super) fn state_directory() -> Option<PathBuf> {
    let folders = std::env::var_os("STATE_DIRECTORY")?;
    std::env::split_paths(&folders).find(|folder| !folder.as_os_str().is_empty())
}
