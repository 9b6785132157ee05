//! Files that keep state over restarts: readable by their owner alone, never a link's target, a FIFO or a device.

use std::fs::{File, FileType, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The permissions that a state file may have: it tells what cameras saw.
const MODE: u32 = 0o640;

/// Opens a regular file for reading and writing; `None` if there is nothing. Anything else is an error, and is not opened.
pub(crate) fn open(path: &Path) -> Result<Option<File>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(metadata) => return Err(irregular(path, metadata.file_type())),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    // What has come meanwhile is neither waited for nor followed.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        Ok(Some(file))
    } else {
        Err(irregular(path, kind))
    }
}

/// The error for something that is not a file.
pub(super) fn irregular(path: &Path, kind: FileType) -> Error {
    let kind = match kind {
        k if k.is_dir() => "a folder",
        k if k.is_symlink() => "a link",
        k if k.is_fifo() => "a FIFO",
        k if k.is_socket() => "a socket",
        _ => "a device",
    };
    let name = path.file_name().unwrap_or_default().display();
    let reason = format!("`{name}` is {kind} and must be a file; remove it");
    Error::new(ErrorKind::InvalidInput, reason)
}

/// Creates an empty file in place of whatever is there, except a folder. What a link leads to is left alone.
pub(super) fn create(path: &Path) -> Result<File> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Err(irregular(path, metadata.file_type())),
        Ok(_) => std::fs::remove_file(path)?,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// The name that a file has until it is complete.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

/// Puts a whole file in the place of an earlier one; after a power cut, either is there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = unfinished(path);
    let mut file = create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The first `limit` bytes of a file.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Takes permissions that a state file should not have; only its owner can.
pub(super) fn make_private(file: &File) {
    if let Ok(metadata) = file.metadata() {
        let mode = metadata.permissions().mode() & 0o777;
        if mode & !MODE != 0 {
            let _ = file.set_permissions(Permissions::from_mode(mode & MODE));
        }
    }
}
