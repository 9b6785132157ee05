//! Inspects a queue's folder without changing it, for `constancy check`.

use super::folder::{QueueFolder, StoreLocation};
use super::medium::Medium;
use super::record::{Record, Stamp};
use super::store::{Store, WriteBatch};
use super::store_error::{StoreError, explain_refusal};
use super::totals::{Bounds, Totals};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Describes what a folder holds, or says why the queue cannot be kept there. Finds and creates the file as the daemon does.
pub(in crate::publish) fn inspect(
    folder: &Path,
    bytes: u64,
    age: Duration,
) -> Result<String, String> {
    let folder = QueueFolder(folder.into());
    let bounds = Bounds { bytes, age };
    let explain = |error| match error {
        StoreError::Refused { kind, reason } => explain_refusal(kind, &reason),
        StoreError::Damaged(what) => {
            format!(
                "the file is damaged ({what}); the next start moves it aside and creates a new one"
            )
        }
    };
    let file = folder
        .existing()
        .map_err(|e| explain(redb::Error::Io(e).into()))?;
    try_writing(&folder, bounds).map_err(explain)?;
    if let Some(shortage) = folder.shortage(bounds) {
        return Err(shortage);
    }
    let Some(file) = file else {
        return Ok("empty".into());
    };
    match read_totals(&folder, &file, bounds) {
        Ok(Totals {
            entries,
            bytes,
            dropped,
        }) => {
            let kib = bytes / 1024;
            Ok(format!(
                "{entries} events wait ({kib} KiB), {} were dropped so far",
                dropped.total()
            ))
        }
        Err(StoreError::Refused {
            kind: ErrorKind::ResourceBusy,
            ..
        }) => Ok("in use by a running daemon".into()),
        Err(error) => Err(explain(error)),
    }
}

/// Opens a copy as the daemon opens the file: with a check of every page, and recovery after a crash. Without that check redb
/// follows a damaged page and may ask for gigabytes.
fn read_totals(
    folder: &QueueFolder,
    mut file: &File,
    bounds: Bounds,
) -> Result<Totals, StoreError> {
    // redb holds this lock as long as a daemon has the file open.
    if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
        return Err(redb::Error::DatabaseAlreadyOpen.into());
    }
    let mut copy = tempfile::tempfile_in(&folder.0).map_err(redb::Error::Io)?;
    std::io::copy(&mut file, &mut copy).map_err(redb::Error::Io)?;
    let store = Store::open(Medium::file(copy)?, bounds)?;
    let totals = store.totals();
    store.close();
    Ok(totals)
}

/// Writes a batch to a store that vanishes.
fn try_writing(folder: &QueueFolder, bounds: Bounds) -> Result<(), StoreError> {
    let record = Record {
        topic: "check".into(),
        payload: vec![0; 4096],
        queued: Stamp::default(),
    };
    let mut store = folder.try_creating(bounds)?;
    let written = store.commit(&WriteBatch {
        append: vec![(0, Arc::new(record))],
        ..WriteBatch::default()
    });
    store.close();
    written.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::queue::folder::FILE;

    const BOUNDS: Bounds = Bounds {
        bytes: 1 << 20,
        age: Duration::from_secs(3600),
    };

    fn inspect(folder: &Path) -> Result<String, String> {
        super::inspect(folder, BOUNDS.bytes, BOUNDS.age)
    }

    #[test]
    fn a_folder_is_described_and_left_unchanged() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(inspect(folder.path()), Ok("empty".into()));
        let file = folder.path().join(FILE);
        let mut store = QueueFolder(folder.path().into())
            .open(BOUNDS)
            .expect("store");
        let record = Record {
            topic: "t".into(),
            payload: vec![0; 1500],
            queued: Stamp::default(),
        };
        let append = vec![(0, Arc::new(record.clone())), (1, Arc::new(record))];
        store
            .commit(&WriteBatch {
                append,
                ..WriteBatch::default()
            })
            .expect("commit");
        assert_eq!(
            inspect(folder.path()),
            Ok("in use by a running daemon".into())
        );
        drop(store);
        let before = std::fs::read(&file).expect("file");
        assert_eq!(
            inspect(folder.path()),
            Ok("2 events wait (2 KiB), 0 were dropped so far".into())
        );
        assert_eq!(std::fs::read(&file).expect("file"), before);
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("folder").count(),
            1,
            "nothing is left behind"
        );
        std::fs::write(&file, vec![7; 9000]).expect("noise");
        assert!(
            inspect(folder.path())
                .expect_err("damaged")
                .contains("moves it aside")
        );
        let gone = inspect(&folder.path().join("gone")).expect_err("no such folder");
        assert!(
            gone.contains("there is no such folder; create it, or correct `queue.folder`"),
            "{gone}"
        );
    }
}
