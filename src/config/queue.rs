//! `[queue]`: the queue of events between the cameras and the broker.

use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[queue]`: where events wait until the broker has acknowledged them, and how fast a backlog is sent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// A folder that outlives restarts. Defaults to `$STATE_DIRECTORY`; without either, events wait in memory.
    pub folder: Option<PathBuf>,
    /// MiB of events on disk, 1 to 65536. When it is full, the oldest events are dropped and counted.
    pub max_mib: u64,
    /// Hours after which an event is dropped.
    pub max_age_h: f64,
    /// Seconds until an unacknowledged event is written to disk: what a power cut can take.
    pub sync_s: f64,
    /// This many events are written at once, without waiting for `sync_s`.
    pub sync_events: usize,
    /// Maximum events in memory when there is no folder, or while it cannot be written.
    pub memory: usize,
    /// How fast a backlog shrinks, events per second.
    pub drain_per_s: f64,
    /// Maximum random delay before a backlog is sent, seconds; never longer than the broker was away.
    pub drain_delay_s: f64,
    /// Send new events before the backlog.
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
    /// [`Self::max_mib`] in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.max_mib << 20
    }

    /// [`Self::max_age_h`] as a duration.
    #[must_use]
    pub fn max_age(&self) -> Duration {
        Duration::from_secs_f64(self.max_age_h * 3600.0)
    }
}

/// The first folder of systemd's `StateDirectory=`.
pub(super) fn state_directory() -> Option<PathBuf> {
    let folders = std::env::var_os("STATE_DIRECTORY")?;
    std::env::split_paths(&folders).find(|folder| !folder.as_os_str().is_empty())
}
