//! Does the queue's work on disk, and says once when the disk fails and when it is back.

use super::store::{Batch, Bounds, Store, StoreError, Totals};
use super::{Done, Work};
use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Waits between attempts to open the store again.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Where a store lies; tests put one where writing fails.
pub(crate) trait Place: Send {
    fn open(&self, bounds: Bounds, base: Option<u64>) -> Result<Store, StoreError>;
    /// Takes away what is damaged; where it is then.
    fn move_aside(&self) -> std::io::Result<String>;
    fn name(&self) -> String;
}

/// The store's file in its folder.
pub(super) const FILE: &str = "queue.redb";

/// A folder with the store's file.
struct Folder(PathBuf);

impl Folder {
    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }
}

impl Place for Folder {
    fn open(&self, bounds: Bounds, base: Option<u64>) -> Result<Store, StoreError> {
        let file = self.file();
        if !file.exists() {
            // Made under another name, so that a power cut meanwhile leaves nothing that looks damaged.
            let new = self.0.join("queue.redb.new");
            remove_if_there(&new)?;
            drop(Store::open(&new, bounds, base)?);
            std::fs::rename(&new, &file)
                .and_then(|()| File::open(&self.0)?.sync_all())
                .map_err(redb::Error::Io)?;
        }
        Store::open(&file, bounds, base)
    }

    fn move_aside(&self) -> std::io::Result<String> {
        let aside = self.0.join("queue.redb.damaged");
        std::fs::rename(self.file(), &aside)?;
        Ok(aside.display().to_string())
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(redb::Error::Io(e).into()),
        _ => Ok(()),
    }
}

/// Owns the store.
pub(crate) struct Keeper {
    place: Box<dyn Place>,
    bounds: Bounds,
    store: Option<Store>,
    base: Option<u64>,
    retry: Duration,
    /// The trouble that was last told.
    told: Option<String>,
}

impl Keeper {
    /// For a store in `folder`, with at most `bytes` of events, none older than `age`.
    pub(crate) fn new(folder: &Path, bytes: u64, age: Duration) -> Self {
        Self::at(Box::new(Folder(folder.into())), Bounds { bytes, age })
    }

    pub(super) fn at(place: Box<dyn Place>, bounds: Bounds) -> Self {
        Self {
            place,
            bounds,
            store: None,
            base: None,
            retry: RETRY_MIN,
            told: None,
        }
    }

    /// Does what the queue asks; takes as long as the disk does.
    pub(crate) fn carry_out(&mut self, work: Work, now: Instant) -> Done {
        let result = match (work, &mut self.store) {
            (Work::Open, _) => self.open().map(|(totals, ids)| Done::Opened(totals, ids)),
            (_, None) => Err(StoreError::Refused {
                kind: ErrorKind::Other,
                reason: "it is not open".into(),
            }),
            (Work::Commit(batch), Some(store)) => commit(store, batch),
            (Work::Read(ids, count), Some(store)) => store.read(&ids, count).map(Done::Read),
            (Work::Compact, Some(store)) => store.compact().map(|()| Done::Compacted),
        };
        match result {
            Ok(done) => {
                // Opening alone proves nothing: a full disk lets itself be read.
                if matches!(done, Done::Committed { .. }) {
                    self.recovered();
                }
                done
            }
            Err(error) => self.failed(error, now),
        }
    }

    fn open(&mut self) -> Result<(Totals, Range<i64>), StoreError> {
        let store = self.place.open(self.bounds, self.base)?;
        let ids = 0i64.saturating_sub_unsigned(store.base())..0;
        let totals = store.totals();
        self.base = Some(store.base());
        self.store = Some(store);
        if totals.entries > 0 && self.told.is_none() {
            log::info!(
                "queue {}: {} events wait from before",
                self.place.name(),
                totals.entries
            );
        }
        Ok((totals, ids))
    }

    fn recovered(&mut self) {
        self.retry = RETRY_MIN;
        if self.told.take().is_some() {
            log::info!(
                "queue {}: it can be written again; what waited in memory is on disk",
                self.place.name()
            );
        }
    }

    /// After any error redb wants to be opened again.
    fn failed(&mut self, error: StoreError, now: Instant) -> Done {
        let was_open = self.store.take().is_some();
        let name = self.place.name();
        let reason = match error {
            StoreError::Damaged(what) => match self.place.move_aside() {
                Ok(aside) => {
                    log::warn!(
                        "queue {name}: the file is damaged ({what}) and lies in {aside} now; what only it held is lost, a new one is made"
                    );
                    return Done::Lost { retry: now };
                }
                Err(e) => format!("the file is damaged ({what}), and cannot be moved aside: {e}"),
            },
            StoreError::Refused { kind, reason } => refusal(kind, &reason),
        };
        if self.told.as_ref() != Some(&reason) {
            log::warn!(
                "queue {name}: {reason}. Events wait in memory until it can be written again"
            );
            self.told = Some(reason.clone());
        }
        let retry = now + self.retry;
        self.retry = (self.retry * 2).min(RETRY_MAX);
        // What is on a full disk can be read, and goes out in its order.
        let readable = was_open && self.open().is_ok();
        Done::Away {
            reason,
            retry,
            readable,
        }
    }
}

fn commit(store: &mut Store, batch: Batch) -> Result<Done, StoreError> {
    let below = store.commit(&batch)?;
    Ok(Done::Committed {
        batch,
        below,
        totals: store.totals(),
    })
}

/// The system's refusal in the operator's words, with the way out.
pub(super) fn refusal(kind: ErrorKind, reason: &str) -> String {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full; make room, or lower `queue.max_mib`".into()
        }
        ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; remount it, or see what is wrong with it".into()
        }
        ErrorKind::PermissionDenied => {
            "permission denied; give `queue.folder` to the user that the daemon runs as".into()
        }
        ErrorKind::NotFound => {
            "there is no such folder; create it, or correct `queue.folder`".into()
        }
        ErrorKind::ResourceBusy => {
            format!("{reason}; does another daemon use the same `queue.folder`?")
        }
        _ => reason.to_owned(),
    }
}
