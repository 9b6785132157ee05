//! The queue's file: a redb database, written in batches.
//!
//! redb is a crash-safe B-tree: after a power failure a batch is either there completely or not at all. Opening checks
//! every page. Each record also has its own checksum, since a page may go bad while the file is open.

use super::medium::{FileId, Medium, guarded};
use super::record::{Record, Stamp};
use super::store_error::StoreError;
use super::totals::{Bounds, Dropped, Totals};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, Table, TableDefinition};
use std::ops::Range;
use std::sync::Arc;

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
/// redb's page cache. Its default is a gigabyte.
const CACHE_BYTES: usize = 1 << 20;
/// Events read at once from a store whose place another has taken.
const ADOPTED_AT_ONCE: usize = 500;
/// Maximum events dropped in one batch, so that none takes long.
const MAX_DROPS_PER_BATCH: u64 = 10_000;

/// Events read from the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadResult {
    pub(super) records: Vec<(i64, Record)>,
    /// Ids of records whose checksum is wrong.
    pub(super) damaged: Vec<i64>,
    /// The id to continue reading at.
    pub(super) next: i64,
}

/// A batch of changes.
#[derive(Debug, Default, Clone)]
pub(crate) struct WriteBatch {
    /// Events to add, by id.
    pub(super) append: Vec<(i64, Arc<Record>)>,
    /// Ids to delete.
    pub(super) remove: Vec<i64>,
    /// Events that the queue has dropped so far.
    pub(super) dropped: Dropped,
    pub(super) now: Stamp,
}

/// The open file. Ids are those of the queue: events of an earlier process have ids below 0.
#[derive(Debug)]
pub(crate) struct Store {
    db: Database,
    medium: Medium,
    bounds: Bounds,
    /// The key of id 0.
    base: u64,
    totals: Totals,
}

impl Store {
    /// Opens the store on `medium`, or creates it if that is empty. Id 0 follows the last event.
    pub(super) fn open(medium: Medium, bounds: Bounds) -> Result<Self, StoreError> {
        let (db, last, totals) = guarded(|| {
            let db = medium.open(
                Builder::new()
                    .set_cache_size(CACHE_BYTES)
                    .set_check_integrity_on_open(true),
            )?;
            let txn = db.begin_write()?;
            let (last, totals) = {
                let events = txn.open_table(EVENTS)?;
                let totals = read_table(&txn.open_table(TOTALS)?)?;
                (events.last()?.map(|(key, _)| key.value()), totals)
            };
            txn.abort()?;
            Ok((db, last, totals))
        })?;
        Ok(Self {
            db,
            medium,
            bounds,
            base: last.map_or(0, |key| key.saturating_add(1)),
            totals,
        })
    }

    /// Opens the same file again, as redb wants it after any error, wherever the file is by now.
    pub(super) fn reopen(self) -> Result<Self, StoreError> {
        let Self {
            db,
            medium,
            bounds,
            base,
            ..
        } = self;
        guarded(|| {
            drop(db);
            Ok(())
        })?;
        Ok(Self {
            base,
            ..Self::open(medium, bounds)?
        })
    }

    /// Closes the file, which redb writes to once more.
    pub(super) fn close(self) {
        let _ = guarded(|| {
            drop(self.db);
            Ok(())
        });
    }

    /// Which file this is.
    pub(super) fn id(&self) -> FileId {
        self.medium.id()
    }

    /// The key of id 0.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// With the given key of id 0.
    pub(super) fn with_base(self, base: u64) -> Self {
        Self { base, ..self }
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Writes a batch and syncs it. If the store then exceeds its bounds, the oldest events are dropped; returns the id
    /// below which they were.
    pub(super) fn commit(&mut self, batch: &WriteBatch) -> Result<Option<i64>, StoreError> {
        guarded(|| self.commit_unguarded(batch))
    }

    fn commit_unguarded(&mut self, batch: &WriteBatch) -> Result<Option<i64>, StoreError> {
        let mut totals = Totals {
            dropped: batch.dropped.max(self.totals.dropped),
            ..self.totals
        };
        let txn = self.db.begin_write()?;
        let dropped_below = {
            let mut events = txn.open_table(EVENTS)?;
            for id in &batch.remove {
                if let Some(old) = events.remove(self.key(*id))? {
                    totals.subtract(old.value().len());
                }
            }
            for (id, record) in &batch.append {
                let value = record.encode(self.key(*id));
                totals.add(value.len());
                if let Some(old) = events.insert(self.key(*id), value.as_slice())? {
                    totals.subtract(old.value().len());
                }
            }
            let dropped_below = self.drop_oldest(&mut events, &mut totals, &batch.now)?;
            write_table(&mut txn.open_table(TOTALS)?, totals)?;
            dropped_below
        };
        txn.commit()?;
        self.totals = totals;
        Ok(dropped_below)
    }

    /// Drops the oldest events while they exceed the bounds.
    fn drop_oldest(
        &self,
        events: &mut Table<'_, u64, &'static [u8]>,
        totals: &mut Totals,
        now: &Stamp,
    ) -> Result<Option<i64>, StoreError> {
        let mut below = None;
        for _ in 0..MAX_DROPS_PER_BATCH {
            let oldest = events
                .first()?
                .map(|(key, value)| (key.value(), value.value().to_vec()));
            let Some((key, bytes)) = oldest else { break };
            let full = totals.bytes > self.bounds.bytes;
            if !full && !self.is_old(key, &bytes, now) {
                break;
            }
            events.remove(key)?;
            totals.subtract(bytes.len());
            *(if full {
                &mut totals.dropped.full
            } else {
                &mut totals.dropped.old
            }) += 1;
            below = Some(self.id_of(key) + 1);
        }
        Ok(below)
    }

    fn is_old(&self, key: u64, bytes: &[u8], now: &Stamp) -> bool {
        let age_ns = Record::decode(key, bytes).and_then(|r| r.queued.age_ns(now));
        age_ns.is_some_and(|ns| u128::from(ns) > self.bounds.age.as_nanos())
    }

    /// Adds every event of `old`, all or none; they keep their ids, and are counted where they cannot be decoded. The inner
    /// error says that `old` cannot be read.
    pub(super) fn adopt(&mut self, old: &Self) -> Result<Result<(), StoreError>, StoreError> {
        guarded(|| {
            let mut totals = self.totals;
            totals.dropped = totals.dropped.max(old.totals.dropped);
            let txn = self.db.begin_write()?;
            {
                let mut events = txn.open_table(EVENTS)?;
                let mut from = old.id_of(0);
                loop {
                    let read = match old.read(&(from..i64::MAX), ADOPTED_AT_ONCE) {
                        Ok(read) => read,
                        Err(e) => return Ok(Err(e)),
                    };
                    totals.dropped.damaged += read.damaged.len() as u64;
                    for (id, record) in read.records {
                        let value = record.encode(self.key(id));
                        totals.add(value.len());
                        events.insert(self.key(id), value.as_slice())?;
                    }
                    if read.next == i64::MAX {
                        break;
                    }
                    from = read.next;
                }
                write_table(&mut txn.open_table(TOTALS)?, totals)?;
            }
            txn.commit()?;
            self.totals = totals;
            Ok(Ok(()))
        })
    }

    /// The first `count` events with an id in `range`.
    pub(super) fn read(&self, range: &Range<i64>, count: usize) -> Result<ReadResult, StoreError> {
        guarded(|| {
            let events = self.db.begin_read()?.open_table(EVENTS)?;
            let mut found = ReadResult {
                next: range.end,
                ..ReadResult::default()
            };
            for entry in events
                .range(self.key(range.start)..self.key(range.end))?
                .take(count)
            {
                let (key, value) = entry?;
                let id = self.id_of(key.value());
                match Record::decode(key.value(), value.value()) {
                    Some(record) => found.records.push((id, record)),
                    None => found.damaged.push(id),
                }
                if found.records.len() + found.damaged.len() == count {
                    found.next = id + 1;
                }
            }
            Ok(found)
        })
    }

    /// Shrinks the file. Worth it when little is left in the store.
    pub(super) fn compact(&mut self) -> Result<(), StoreError> {
        guarded(|| Ok(self.db.compact().map(drop)?))
    }

    fn key(&self, id: i64) -> u64 {
        self.base.saturating_add_signed(id)
    }

    fn id_of(&self, key: u64) -> i64 {
        key.wrapping_sub(self.base).cast_signed()
    }
}

fn read_table(table: &impl ReadableTable<&'static str, u64>) -> Result<Totals, StoreError> {
    let get = |key: &str| Ok::<_, StoreError>(table.get(key)?.map_or(0, |v| v.value()));
    let dropped = Dropped {
        full: get("full")?,
        old: get("old")?,
        damaged: get("damaged")?,
    };
    Ok(Totals {
        entries: get("entries")?,
        bytes: get("bytes")?,
        dropped,
    })
}

fn write_table(table: &mut Table<'_, &'static str, u64>, totals: Totals) -> Result<(), StoreError> {
    let Dropped { full, old, damaged } = totals.dropped;
    for (name, count) in [
        ("entries", totals.entries),
        ("bytes", totals.bytes),
        ("full", full),
        ("old", old),
        ("damaged", damaged),
    ] {
        table.insert(name, count)?;
    }
    Ok(())
}
