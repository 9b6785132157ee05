//! The part of the queue that is on disk: a redb file, written in batches.
//!
//! redb is a crash-safe B-tree: a batch is there whole or not at all, whatever moment the power fails. Opening checks
//! every page; each record has a checksum of its own besides, as a page may go bad while the file is open.

use super::record::{Record, Stamp};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};
use std::io::ErrorKind;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
/// What redb may keep of the file in memory: its own default is a gigabyte.
const CACHE_BYTES: usize = 1 << 20;
/// So many may be dropped in one batch, so that none takes long.
const DROPS_AT_ONCE: u64 = 10_000;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(super) bytes: u64,
    pub(super) age: Duration,
}

/// Events that were given up, since the store was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub(crate) struct Dropped {
    /// For want of room.
    pub(crate) full: u64,
    /// Because they were too old.
    pub(crate) old: u64,
    /// Because the store could not be read any more.
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

    /// Each count at its highest.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            full: self.full.max(other.full),
            old: self.old.max(other.old),
            damaged: self.damaged.max(other.damaged),
        }
    }
}

/// What is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) dropped: Dropped,
}

/// Why the store cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// What is in the file is not what was written; another must be made.
    Damaged(String),
    /// The disk or the system refuses, and may not for ever.
    Refused { kind: ErrorKind, reason: String },
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(e)
                if e.kind() != ErrorKind::InvalidData && e.kind() != ErrorKind::UnexpectedEof =>
            {
                Self::Refused {
                    kind: e.kind(),
                    reason: e.to_string(),
                }
            }
            e @ (redb::Error::PreviousIo
            | redb::Error::DatabaseAlreadyOpen
            | redb::Error::LockPoisoned(_)) => Self::Refused {
                kind: ErrorKind::ResourceBusy,
                reason: e.to_string(),
            },
            e => Self::Damaged(e.to_string()),
        }
    }
}

/// What reading found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(super) records: Vec<(i64, Record)>,
    /// Ids whose bytes are not what was written.
    pub(super) damaged: Vec<i64>,
    /// Where to read on.
    pub(super) next: i64,
}

/// A batch of changes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Batch {
    pub(super) append: Vec<(i64, Arc<Record>)>,
    pub(super) remove: Vec<i64>,
    /// The counts so far.
    pub(super) dropped: Dropped,
    pub(super) now: Stamp,
}

/// The open file. Ids are those of the queue: an earlier process's events lie below 0.
#[derive(Debug)]
pub(crate) struct Store {
    db: Database,
    bounds: Bounds,
    /// The key of id 0.
    base: u64,
    totals: Totals,
}

impl Store {
    /// Opens or makes the file at `path`. `base` is that of the store which this process had open before.
    pub(super) fn open(path: &Path, bounds: Bounds, base: Option<u64>) -> Result<Self, StoreError> {
        Self::with(bounds, base, |builder| builder.create(path))
    }

    /// Opens what a backend holds.
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
                let totals = Totals::of(&txn.open_table(TOTALS)?)?;
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

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Changes the store and syncs it. Where it then holds more than its bounds allow, the oldest go, and the id
    /// below which they went is returned.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<Option<i64>, StoreError> {
        guarded(|| self.commit_unguarded(batch))
    }

    fn commit_unguarded(&mut self, batch: &Batch) -> Result<Option<i64>, StoreError> {
        let mut totals = Totals {
            dropped: batch.dropped.max(self.totals.dropped),
            ..self.totals
        };
        let mut below = None;
        let txn = self.db.begin_write()?;
        {
            let mut events = txn.open_table(EVENTS)?;
            for id in &batch.remove {
                if let Some(old) = events.remove(self.key(*id))? {
                    totals.less(old.value());
                }
            }
            for (id, record) in &batch.append {
                let value = record.encode(self.key(*id));
                totals.entries += 1;
                totals.bytes += value.len() as u64;
                if let Some(old) = events.insert(self.key(*id), value.as_slice())? {
                    totals.less(old.value());
                }
            }
            for _ in 0..DROPS_AT_ONCE {
                let oldest = events
                    .first()?
                    .map(|(key, value)| (key.value(), value.value().to_vec()));
                let Some((key, bytes)) = oldest else { break };
                let full = totals.bytes > self.bounds.bytes;
                if !full && !self.is_old(key, &bytes, &batch.now) {
                    break;
                }
                events.remove(key)?;
                totals.less(&bytes);
                *(if full {
                    &mut totals.dropped.full
                } else {
                    &mut totals.dropped.old
                }) += 1;
                below = Some(self.id(key) + 1);
            }
            let mut table = txn.open_table(TOTALS)?;
            let Dropped { full, old, damaged } = totals.dropped;
            let counts = [("entries", totals.entries), ("bytes", totals.bytes)];
            for (name, count) in
                counts
                    .into_iter()
                    .chain([("full", full), ("old", old), ("damaged", damaged)])
            {
                table.insert(name, count)?;
            }
        }
        txn.commit()?;
        self.totals = totals;
        Ok(below)
    }

    fn is_old(&self, key: u64, bytes: &[u8], now: &Stamp) -> bool {
        let age_ns = Record::decode(key, bytes).and_then(|r| r.queued.age_ns(now));
        age_ns.is_some_and(|ns| u128::from(ns) > self.bounds.age.as_nanos())
    }

    /// The first `count` events with an id in `range`.
    pub(super) fn read(&self, range: &Range<i64>, count: usize) -> Result<Read, StoreError> {
        guarded(|| {
            let events = self.db.begin_read()?.open_table(EVENTS)?;
            let mut found = Read {
                next: range.end,
                ..Read::default()
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

    /// Gives back the disk's space; worth it when little is left in the store.
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

/// What a file holds that nobody writes at present; `None` if it was not closed in order.
pub(super) fn look(path: &Path) -> Result<Option<Totals>, StoreError> {
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
            table => Totals::of(&table?).map(Some),
        }
    })
}

impl Totals {
    fn of(table: &impl ReadableTable<&'static str, u64>) -> Result<Self, StoreError> {
        let get = |key: &str| Ok::<_, StoreError>(table.get(key)?.map_or(0, |v| v.value()));
        let dropped = Dropped {
            full: get("full")?,
            old: get("old")?,
            damaged: get("damaged")?,
        };
        Ok(Self {
            entries: get("entries")?,
            bytes: get("bytes")?,
            dropped,
        })
    }

    fn less(&mut self, value: &[u8]) {
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(value.len() as u64);
    }
}

/// redb may panic on pages that were altered under it: to the queue that is one more way of being damaged.
fn guarded<T>(action: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let panicked = |_| {
        Err(StoreError::Damaged(
            "its pages contradict each other".into(),
        ))
    };
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(panicked)
}
