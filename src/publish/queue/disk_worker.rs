//! Carries out the queue's disk operations, and logs once when the disk fails and once when it works again.

use super::folder::{QueueFolder, StoreLocation};
use super::medium::FileId;
use super::store::{Store, WriteBatch};
use super::store_error::{StoreError, explain_refusal};
use super::totals::Bounds;
use super::work::{Opened, Work, WorkOutcome};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bounds of the wait between attempts to open the store again; it doubles from one to the other.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Short, since a disk that has room again should be used again at once; a write that fails costs it nothing.
const RETRY_MAX: Duration = Duration::from_secs(4);

/// The store that ids belong to.
#[derive(Clone, Copy)]
struct Known {
    file: FileId,
    /// The key of id 0.
    base: u64,
}

/// Owns the store.
pub(crate) struct DiskWorker {
    location: Box<dyn StoreLocation>,
    bounds: Bounds,
    store: Option<Store>,
    /// The store that was last open.
    known: Option<Known>,
    /// The open store is no longer the one at its place, which is logged.
    displaced: bool,
    retry: Duration,
    /// The fault that was last logged, until the disk works again.
    logged_fault: Option<String>,
}

impl DiskWorker {
    /// For a store in `folder`, with at most `bytes` of events, none older than `age`.
    pub(crate) fn new(folder: &Path, bytes: u64, age: Duration) -> Self {
        Self::at(Box::new(QueueFolder(folder.into())), Bounds { bytes, age })
    }

    pub(super) fn at(location: Box<dyn StoreLocation>, bounds: Bounds) -> Self {
        Self {
            location,
            bounds,
            store: None,
            known: None,
            displaced: false,
            retry: RETRY_MIN,
            logged_fault: None,
        }
    }

    #[cfg(test)]
    pub(super) fn has_store(&self) -> bool {
        self.store.is_some()
    }

    /// Carries out one operation. Blocks for as long as the disk takes.
    pub(crate) fn carry_out(&mut self, work: Work, now: Instant) -> WorkOutcome {
        match self.try_carrying_out(work, now) {
            Ok(outcome) => {
                // Opening alone proves nothing: a full disk can be read.
                if matches!(outcome, WorkOutcome::Committed { .. }) {
                    self.recovered();
                }
                outcome
            }
            Err(error) => self.failed(error, now),
        }
    }

    fn try_carrying_out(&mut self, work: Work, now: Instant) -> Result<WorkOutcome, StoreError> {
        if let Work::Open = work {
            return self.open().map(WorkOutcome::Opened);
        }
        let Some(store) = &mut self.store else {
            return Err(StoreError::Refused {
                kind: ErrorKind::Other,
                reason: "it is not open".into(),
            });
        };
        if let Work::Read(ids, count) = work {
            return store.read(&ids, count).map(WorkOutcome::Read);
        }
        match self.location.holds(store.id()) {
            Ok(true) => self.displaced = false,
            Ok(false) if self.displaced => return Ok(self.move_to_new_file(now)),
            Ok(false) => return Ok(self.displaced(now)),
            Err(error) => return Ok(self.unavailable(error, true, now)),
        }
        match work {
            Work::Commit(batch) => commit(store, batch),
            Work::Compact => store.compact().map(|()| WorkOutcome::Compacted),
            Work::Verify | Work::Open | Work::Read(..) => Ok(WorkOutcome::Verified),
        }
    }

    fn open(&mut self) -> Result<Opened, StoreError> {
        let store = self.location.open(self.bounds)?;
        let totals = store.totals();
        if totals.entries > 0 && self.logged_fault.is_none() {
            log::info!(
                "queue {}: {} events wait from an earlier run",
                self.location.name(),
                totals.entries
            );
        }
        if self.known.is_none()
            && let Some(shortage) = self.location.shortage(self.bounds)
        {
            log::warn!("queue {}: {shortage}", self.location.name());
        }
        let replaced = self.known.is_some_and(|known| known.file != store.id());
        let store = self.keeping_ids(store);
        Ok(self.opened(store, !replaced))
    }

    /// Gives the events of a store that has taken another's place ids below all that are in use.
    fn keeping_ids(&self, store: Store) -> Store {
        let base = match self.known {
            Some(known) if known.file == store.id() => known.base,
            Some(known) => store.base().saturating_add(known.base),
            None => store.base(),
        };
        store.with_base(base)
    }

    /// Takes `store` into use. `is_complete`: it has everything that the queue knows to be on disk.
    fn opened(&mut self, store: Store, is_complete: bool) -> Opened {
        let lowest = |base: u64| 0i64.saturating_sub_unsigned(base);
        let new_ids = match self.known {
            Some(known) if known.file == store.id() => 0..0,
            Some(known) => lowest(store.base())..lowest(known.base),
            None => lowest(store.base())..0,
        };
        self.known = Some(Known {
            file: store.id(),
            base: store.base(),
        });
        let totals = store.totals();
        self.store = Some(store);
        self.displaced = false;
        Opened {
            totals,
            new_ids,
            is_complete,
        }
    }

    /// The file at the store's place is another, or gone. What the open one holds is moved next.
    fn displaced(&mut self, now: Instant) -> WorkOutcome {
        let name = self.location.name();
        log::warn!(
            "queue {name}: its file was removed or replaced while in use; what it held goes to the file that is there now"
        );
        self.displaced = true;
        let reason = "its file was removed or replaced; events are being moved".to_owned();
        self.logged_fault = Some(reason.clone());
        WorkOutcome::Unavailable {
            reason,
            retry_at: now,
            readable: true,
        }
    }

    /// Moves the events of a store that was displaced to the one that is there now.
    fn move_to_new_file(&mut self, now: Instant) -> WorkOutcome {
        let opened = match self.location.open(self.bounds) {
            Err(StoreError::Damaged(what)) => match self.set_aside(&what) {
                Ok(()) => self.location.open(self.bounds),
                Err(error) => Err(error),
            },
            opened => opened,
        };
        let mut new = match opened {
            Ok(store) => self.keeping_ids(store),
            Err(error) => return self.unavailable(error, true, now),
        };
        let Some(old) = self.store.take() else {
            return WorkOutcome::Opened(self.opened(new, false));
        };
        let count = old.totals().entries;
        match new.adopt(&old) {
            Err(error) => {
                new.close();
                self.store = Some(old);
                self.unavailable(error, true, now)
            }
            Ok(adopted) => {
                old.close();
                match &adopted {
                    Ok(()) => log::info!(
                        "queue {}: {count} events were moved to the new file",
                        self.location.name()
                    ),
                    Err(e) => log::warn!(
                        "queue {}: the old file cannot be read any more ({e}); {count} events are lost unless they are in memory",
                        self.location.name()
                    ),
                }
                WorkOutcome::Opened(self.opened(new, adopted.is_ok()))
            }
        }
    }

    fn recovered(&mut self) {
        self.retry = RETRY_MIN;
        if self.logged_fault.take().is_some() {
            log::info!(
                "queue {}: it can be written again; events go to disk again",
                self.location.name()
            );
        }
    }

    /// Closes the store, since redb must be reopened after any error, and opens it again for reading if possible.
    fn failed(&mut self, error: StoreError, now: Instant) -> WorkOutcome {
        let store = self.store.take();
        if let StoreError::Damaged(what) = &error {
            let is_here = store
                .as_ref()
                .is_none_or(|store| self.location.holds(store.id()) == Ok(true));
            if let Some(store) = store {
                store.close();
            }
            // A displaced file has no name any more that it could be moved from.
            return match is_here.then(|| self.set_aside(what)) {
                Some(Err(error)) => self.unavailable(error, false, now),
                _ => WorkOutcome::Lost { retry_at: now },
            };
        }
        self.store = store.and_then(|store| store.reopen().ok());
        self.unavailable(error, self.store.is_some(), now)
    }

    /// Moves the damaged file at the store's place away.
    fn set_aside(&self, what: &str) -> Result<(), StoreError> {
        let name = self.location.name();
        let aside = self
            .location
            .move_aside()
            .map_err(|e| StoreError::Refused {
                kind: ErrorKind::Other,
                reason: format!("the file is damaged ({what}), and cannot be moved aside: {e}"),
            })?;
        log::warn!(
            "queue {name}: the file is damaged ({what}) and was moved to {aside}; events that only it held are lost, and a new file is in use"
        );
        Ok(())
    }

    /// `readable`: the store is still open.
    fn unavailable(&mut self, error: StoreError, readable: bool, now: Instant) -> WorkOutcome {
        let (kind, reason) = match error {
            StoreError::Refused { kind, reason } => (kind, explain_refusal(kind, &reason)),
            StoreError::Damaged(what) => (ErrorKind::InvalidData, what),
        };
        if self.logged_fault.as_ref() != Some(&reason) {
            let name = self.location.name();
            log::warn!(
                "queue {name}: {reason}. Events wait in memory until it can be written again"
            );
            self.logged_fault = Some(reason.clone());
        }
        let retry_at = now + self.retry;
        // Looking for a folder costs nothing.
        if kind != ErrorKind::NotFound {
            self.retry = (self.retry * 2).min(RETRY_MAX);
        }
        WorkOutcome::Unavailable {
            reason,
            retry_at,
            readable,
        }
    }
}

impl Drop for DiskWorker {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            store.close();
        }
    }
}

fn commit(store: &mut Store, batch: WriteBatch) -> Result<WorkOutcome, StoreError> {
    let dropped_below = store.commit(&batch)?;
    Ok(WorkOutcome::Committed {
        batch,
        dropped_below,
        totals: store.totals(),
    })
}
