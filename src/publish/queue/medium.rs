//! What redb keeps a store in, which can be opened again after an error; redb's panics count as damage.

use super::store_error::StoreError;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError};
use std::fmt;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    /// Inodes are used again. Not every file system tells this.
    created: Option<SystemTime>,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            created: metadata.created().ok(),
        }
    }

    #[cfg(test)]
    pub(super) fn of_test(inode: u64) -> Self {
        Self {
            device: 0,
            inode,
            created: None,
        }
    }
}

type Opener = Box<dyn Fn(&Builder) -> Result<Database, DatabaseError> + Send>;

/// The file of a store. It keeps the file open, so that its events can be read after its name is gone.
pub(crate) struct Medium {
    id: FileId,
    open: Opener,
}

impl Medium {
    pub(super) fn file(file: File) -> Result<Self, StoreError> {
        let id = FileId::of(&file.metadata().map_err(redb::Error::Io)?);
        let open = move |builder: &Builder| {
            builder.create_with_backend(FileBackend::new(file.try_clone()?)?)
        };
        Ok(Self {
            id,
            open: Box::new(open),
        })
    }

    #[cfg(test)]
    pub(super) fn backend(id: FileId, backend: impl redb::StorageBackend + Clone) -> Self {
        Self {
            id,
            open: Box::new(move |builder| builder.create_with_backend(backend.clone())),
        }
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        (self.open)(builder)
    }
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// Runs `action`. redb may panic on pages that were altered underneath it; that also counts as damage.
pub(super) fn guarded<T>(action: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let panicked = |_| Err(StoreError::Damaged("its pages are inconsistent".into()));
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(panicked)
}
