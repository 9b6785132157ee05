//! The queue's file: a redb database, written in batches.
//!
//! redb is a crash-safe B-tree: after a power failure a batch is either there completely or not at all. Opening checks
//! every page. Each record also has its own checksum, since a page may go bad while the file is open.

use super::record::{Record, Stamp};
use super::store_error::StoreError;
use super::totals::{Bounds, Dropped, Totals};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition,
    TableError,
};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
/// redb's page cache. Its default is a gigabyte.
const CACHE_BYTES: usize = 1 << 20;
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
    bounds: Bounds,
    /// The key of id 0.
    base: u64,
    totals: Totals,
}

impl Store {
    /// Opens or creates the file at `path`. `base`, the key of id 0, is given if this process had the store open before.
    pub(super) fn open(path: &Path, bounds: Bounds, base: Option<u64>) -> Result<Self, StoreError> {
        Self::with(bounds, base, |builder| builder.create(path))
    }

    /// Opens the store in `backend`.
    #[cfg(test)]
    pub(super) fn on(
        backend: impl redb::StorageBackend,
        bounds: Bounds,
        base: Option<u64>,
    ) -> Result<Self, StoreError> {
        Self::with(bounds, base, |builder| builder.create_with_backend(backend))
    }

    fn with(
        bounds: Bounds,
        base: Option<u64>,
        open: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
    ) -> Result<Self, StoreError> {
        guarded(|| {
            let db = open(
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
            Ok(Self {
                db,
                bounds,
                base: base.unwrap_or_else(|| last.map_or(0, |key| key + 1)),
                totals,
            })
        })
    }

    /// The key of id 0.
    pub(super) fn base(&self) -> u64 {
        self.base
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
            below = Some(self.id(key) + 1);
        }
        Ok(below)
    }

    fn is_old(&self, key: u64, bytes: &[u8], now: &Stamp) -> bool {
        let age_ns = Record::decode(key, bytes).and_then(|r| r.queued.age_ns(now));
        age_ns.is_some_and(|ns| u128::from(ns) > self.bounds.age.as_nanos())
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
                let id = self.id(key.value());
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

    fn id(&self, key: u64) -> i64 {
        key.wrapping_sub(self.base).cast_signed()
    }
}

/// Reads the totals of a file that no process has open; `None` if it was not closed cleanly.
pub(super) fn read_totals(path: &Path) -> Result<Option<Totals>, StoreError> {
    guarded(|| {
        let db = match Builder::new()
            .set_cache_size(CACHE_BYTES)
            .open_read_only(path)
        {
            Err(DatabaseError::RepairAborted) => return Ok(None),
            db => db?,
        };
        match db.begin_read()?.open_table(TOTALS) {
            Err(TableError::TableDoesNotExist(_)) => Ok(Some(Totals::default())),
            table => read_table(&table?).map(Some),
        }
    })
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

/// Runs `action`. redb may panic on pages that were altered underneath it; that also counts as
/// damage.
fn guarded<T>(action: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let panicked = |_| Err(StoreError::Damaged("its pages are inconsistent".into()));
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(panicked)
}
