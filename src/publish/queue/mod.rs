//! Events that the broker has not acknowledged, in order, bounded, on disk where there is a folder for them.
//!
//! New events are in memory; those that are still unacknowledged when a batch is due go to the [`store`] as well, so
//! that while the broker answers nothing is written. A backlog lies on disk, and only its front is read ahead. What
//! is to be done on disk is handed out as [`Work`] and done by the [`keeper`] while nobody waits for it.
//!
//! Ids give the order. They count from 0 in this process; what an earlier one left has ids below 0.

mod inspect;
mod keeper;
mod pace;
mod record;
mod store;
#[cfg(test)]
mod tests;

pub(super) use inspect::inspect;
pub(super) use keeper::Keeper;
pub(super) use pace::Pace;
pub(super) use record::{Boot, Record, Stamp};
pub(super) use store::Dropped;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Batch, Read, Totals};

/// Events read ahead of what is sent.
const READ_AHEAD: usize = 128;
/// Events that are on disk anyhow stay in memory, too, while there are no more than this.
const KEEP: usize = 512;
/// A batch's size, so that one after a long time without disk does not take long.
const BATCH: usize = 2000;

/// When what is on disk is brought up to date, and what memory holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long an event may wait for its batch.
    pub(crate) sync_every: Duration,
    /// How many events a batch waits for.
    pub(crate) sync_events: usize,
    /// Events in memory at most; all there are where the disk cannot be used.
    pub(crate) memory: usize,
    /// How old an event may become.
    pub(crate) age: Duration,
}

#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    stored: bool,
    under_way: bool,
}

/// Whether there is a disk to write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Storage {
    /// None is configured.
    Memory,
    /// It is about to be looked at; until then nothing is sent, as what an earlier process left goes first.
    Opening,
    /// In use.
    Disk,
    /// It cannot be used at present, and why.
    Away(String),
}

/// What is to be done on disk next.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Open,
    Commit(Batch),
    Read(Range<i64>, usize),
    Compact,
}

/// How work ended.
#[derive(Debug)]
pub(crate) enum Done {
    Opened(Totals, Range<i64>),
    Committed {
        batch: Batch,
        below: Option<i64>,
        totals: Totals,
    },
    Read(Read),
    Compacted,
    /// The store cannot be written, or not even read, before it is tried again at the time given.
    Away {
        reason: String,
        retry: Instant,
        readable: bool,
    },
    /// What was on disk is gone.
    Lost {
        retry: Instant,
    },
}

/// The queue's bookkeeping; it touches no disk itself.
#[derive(Debug)]
pub(crate) struct Queue {
    limits: Limits,
    entries: BTreeMap<i64, Entry>,
    next_id: i64,
    storage: Storage,
    /// The store is open, so that it can be read at least.
    is_open: bool,
    open_at: Option<Instant>,
    /// Writing has failed, and is tried again then.
    write_at: Option<Instant>,
    /// Ids that are on disk and not in memory lie in here.
    unread: Range<i64>,
    totals: Totals,
    /// Acknowledged, and still on disk.
    acknowledged: BTreeSet<i64>,
    acknowledged_since: Option<Instant>,
    unsynced: usize,
    unsynced_since: Option<Instant>,
    /// Ids from here on are sent before older ones.
    live_from: i64,
    dropped: Dropped,
    /// The store was open once: what it held is known.
    known: bool,
    /// The disk's file is larger than what is in it.
    slack: bool,
}

impl Queue {
    /// An empty queue; with `on_disk` its first [`Work`] is to open the store.
    pub(crate) fn new(limits: Limits, on_disk: bool, now: Instant) -> Self {
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
            unread: 0..0,
            totals: Totals::default(),
            acknowledged: BTreeSet::new(),
            acknowledged_since: None,
            unsynced: 0,
            unsynced_since: None,
            live_from: i64::MAX,
            dropped: Dropped::default(),
            known: false,
            slack: false,
        }
    }

    /// Adds an event. Where memory is full, the oldest in it goes: if it is on disk, only from memory.
    pub(crate) fn push(&mut self, record: Record, now: Instant) {
        let record = Arc::new(record);
        self.entries.insert(
            self.next_id,
            Entry {
                record,
                stored: false,
                under_way: false,
            },
        );
        self.next_id += 1;
        self.unsynced += 1;
        self.unsynced_since.get_or_insert(now);
        while self.entries.len() > self.room() {
            let oldest = self
                .entries
                .iter()
                .find(|(_, e)| !e.under_way)
                .map(|(id, e)| (*id, e.stored));
            match oldest {
                Some((id, true)) => self.leave_on_disk(id),
                Some((id, false)) => {
                    self.forget(id);
                    self.dropped.full += 1;
                }
                None => return,
            }
        }
    }

    /// How many events memory may hold. A slow disk is no reason to drop any.
    fn room(&self) -> usize {
        match self.storage {
            Storage::Disk => self
                .limits
                .memory
                .max(self.limits.sync_events.saturating_mul(4)),
            _ => self.limits.memory.max(1),
        }
    }

    /// The oldest event of the backlog that is not under way. Where what is on disk cannot be read, it is passed over.
    pub(crate) fn next_of_backlog(&self) -> Option<(i64, Arc<Record>)> {
        let readable = self.is_open && !self.unread.is_empty();
        let end = if readable {
            self.unread.start.min(self.live_from)
        } else {
            self.live_from
        };
        self.first_waiting(i64::MIN..end)
    }

    /// The oldest event since the connection was made that is not under way, where these go first.
    pub(crate) fn next_live(&self) -> Option<(i64, Arc<Record>)> {
        self.first_waiting(self.live_from..i64::MAX)
    }

    fn first_waiting(&self, ids: Range<i64>) -> Option<(i64, Arc<Record>)> {
        if self.storage == Storage::Opening {
            return None;
        }
        let waiting = self.entries.range(ids).find(|(_, e)| !e.under_way);
        waiting.map(|(id, e)| (*id, Arc::clone(&e.record)))
    }

    /// Notes that the client took this event.
    pub(crate) fn handed_over(&mut self, id: i64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.under_way = true;
        }
    }

    /// Notes that the broker has acknowledged this event.
    pub(crate) fn acknowledged(&mut self, id: i64, now: Instant) {
        if self.forget(id) == Some(true) {
            self.acknowledged.insert(id);
            self.acknowledged_since.get_or_insert(now);
        }
    }

    /// Removes an event from memory; whether it was on disk.
    fn forget(&mut self, id: i64) -> Option<bool> {
        let entry = self.entries.remove(&id)?;
        if !entry.stored {
            self.unsynced -= 1;
            if self.unsynced == 0 {
                self.unsynced_since = None;
            }
        }
        Some(entry.stored)
    }

    /// Notes that the connection is lost: everything is due again.
    pub(crate) fn disconnected(&mut self) {
        self.entries.values_mut().for_each(|e| e.under_way = false);
    }

    /// Notes that there is a connection; with `live_first` what comes from now on need not wait for the backlog.
    pub(crate) fn connected(&mut self, live_first: bool) {
        self.live_from = if live_first { self.next_id } else { i64::MAX };
    }

    /// What is to be done on disk now. `reading`: somebody wants the backlog; `flush`: write what there is at once.
    pub(crate) fn work(
        &mut self,
        stamp: Stamp,
        now: Instant,
        reading: bool,
        flush: bool,
    ) -> Option<Work> {
        if self.open_at.is_some_and(|at| at <= now) {
            self.open_at = None;
            return Some(Work::Open);
        }
        self.expire(&stamp, now);
        if !self.is_open {
            return None;
        }
        // After a failure even nothing is written, to see whether that is possible again.
        let due = self.write_at.or_else(|| self.sync_at(flush, now));
        if due.is_some_and(|at| at <= now) {
            let unstored = self.entries.iter().filter(|(_, e)| !e.stored);
            let append = unstored
                .map(|(id, e)| (*id, Arc::clone(&e.record)))
                .take(BATCH)
                .collect();
            let remove = self.acknowledged.iter().copied().take(BATCH).collect();
            return Some(Work::Commit(Batch {
                append,
                remove,
                dropped: self.dropped,
                now: stamp,
            }));
        }
        if reading && !self.unread.is_empty() {
            let ahead = self
                .entries
                .range(..self.unread.start)
                .filter(|(_, e)| !e.under_way)
                .count();
            if ahead < READ_AHEAD / 2 {
                return Some(Work::Read(self.unread.clone(), READ_AHEAD));
            }
        }
        (self.slack && self.totals.entries == 0 && self.entries.is_empty()).then_some(Work::Compact)
    }

    /// Drops the oldest while they are too old; the store does so with those that are only on disk.
    fn expire(&mut self, stamp: &Stamp, now: Instant) {
        let limit = self.limits.age.as_nanos();
        let is_old = |e: &Entry| {
            e.record
                .queued
                .age_ns(stamp)
                .is_some_and(|ns| u128::from(ns) > limit)
        };
        while let Some((&id, entry)) = self.entries.first_key_value()
            && !entry.under_way
            && is_old(entry)
        {
            self.acknowledged(id, now);
            self.dropped.old += 1;
        }
    }

    /// When there will be work on disk, if nothing else happens.
    pub(crate) fn work_at(&self, now: Instant) -> Option<Instant> {
        let write = if self.is_open {
            self.write_at.or_else(|| self.sync_at(false, now))
        } else {
            None
        };
        [self.open_at, write].into_iter().flatten().min()
    }

    fn sync_at(&self, flush: bool, now: Instant) -> Option<Instant> {
        if flush && (self.unsynced > 0 || !self.acknowledged.is_empty())
            || self.unsynced >= self.limits.sync_events
        {
            return Some(now);
        }
        let since = [self.unsynced_since, self.acknowledged_since]
            .into_iter()
            .flatten()
            .min()?;
        Some(since + self.limits.sync_every)
    }

    /// Notes how work ended.
    pub(crate) fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Opened(totals, ids) => self.opened(totals, ids, now),
            Done::Committed {
                batch,
                below,
                totals,
            } => self.committed(&batch, below, totals, now),
            Done::Read(read) => self.read(read, now),
            Done::Compacted => self.slack = false,
            Done::Away {
                reason,
                retry,
                readable,
            } => {
                self.storage = Storage::Away(reason);
                self.is_open = readable;
                *(if readable {
                    &mut self.write_at
                } else {
                    &mut self.open_at
                }) = Some(retry);
            }
            Done::Lost { retry } => self.lost(retry, now),
        }
    }

    fn opened(&mut self, totals: Totals, ids: Range<i64>, now: Instant) {
        self.is_open = true;
        match self.storage {
            Storage::Away(_) => self.write_at = Some(now),
            _ => self.storage = Storage::Disk,
        }
        self.totals = totals;
        if self.known {
            self.dropped = self.dropped.max(totals.dropped);
        } else {
            self.dropped = self.dropped.plus(totals.dropped);
            self.unread = if totals.entries > 0 { ids } else { 0..0 };
            self.known = true;
        }
    }

    fn committed(&mut self, batch: &Batch, below: Option<i64>, totals: Totals, now: Instant) {
        (self.storage, self.write_at) = (Storage::Disk, None);
        for (id, _) in &batch.append {
            match self.entries.get_mut(id) {
                Some(entry) => entry.stored = true,
                // Acknowledged or dropped while it was being written.
                None => _ = self.acknowledged.insert(*id),
            }
        }
        for id in &batch.remove {
            self.acknowledged.remove(id);
        }
        // What was counted while the batch was being written is not in the store's count yet.
        let meanwhile = self.dropped.full.saturating_sub(batch.dropped.full);
        self.totals = totals;
        self.dropped = Dropped {
            full: totals.dropped.full + meanwhile,
            ..self.dropped.max(totals.dropped)
        };
        self.slack |= totals.bytes > CACHE_WORTH_GIVING_BACK;
        if let Some(below) = below {
            self.give_up(below);
        }
        self.unsynced = self.entries.values().filter(|e| !e.stored).count();
        self.unsynced_since = (self.unsynced > 0).then_some(now);
        self.acknowledged_since = (!self.acknowledged.is_empty()).then_some(now);
        self.spill();
    }

    /// The store has dropped everything below an id.
    fn give_up(&mut self, below: i64) {
        let kept = self.entries.split_off(&below);
        let given_up = std::mem::replace(&mut self.entries, kept);
        // What is under way will be acknowledged, or is gone.
        drop(given_up);
        self.acknowledged = self.acknowledged.split_off(&below);
        self.unread.start = self.unread.start.max(below).min(self.unread.end);
    }

    /// Keeps no more in memory than is good for speed.
    fn spill(&mut self) {
        if self.entries.len() <= KEEP {
            return;
        }
        let after = if self.unread.is_empty() {
            i64::MIN
        } else {
            self.unread.start
        };
        let keep = if self.unread.is_empty() {
            READ_AHEAD
        } else {
            0
        };
        let stored = self
            .entries
            .range(after..)
            .filter(|(_, e)| e.stored && !e.under_way);
        let spilt: Vec<i64> = stored.map(|(id, _)| *id).skip(keep).collect();
        for id in spilt {
            self.leave_on_disk(id);
        }
    }

    /// Takes an event that is on disk from memory.
    fn leave_on_disk(&mut self, id: i64) {
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

    fn read(&mut self, read: Read, now: Instant) {
        for (id, record) in read.records {
            if !self.acknowledged.contains(&id) {
                let entry = || Entry {
                    record: Arc::new(record),
                    stored: true,
                    under_way: false,
                };
                self.entries.entry(id).or_insert_with(entry);
            }
        }
        if !read.damaged.is_empty() {
            self.dropped.damaged += read.damaged.len() as u64;
            self.acknowledged.extend(read.damaged);
            self.acknowledged_since.get_or_insert(now);
        }
        self.unread.start = read.next.min(self.unread.end);
    }

    fn lost(&mut self, retry: Instant, now: Instant) {
        self.dropped.damaged += self.on_disk_alone();
        self.entries.values_mut().for_each(|e| e.stored = false);
        self.acknowledged.clear();
        self.acknowledged_since = None;
        self.unread = 0..0;
        self.totals = Totals {
            dropped: self.dropped,
            ..Totals::default()
        };
        self.unsynced = self.entries.len();
        self.unsynced_since = (self.unsynced > 0).then_some(now);
        self.storage = Storage::Opening;
        (self.is_open, self.write_at, self.open_at) = (false, None, Some(retry));
    }

    /// Events on disk that are neither in memory nor acknowledged.
    fn on_disk_alone(&self) -> u64 {
        let elsewhere =
            self.entries.values().filter(|e| e.stored).count() + self.acknowledged.len();
        self.totals.entries.saturating_sub(elsewhere as u64)
    }

    /// Events that wait, those under way included.
    pub(crate) fn len(&self) -> u64 {
        self.on_disk_alone() + self.entries.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the next event will have.
    pub(crate) fn next_id(&self) -> i64 {
        self.next_id
    }

    /// Whether the disk has everything that it should have.
    pub(crate) fn is_written(&self) -> bool {
        self.unsynced == 0 && self.acknowledged.is_empty()
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

    /// Events given up, over restarts where there is a disk.
    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }
}

/// A store that held this much leaves a file that is worth making smaller.
const CACHE_WORTH_GIVING_BACK: u64 = 1 << 20;
