//! Inspects a queue's folder without changing it, for `constancy check`.

use super::folder::FILE;
use super::store;
use super::store_error::{StoreError, explain_refusal};
use super::totals::Totals;
use std::io::Write as _;
use std::path::Path;

/// Describes what a writable folder holds, or says why it cannot be used.
pub(in crate::publish) fn inspect(folder: &Path) -> Result<String, String> {
    try_writing(folder)?;
    let file = folder.join(FILE);
    if !file.exists() {
        return Ok("empty".into());
    }
    match store::read_totals(&file) {
        Ok(Some(Totals {
            entries,
            bytes,
            dropped,
        })) => {
            let kib = bytes / 1024;
            Ok(format!(
                "{entries} events wait ({kib} KiB), {} were dropped so far",
                dropped.total()
            ))
        }
        Ok(None) => Ok("was not closed cleanly; the next start recovers it".into()),
        Err(StoreError::Refused {
            kind: std::io::ErrorKind::ResourceBusy,
            ..
        }) => Ok("in use by a running daemon".into()),
        Err(StoreError::Refused { kind, reason }) => Err(explain_refusal(kind, &reason)),
        Err(StoreError::Damaged(what)) => Err(format!(
            "the file is damaged ({what}); the next start moves it aside and creates a new one"
        )),
    }
}

/// Writes and syncs a temporary file in the folder.
fn try_writing(folder: &Path) -> Result<(), String> {
    let written = tempfile::tempfile_in(folder)
        .and_then(|mut file| file.write_all(&[0; 4096]).and(file.sync_all()));
    written.map_err(|e| explain_refusal(e.kind(), &e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::queue::record::{Record, Stamp};
    use crate::publish::queue::store::{Store, WriteBatch};
    use crate::publish::queue::totals::Bounds;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_folder_is_described_and_left_unchanged() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(inspect(folder.path()), Ok("empty".into()));
        let bounds = Bounds {
            bytes: 1 << 20,
            age: Duration::from_secs(3600),
        };
        let file = folder.path().join(FILE);
        let mut store = Store::open(&file, bounds, None).expect("store");
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
