//! The folder of the store's file: how the file is found, created, and moved aside when it is damaged.

use super::medium::{FileId, Medium};
use super::store::Store;
use super::store_error::StoreError;
use super::totals::Bounds;
use crate::publish::state_file;
use std::ffi::CString;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The name of the store's file in its folder.
pub(super) const FILE: &str = "queue.redb";

/// Where a store is. A trait, so that tests can use a disk that fails.
pub(crate) trait StoreLocation: Send {
    /// Opens the store, or creates it if there is none.
    fn open(&self, bounds: Bounds) -> std::result::Result<Store, StoreError>;
    /// Whether the store with this id is still the one here. An error if none can be here.
    fn holds(&self, id: FileId) -> std::result::Result<bool, StoreError>;
    /// Why less than the bounds allow can be kept here, if the disk has too little room.
    fn shortage(&self, bounds: Bounds) -> Option<String>;
    /// Moves a damaged store away and returns its new place.
    fn move_aside(&self) -> Result<String>;
    fn name(&self) -> String;
}

/// A folder on disk.
pub(super) struct QueueFolder(pub(super) PathBuf);

impl QueueFolder {
    /// The store's file, if there is one. Anything else under its name is an error, and is not opened.
    pub(super) fn existing(&self) -> Result<Option<File>> {
        self.check_folder()?;
        state_file::open(&self.0.join(FILE))
    }

    /// Creates a store that vanishes when it is closed, as a trial of [`StoreLocation::open`].
    pub(super) fn try_creating(&self, bounds: Bounds) -> std::result::Result<Store, StoreError> {
        let new = state_file::unfinished(&self.0.join(FILE));
        let file = match std::fs::symlink_metadata(&new) {
            Ok(found) if found.is_dir() => Err(state_file::irregular(&new, found.file_type())),
            _ => tempfile::tempfile_in(&self.0),
        };
        Store::open(Medium::file(file.map_err(redb::Error::Io)?)?, bounds)
    }

    /// Fails if there is no folder to hold the file.
    fn check_folder(&self) -> Result<()> {
        if std::fs::metadata(&self.0)?.is_dir() {
            return Ok(());
        }
        let reason = "it is no folder; correct `queue.folder`";
        Err(Error::new(ErrorKind::NotADirectory, reason))
    }

    /// Creates the file, under another name first, so that a power cut meanwhile leaves nothing that looks damaged.
    fn create(&self, bounds: Bounds) -> std::result::Result<Store, StoreError> {
        let file = self.0.join(FILE);
        let new = state_file::unfinished(&file);
        let medium = Medium::file(state_file::create(&new).map_err(redb::Error::Io)?)?;
        let store = Store::open(medium, bounds)?;
        std::fs::rename(&new, file)
            .and_then(|()| File::open(&self.0)?.sync_all())
            .map_err(redb::Error::Io)?;
        Ok(store)
    }
}

impl StoreLocation for QueueFolder {
    fn open(&self, bounds: Bounds) -> std::result::Result<Store, StoreError> {
        match self.existing().map_err(redb::Error::Io)? {
            Some(file) => {
                state_file::make_private(&file);
                Store::open(Medium::file(file)?, bounds)
            }
            None => self.create(bounds),
        }
    }

    fn holds(&self, id: FileId) -> std::result::Result<bool, StoreError> {
        self.check_folder().map_err(redb::Error::Io)?;
        match std::fs::symlink_metadata(self.0.join(FILE)) {
            Ok(metadata) => Ok(FileId::of(&metadata) == id),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(redb::Error::Io(e).into()),
        }
    }

    fn shortage(&self, bounds: Bounds) -> Option<String> {
        let used = std::fs::metadata(self.0.join(FILE)).map_or(0, |file| file.len());
        let room = free_bytes(&self.0)?.saturating_add(used);
        (room < bounds.bytes).then(|| {
            format!(
                "the disk has room for {} MiB, `queue.max_mib` allows {}; make room, or lower it",
                room >> 20,
                bounds.bytes >> 20
            )
        })
    }

    fn move_aside(&self) -> Result<String> {
        let aside = self.0.join("queue.redb.damaged");
        std::fs::rename(self.0.join(FILE), &aside)?;
        Ok(aside.display().to_string())
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

/// Bytes that this user may still write to the file system of `folder`.
#[allow(
    clippy::useless_conversion,
    reason = "the fields have 32 bits on 32-bit machines"
)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut found = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a C string, and statvfs fills in the whole structure if it returns 0.
    let found = unsafe {
        if libc::statvfs(path.as_ptr(), found.as_mut_ptr()) != 0 {
            return None;
        }
        found.assume_init()
    };
    Some(u64::from(found.f_bavail).saturating_mul(u64::from(found.f_frsize)))
}
