//! What follows from a disk operation that has ended.

use super::{Entry, EventQueue, LastLook, MAX_CACHED, READ_AHEAD};
use crate::publish::queue::store::{ReadResult, WriteBatch};
use crate::publish::queue::totals::{Dropped, Totals};
use crate::publish::queue::work::{Opened, Storage, WorkOutcome};
use std::sync::Arc;
use std::time::Instant;

/// A store that held more than this leaves a file that is worth compacting.
const COMPACT_ABOVE_BYTES: u64 = 1 << 20;

impl EventQueue {
    /// Notes how a disk operation ended.
    pub(crate) fn done(&mut self, outcome: WorkOutcome, now: Instant) {
        match outcome {
            WorkOutcome::Opened(opened) => self.opened(&opened, now),
            WorkOutcome::Committed {
                batch,
                dropped_below,
                totals,
            } => self.committed(&batch, dropped_below, totals, now),
            WorkOutcome::Read(read) => self.read(read, now),
            WorkOutcome::Compacted => self.should_compact = false,
            WorkOutcome::Verified => self.in_place(now),
            WorkOutcome::Unavailable {
                reason,
                retry_at,
                readable,
            } => {
                self.storage = Storage::Unavailable(reason);
                self.is_open = readable;
                self.verify_at = None;
                *(if readable {
                    &mut self.write_at
                } else {
                    &mut self.open_at
                }) = Some(retry_at);
            }
            WorkOutcome::Lost { retry_at } => self.store_lost(retry_at, now),
        }
    }

    fn opened(&mut self, opened: &Opened, now: Instant) {
        if !opened.is_complete {
            self.forget_store(now);
        }
        self.is_open = true;
        self.verify_at = Some(now + self.limits.verify_every());
        match self.storage {
            Storage::Unavailable(_) => self.write_at = Some(now),
            _ => self.storage = Storage::Disk,
        }
        let Opened {
            totals, new_ids, ..
        } = opened;
        self.totals = *totals;
        self.dropped = if self.was_opened {
            self.dropped.max(totals.dropped)
        } else {
            self.dropped.plus(totals.dropped)
        };
        self.was_opened = true;
        if opened.brings_events() {
            let end = if self.unread.is_empty() {
                new_ids.end
            } else {
                self.unread.end
            };
            self.unread = new_ids.start..end;
        }
    }

    /// The store was found in its place.
    fn in_place(&mut self, now: Instant) {
        self.verify_at = Some(now + self.limits.verify_every());
        if self.last_look == LastLook::Asked {
            self.last_look = LastLook::Taken;
        }
    }

    fn committed(
        &mut self,
        batch: &WriteBatch,
        dropped_below: Option<i64>,
        totals: Totals,
        now: Instant,
    ) {
        (self.storage, self.write_at) = (Storage::Disk, None);
        self.in_place(now);
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
        // The store's count does not include events dropped while the batch was being written.
        let meanwhile = self.dropped.full.saturating_sub(batch.dropped.full);
        self.totals = totals;
        self.dropped = Dropped {
            full: totals.dropped.full + meanwhile,
            ..self.dropped.max(totals.dropped)
        };
        self.should_compact |= totals.bytes > COMPACT_ABOVE_BYTES;
        if let Some(id) = dropped_below {
            self.drop_below(id);
        }
        self.unsynced = self.entries.values().filter(|e| !e.stored).count();
        self.unsynced_since = (self.unsynced > 0).then_some(now);
        self.acknowledged_since = (!self.acknowledged.is_empty()).then_some(now);
        self.spill();
    }

    /// Forgets every event below `id`, as the store has. Those in flight may still arrive.
    fn drop_below(&mut self, id: i64) {
        self.entries = self.entries.split_off(&id);
        self.acknowledged = self.acknowledged.split_off(&id);
        self.unread.start = self.unread.start.max(id).min(self.unread.end);
    }

    /// Evicts events that are on disk while memory holds more than [`MAX_CACHED`].
    fn spill(&mut self) {
        if self.entries.len() <= MAX_CACHED {
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
            .filter(|(_, e)| e.stored && !e.in_flight);
        let spilt: Vec<i64> = stored.map(|(id, _)| *id).skip(keep).collect();
        for id in spilt {
            self.evict(id);
        }
    }

    fn read(&mut self, read: ReadResult, now: Instant) {
        for (id, record) in read.records {
            if !self.acknowledged.contains(&id) {
                let entry = || Entry {
                    record: Arc::new(record),
                    stored: true,
                    in_flight: false,
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

    /// Starts over with a new store.
    fn store_lost(&mut self, retry_at: Instant, now: Instant) {
        self.forget_store(now);
        self.storage = Storage::Opening;
        (self.is_open, self.write_at, self.open_at) = (false, None, Some(retry_at));
    }

    /// Nothing is on disk any more; events in memory will be written to the next store.
    fn forget_store(&mut self, now: Instant) {
        self.dropped.damaged += self.on_disk_only();
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
    }
}
