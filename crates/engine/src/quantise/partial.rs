//! A model file under a temporary name, until it is complete and checked.

use super::error::QuantiseError;
use super::report::FileReport;
use crate::digest::sha256_of;
use crate::manifest::Manifest;
use crate::onnx::{OnnxFile, metadata_fields};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// A file under a temporary name next to its final one; removed if it is not renamed.
pub(super) struct PartialFile {
    /// The final name.
    out: PathBuf,
    /// The temporary name.
    path: PathBuf,
    /// Size, once it is known.
    bytes: u64,
}

impl PartialFile {
    /// Creates the empty file, so that a folder that cannot be written to is found before the work
    /// starts.
    pub(super) fn create(out: &Path) -> Result<Self, QuantiseError> {
        let new = Self {
            out: out.into(),
            path: temporary_name(out),
            bytes: 0,
        };
        File::create(&new.path).map_err(|e| new.failed(e))?;
        Ok(new)
    }

    pub(super) fn write(&mut self, file: &OnnxFile) -> Result<(), QuantiseError> {
        self.bytes = file.written_len();
        let write = || -> io::Result<()> {
            let mut writer = BufWriter::with_capacity(1 << 20, File::create(&self.path)?);
            file.write(&mut writer)?;
            writer.flush()
        };
        write().map_err(|e| self.failed(e))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends metadata and writes the file to the disk.
    pub(super) fn append_metadata(&self, entries: &[(&str, String)]) -> Result<(), QuantiseError> {
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).open(&self.path)?;
            file.write_all(&metadata_fields(entries))?;
            // A board that loses power after the renaming has the old file or the whole new one.
            file.sync_all()
        };
        write().map_err(|e| self.failed(e))
    }

    /// Hash and size of the file, under its final name.
    pub(super) fn report(&self) -> Result<FileReport, QuantiseError> {
        let sha256 = sha256_of(&self.path).map_err(|e| self.failed(e))?;
        let bytes = fs::metadata(&self.path).map_err(|e| self.failed(e))?.len();
        Ok(FileReport {
            file: self.out.clone(),
            sha256,
            bytes,
        })
    }

    /// Renames the file to its final name, and writes `manifest` to its own.
    pub(super) fn rename(&self, manifest: &Manifest) -> Result<(), QuantiseError> {
        let text = toml::to_string(manifest).map_err(|e| self.failed(io::Error::other(e)))?;
        let text = format!("# Written by `constancy model quantise`.\n{text}");
        let temporary = temporary_name(&manifest.path);
        let renamed = fs::write(&temporary, text)
            .and_then(|()| fs::rename(&self.path, &self.out))
            .and_then(|()| fs::rename(&temporary, &manifest.path));
        renamed.map_err(|e| {
            let _ = fs::remove_file(&temporary);
            self.failed(e)
        })
    }

    fn failed(&self, source: io::Error) -> QuantiseError {
        let hint = match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => "make its folder first".to_owned(),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "name a folder that you may write to".to_owned()
            }
            _ => format!(
                "it needs {} MB: make room, or name another folder",
                self.bytes.div_ceil(1_000_000)
            ),
        };
        QuantiseError::Write {
            path: self.out.clone(),
            hint,
            source,
        }
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // Fails if the file has been renamed, as it should.
        let _ = fs::remove_file(&self.path);
    }
}

/// The temporary name of a file.
fn temporary_name(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
