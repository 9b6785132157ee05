//! When the disk is due, and with what.

use super::{Entry, EventQueue, LastLook, READ_AHEAD};
use crate::publish::queue::record::Stamp;
use crate::publish::queue::store::WriteBatch;
use crate::publish::queue::work::Work;
use std::sync::Arc;
use std::time::Instant;

/// Maximum events in a batch, so that writing the first one after a long fault does not take long.
const MAX_BATCH: usize = 2000;

impl EventQueue {
    /// The disk operation that is due now. `reading`: the backlog is wanted; `flush`: write without waiting for a batch.
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
        if !flush {
            self.last_look = LastLook::Due;
        }
        self.expire(&stamp, now);
        if !self.is_open {
            return None;
        }
        // After a failure, even an empty batch is written, to find out whether writing works again.
        let due = self.write_at.or_else(|| self.sync_at(flush, now));
        if due.is_some_and(|at| at <= now) {
            return Some(Work::Commit(self.next_batch(stamp)));
        }
        // At the end, even if nothing is left to write: what was written must be where the next start looks for it.
        let last = flush && self.last_look == LastLook::Due;
        if last || self.verify_at.is_some_and(|at| at <= now) {
            if last {
                self.last_look = LastLook::Asked;
            }
            return Some(Work::Verify);
        }
        if reading && self.wants_read() {
            return Some(Work::Read(self.unread.clone(), READ_AHEAD));
        }
        (self.should_compact && self.totals.entries == 0 && self.entries.is_empty())
            .then_some(Work::Compact)
    }

    fn next_batch(&self, stamp: Stamp) -> WriteBatch {
        let unstored = self.entries.iter().filter(|(_, e)| !e.stored);
        WriteBatch {
            append: unstored
                .map(|(id, e)| (*id, Arc::clone(&e.record)))
                .take(MAX_BATCH)
                .collect(),
            remove: self.acknowledged.iter().copied().take(MAX_BATCH).collect(),
            dropped: self.dropped,
            now: stamp,
        }
    }

    /// Whether too few events have been read ahead.
    fn wants_read(&self) -> bool {
        if self.unread.is_empty() {
            return false;
        }
        let ahead = self
            .entries
            .range(..self.unread.start)
            .filter(|(_, e)| !e.in_flight)
            .count();
        ahead < READ_AHEAD / 2
    }

    /// Drops the oldest events in memory while they are too old; the store does the same for those on disk only.
    fn expire(&mut self, stamp: &Stamp, now: Instant) {
        let limit = self.limits.age.as_nanos();
        let is_old = |e: &Entry| {
            e.record
                .queued
                .age_ns(stamp)
                .is_some_and(|ns| u128::from(ns) > limit)
        };
        while let Some((&id, entry)) = self.entries.first_key_value()
            && !entry.in_flight
            && is_old(entry)
        {
            self.acknowledged(id, now);
            self.dropped.old += 1;
        }
    }

    /// When the next disk operation is due, if nothing else happens.
    pub(crate) fn work_at(&self, now: Instant) -> Option<Instant> {
        let write = if self.is_open {
            self.write_at.or_else(|| self.sync_at(false, now))
        } else {
            None
        };
        let verify = self.verify_at.filter(|_| self.is_open);
        [self.open_at, write, verify].into_iter().flatten().min()
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
}
