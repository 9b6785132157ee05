//! Disk operations that the queue asks for, and how they ended.

use super::store::{ReadResult, WriteBatch};
use super::totals::Totals;
use std::ops::Range;
use std::time::Instant;

/// Where events wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In memory: no folder is configured.
    Memory,
    /// The store is about to be opened. Nothing is sent before that, since events of an earlier process go first.
    Opening,
    /// On disk.
    Disk,
    /// In memory, because the disk cannot be used at present, for this reason.
    Unavailable(String),
}

/// The next disk operation.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Open,
    Commit(WriteBatch),
    /// Read at most this many events with an id in this range.
    Read(Range<i64>, usize),
    /// Shrink the file.
    Compact,
    /// Look whether the store is still the file at its path.
    Verify,
}

/// A store that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) totals: Totals,
    /// Its events that the queue does not know of have ids in this range.
    pub(super) new_ids: Range<i64>,
    /// It holds everything that the queue knows to be on disk; otherwise that is lost.
    pub(super) is_complete: bool,
}

impl Opened {
    /// Whether there are events in it that the queue did not know of.
    pub(crate) fn brings_events(&self) -> bool {
        self.totals.entries > 0 && !self.new_ids.is_empty()
    }
}

/// How an operation ended.
#[derive(Debug)]
pub(crate) enum WorkOutcome {
    Opened(Opened),
    Committed {
        batch: WriteBatch,
        /// The store has dropped all events with an id below this one, to keep its bounds.
        dropped_below: Option<i64>,
        totals: Totals,
    },
    Read(ReadResult),
    Compacted,
    /// The store is in its place.
    Verified,
    /// The store cannot be written until `retry_at` at least.
    Unavailable {
        reason: String,
        retry_at: Instant,
        /// It can still be read.
        readable: bool,
    },
    /// The file was damaged and moved aside; its events are gone.
    Lost {
        retry_at: Instant,
    },
}
