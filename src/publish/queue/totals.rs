//! How much the store may hold, how much it holds, and how many events were dropped.

use std::time::Duration;

/// How much the store may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(super) bytes: u64,
    pub(super) age: Duration,
}

/// Events dropped since the store was created, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub(crate) struct Dropped {
    /// The queue was full.
    pub(crate) full: u64,
    /// They were too old.
    pub(crate) old: u64,
    /// The store could no longer be read.
    pub(crate) damaged: u64,
}

impl Dropped {
    pub(crate) fn total(&self) -> u64 {
        self.full + self.old + self.damaged
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let Self { full, old, damaged } = other;
        Self {
            full: self.full + full,
            old: self.old + old,
            damaged: self.damaged + damaged,
        }
    }

    /// The greater of both counts, for each reason.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            full: self.full.max(other.full),
            old: self.old.max(other.old),
            damaged: self.damaged.max(other.damaged),
        }
    }
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) dropped: Dropped,
}

impl Totals {
    /// Counts an event of `value_bytes` as stored.
    pub(super) fn add(&mut self, value_bytes: usize) {
        self.entries += 1;
        self.bytes += value_bytes as u64;
    }

    /// Counts an event of `value_bytes` as removed.
    pub(super) fn subtract(&mut self, value_bytes: usize) {
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(value_bytes as u64);
    }
}
