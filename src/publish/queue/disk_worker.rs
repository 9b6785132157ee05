//! Carries out the queue's disk operations, and logs once when the disk fails and once when it works again.

use super::folder::{QueueFolder, StoreLocation};
use super::store::{Store, WriteBatch};
use super::store_error::{StoreError, explain_refusal};
use super::totals::{Bounds, Totals};
use super::work::{Work, WorkOutcome};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bounds of the wait between attempts to open the store again; it doubles from one to the other.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Owns the store.
pub(crate) struct DiskWorker {
    location: Box<dyn StoreLocation>,
    bounds: Bounds,
    store: Option<Store>,
    /// The key of id 0, once the store has been open.
    base: Option<u64>,
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
            base: None,
            retry: RETRY_MIN,
            logged_fault: None,
        }
    }

    /// Carries out one operation. Blocks for as long as the disk takes.
    pub(crate) fn carry_out(&mut self, work: Work, now: Instant) -> WorkOutcome {
        let result = match (work, &mut self.store) {
            (Work::Open, _) => self
                .open()
                .map(|(totals, ids)| WorkOutcome::Opened(totals, ids)),
            (_, None) => Err(StoreError::Refused {
                kind: ErrorKind::Other,
                reason: "it is not open".into(),
            }),
            (Work::Commit(batch), Some(store)) => commit(store, batch),
            (Work::Read(ids, count), Some(store)) => store.read(&ids, count).map(WorkOutcome::Read),
            (Work::Compact, Some(store)) => store.compact().map(|()| WorkOutcome::Compacted),
        };
        match result {
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

    fn open(&mut self) -> Result<(Totals, Range<i64>), StoreError> {
        let store = self.location.open(self.bounds, self.base)?;
        let ids = 0i64.saturating_sub_unsigned(store.base())..0;
        let totals = store.totals();
        self.base = Some(store.base());
        self.store = Some(store);
        if totals.entries > 0 && self.logged_fault.is_none() {
            log::info!(
                "queue {}: {} events wait from an earlier run",
                self.location.name(),
                totals.entries
            );
        }
        Ok((totals, ids))
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
        let was_open = self.store.take().is_some();
        let name = self.location.name();
        let reason = match error {
            StoreError::Damaged(what) => match self.location.move_aside() {
                Ok(aside) => {
                    log::warn!(
                        "queue {name}: the file is damaged ({what}) and was moved to {aside}; events that only it held are lost, and a new file is in use"
                    );
                    return WorkOutcome::Lost { retry_at: now };
                }
                Err(e) => format!("the file is damaged ({what}), and cannot be moved aside: {e}"),
            },
            StoreError::Refused { kind, reason } => explain_refusal(kind, &reason),
        };
        if self.logged_fault.as_ref() != Some(&reason) {
            log::warn!(
                "queue {name}: {reason}. Events wait in memory until it can be written again"
            );
            self.logged_fault = Some(reason.clone());
        }
        let retry_at = now + self.retry;
        self.retry = (self.retry * 2).min(RETRY_MAX);
        // A full disk can still be read, so its events go out in order.
        let readable = was_open && self.open().is_ok();
        WorkOutcome::Unavailable {
            reason,
            retry_at,
            readable,
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
