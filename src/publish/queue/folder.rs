//! The folder of the store's file: how the file is created, and moved aside when it is damaged.

use super::store::Store;
use super::store_error::StoreError;
use super::totals::Bounds;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The name of the store's file in its folder.
pub(super) const FILE: &str = "queue.redb";

/// Where a store is. A trait, so that tests can use a disk that fails.
pub(crate) trait StoreLocation: Send {
    fn open(&self, bounds: Bounds, base: Option<u64>) -> Result<Store, StoreError>;
    /// Moves a damaged store away and returns its new place.
    fn move_aside(&self) -> std::io::Result<String>;
    fn name(&self) -> String;
}

/// A folder on disk.
pub(super) struct QueueFolder(pub(super) PathBuf);

impl QueueFolder {
    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }
}

impl StoreLocation for QueueFolder {
    fn open(&self, bounds: Bounds, base: Option<u64>) -> Result<Store, StoreError> {
        let file = self.file();
        if !file.exists() {
            // Created under another name, so that a power cut meanwhile leaves nothing that looks damaged.
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
