//! The queue's bookkeeping: which events are in memory, on disk and in flight. It touches no disk itself.
//!
//! This file adds, hands out and removes events; [`schedule`] decides when the disk is due, and [`completion`] takes in
//! what the disk has done.

mod completion;
mod schedule;

use super::record::Record;
use super::totals::{Dropped, Totals};
use super::work::Storage;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events read from disk ahead of what is sent.
pub(super) const READ_AHEAD: usize = 128;
/// Events that are on disk are also kept in memory while there are no more than this.
pub(super) const MAX_CACHED: usize = 512;

/// When events are written to disk, and how many memory holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    /// How long an event may wait for its batch.
    pub(crate) sync_every: Duration,
    /// This many events make a batch due at once.
    pub(crate) sync_events: usize,
    /// Maximum events in memory while the disk cannot be used.
    pub(crate) memory: usize,
    /// Maximum age of an event.
    pub(crate) age: Duration,
}

impl QueueLimits {
    /// How often to look whether the store is still the file at its path.
    fn verify_every(&self) -> Duration {
        self.sync_every.max(Duration::from_secs(1))
    }
}

/// An event in memory.
#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    /// Whether it is also on disk.
    stored: bool,
    in_flight: bool,
}

/// Whether the store was found in its place after everything else was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastLook {
    Due,
    Asked,
    Taken,
}

/// Events that the broker has not acknowledged, by id.
#[derive(Debug)]
pub(crate) struct EventQueue {
    limits: QueueLimits,
    entries: BTreeMap<i64, Entry>,
    next_id: i64,
    storage: Storage,
    /// The store is open: it can at least be read.
    is_open: bool,
    open_at: Option<Instant>,
    /// When to try writing again after a failure.
    write_at: Option<Instant>,
    /// When to look after the store's file, unless a batch does so before.
    verify_at: Option<Instant>,
    last_look: LastLook,
    /// Every id that is on disk but not in memory is in this range.
    unread: Range<i64>,
    totals: Totals,
    /// Acknowledged, but not yet deleted from disk.
    acknowledged: BTreeSet<i64>,
    acknowledged_since: Option<Instant>,
    unsynced: usize,
    unsynced_since: Option<Instant>,
    /// Events from this id on are sent before older ones.
    live_from: i64,
    dropped: Dropped,
    /// The store has been open once, so its contents are counted.
    was_opened: bool,
    /// The file is larger than its contents need.
    should_compact: bool,
}

impl EventQueue {
    /// An empty queue. With `on_disk`, its first [`Work`](super::work::Work) is to open the store.
    pub(crate) fn new(limits: QueueLimits, on_disk: bool, now: Instant) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            next_id: 0,
            storage: if on_disk {
                Storage::Opening
            } else {
                Storage::Memory
            },
            is_open: false,
            open_at: on_disk.then_some(now),
            write_at: None,
            verify_at: None,
            last_look: LastLook::Due,
            unread: 0..0,
            totals: Totals::default(),
            acknowledged: BTreeSet::new(),
            acknowledged_since: None,
            unsynced: 0,
            unsynced_since: None,
            live_from: i64::MAX,
            dropped: Dropped::default(),
            was_opened: false,
            should_compact: false,
        }
    }

    /// Adds an event. If memory is full, its oldest event is evicted when it is on disk, and dropped when it is not.
    pub(crate) fn push(&mut self, record: Record, now: Instant) {
        let record = Arc::new(record);
        self.entries.insert(
            self.next_id,
            Entry {
                record,
                stored: false,
                in_flight: false,
            },
        );
        self.next_id += 1;
        self.unsynced += 1;
        self.unsynced_since.get_or_insert(now);
        while self.entries.len() > self.memory_limit() {
            let oldest = self
                .entries
                .iter()
                .find(|(_, e)| !e.in_flight)
                .map(|(id, e)| (*id, e.stored));
            match oldest {
                Some((id, true)) => self.evict(id),
                Some((id, false)) => {
                    self.remove(id);
                    self.dropped.full += 1;
                }
                None => return,
            }
        }
    }

    /// How many events memory may hold. A slow disk is no reason to drop any.
    fn memory_limit(&self) -> usize {
        match self.storage {
            Storage::Disk => self
                .limits
                .memory
                .max(self.limits.sync_events.saturating_mul(4)),
            _ => self.limits.memory.max(1),
        }
    }

    /// The oldest event of the backlog that is not in flight. Events that cannot be read from disk are passed over.
    pub(crate) fn next_of_backlog(&self) -> Option<(i64, Arc<Record>)> {
        let readable = self.is_open && !self.unread.is_empty();
        let end = if readable {
            self.unread.start.min(self.live_from)
        } else {
            self.live_from
        };
        self.first_waiting(i64::MIN..end)
    }

    /// With live events first: the oldest event queued since the connection was made that is not in flight.
    pub(crate) fn next_live(&self) -> Option<(i64, Arc<Record>)> {
        self.first_waiting(self.live_from..i64::MAX)
    }

    fn first_waiting(&self, ids: Range<i64>) -> Option<(i64, Arc<Record>)> {
        if self.storage == Storage::Opening {
            return None;
        }
        let waiting = self.entries.range(ids).find(|(_, e)| !e.in_flight);
        waiting.map(|(id, e)| (*id, Arc::clone(&e.record)))
    }

    /// Notes that the MQTT client has taken this event.
    pub(crate) fn handed_over(&mut self, id: i64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.in_flight = true;
        }
    }

    /// Notes that the broker has acknowledged this event.
    pub(crate) fn acknowledged(&mut self, id: i64, now: Instant) {
        if self.remove(id) == Some(true) {
            self.acknowledged.insert(id);
            self.acknowledged_since.get_or_insert(now);
        }
    }

    /// Removes an event from memory; returns whether it is on disk.
    fn remove(&mut self, id: i64) -> Option<bool> {
        let entry = self.entries.remove(&id)?;
        if !entry.stored {
            self.unsynced -= 1;
            if self.unsynced == 0 {
                self.unsynced_since = None;
            }
        }
        Some(entry.stored)
    }

    /// Removes an event that is on disk from memory.
    fn evict(&mut self, id: i64) {
        self.entries.remove(&id);
        self.unread = if self.unread.is_empty() {
            id..id + 1
        } else {
            self.unread.start.min(id)..self.unread.end.max(id + 1)
        };
        if self.live_from != i64::MAX {
            self.live_from = self.live_from.max(self.unread.end);
        }
    }

    /// Notes that the connection is lost: everything in flight is due again.
    pub(crate) fn disconnected(&mut self) {
        self.entries.values_mut().for_each(|e| e.in_flight = false);
    }

    /// Notes that there is a connection. With `live_first`, events queued from now on do not wait for the backlog.
    pub(crate) fn connected(&mut self, live_first: bool) {
        self.live_from = if live_first { self.next_id } else { i64::MAX };
    }

    /// Events on disk that are neither in memory nor acknowledged.
    fn on_disk_only(&self) -> u64 {
        let elsewhere =
            self.entries.values().filter(|e| e.stored).count() + self.acknowledged.len();
        self.totals.entries.saturating_sub(elsewhere as u64)
    }

    /// Events that the broker has not acknowledged, including those in flight.
    pub(crate) fn len(&self) -> u64 {
        self.on_disk_only() + self.entries.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Events that memory holds, whether they are on disk or not.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.entries.len()
    }

    /// The id of the next event.
    pub(crate) fn next_id(&self) -> i64 {
        self.next_id
    }

    /// The events that no disk holds, oldest first.
    pub(crate) fn unstored(&self) -> Vec<Record> {
        let unstored = self.entries.values().filter(|e| !e.stored);
        unstored.map(|e| Record::clone(&e.record)).collect()
    }

    /// Whether the disk is up to date and where it must be; while closing, since everything is written before.
    pub(crate) fn is_written(&self) -> bool {
        self.unsynced == 0 && self.acknowledged.is_empty() && self.last_look == LastLook::Taken
    }

    /// Events that a power cut would take.
    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Bytes of events on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.totals.bytes
    }

    /// Events dropped; with a disk, counted over restarts.
    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }
}
