//! A model file under a passing name, until it is whole and measured.

use super::super::onnx::{OnnxFile, metadata};
use super::super::{Manifest, sha256_of};
use super::{FileReport, QuantiseError};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// What is written before it takes its name; removed unless it does.
pub(super) struct Partial {
    out: PathBuf,
    path: PathBuf,
    bytes: u64,
}

impl Partial {
    /// Makes the file beside `out`, empty: what cannot be written is known before the work starts.
    pub(super) fn create(out: &Path) -> Result<Self, QuantiseError> {
        let new = Self {
            out: out.into(),
            path: beside(out),
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

    /// Adds entries of metadata at the end.
    pub(super) fn describe(&self, entries: &[(&str, String)]) -> Result<(), QuantiseError> {
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).open(&self.path)?;
            file.write_all(&metadata(entries))?;
            // A board that loses power afterwards has the old file or the new one.
            file.sync_all()
        };
        write().map_err(|e| self.failed(e))
    }

    /// What the file is, under the name that it will have.
    pub(super) fn report(&self) -> Result<FileReport, QuantiseError> {
        let sha256 = sha256_of(&self.path).map_err(|e| self.failed(e))?;
        let bytes = fs::metadata(&self.path).map_err(|e| self.failed(e))?.len();
        Ok(FileReport {
            file: self.out.clone(),
            sha256,
            bytes,
        })
    }

    /// Gives the file its name, and `manifest` its own.
    pub(super) fn finish(&self, manifest: &Manifest) -> Result<(), QuantiseError> {
        let text = toml::to_string(manifest).map_err(|e| self.failed(io::Error::other(e)))?;
        let text = format!("# Written by `constancy model quantise`.\n{text}");
        let described = beside(&manifest.path);
        let named = fs::write(&described, text)
            .and_then(|()| fs::rename(&self.path, &self.out))
            .and_then(|()| fs::rename(&described, &manifest.path));
        named.map_err(|e| {
            let _ = fs::remove_file(&described);
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
                "{} MB are needed: make room, or name another folder",
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

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already where it has taken its name.
        let _ = fs::remove_file(&self.path);
    }
}

/// The passing name of a file.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
