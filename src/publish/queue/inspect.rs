//! What is in a queue's folder, without touching it: for `constancy check`.

use super::keeper::{FILE, refusal};
use super::store::{self, StoreError, Totals};
use std::io::Write as _;
use std::path::Path;

/// Says what is in the folder and that it can be written, or why not.
pub(in crate::publish) fn inspect(folder: &Path) -> Result<String, String> {
    usable(folder)?;
    let file = folder.join(FILE);
    if !file.exists() {
        return Ok("empty".into());
    }
    match store::look(&file) {
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
        Ok(None) => Ok("was not closed in order; what is in it is found at the next start".into()),
        Err(StoreError::Refused {
            kind: std::io::ErrorKind::ResourceBusy,
            ..
        }) => Ok("in use by a daemon at present".into()),
        Err(StoreError::Refused { kind, reason }) => Err(refusal(kind, &reason)),
        Err(StoreError::Damaged(what)) => Err(format!(
            "the file is damaged ({what}); the next start moves it aside and makes another"
        )),
    }
}

/// Whether something can be written there, and reaches the disk.
fn usable(folder: &Path) -> Result<(), String> {
    let written = tempfile::tempfile_in(folder)
        .and_then(|mut file| file.write_all(&[0; 4096]).and(file.sync_all()));
    written.map_err(|e| refusal(e.kind(), &e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::queue::record::{Record, Stamp};
    use crate::publish::queue::store::{Batch, Bounds, Store};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn what_is_there_is_told_and_left_as_it_is() {
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
            .commit(&Batch {
                append,
                ..Batch::default()
            })
            .expect("commit");
        assert_eq!(
            inspect(folder.path()),
            Ok("in use by a daemon at present".into())
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
        let gone = inspect(&folder.path().join("gone")).expect_err("there is none");
        assert!(
            gone.contains("there is no such folder; create it, or correct `queue.folder`"),
            "{gone}"
        );
    }
}
