//! The folder of pairs: images without loss, and a manifest that names whole pairs only.

use super::super::picture::png;
use super::view::Seen;
use crate::cli::CliError;
use crate::cli::output::{Target, check_targets, write_file};
use crate::cli::pairs::{MANIFEST, Pair};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A folder that pairs are added to.
pub(super) struct Store {
    folder: PathBuf,
    path: PathBuf,
    manifest: File,
    /// The number of the next image.
    next: usize,
}

impl Store {
    /// Opens the folder, and makes it if it is missing. Pairs of earlier runs stay.
    pub(super) fn open(folder: &Path) -> Result<Self, CliError> {
        check_targets([Target::Folder(folder)])?;
        let path = folder.join(MANIFEST);
        let failed = |source| CliError::Write {
            path: path.clone(),
            source,
        };
        let mut manifest = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let mut bytes = Vec::new();
        manifest.read_to_end(&mut bytes).map_err(failed)?;
        // A run that was killed may have left a part of a line.
        let whole = bytes
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(0, |end| end + 1);
        manifest.set_len(whole as u64).map_err(failed)?;
        manifest.seek(SeekFrom::End(0)).map_err(failed)?;
        let lines = bytes[..whole].split_inclusive(|&b| b == b'\n').count();
        Ok(Self {
            folder: folder.into(),
            path,
            manifest,
            // A pair has two images at most, so no earlier number is reached again.
            next: 2 * lines,
        })
    }

    pub(super) fn manifest(&self) -> &Path {
        &self.path
    }

    /// Writes a picture; returns its name.
    pub(super) fn image(&mut self, seen: &Seen, what: &str) -> Result<PathBuf, CliError> {
        let name = PathBuf::from(format!("{:06}-{what}.png", self.next));
        let path = self.folder.join(&name);
        write_file(&path, &png(&seen.picture, &path)?)?;
        self.next += 1;
        Ok(name)
    }

    /// Adds a pair whose images are written.
    pub(super) fn add(&mut self, pair: &Pair) -> Result<(), CliError> {
        let mut line = serde_json::to_vec(pair)?;
        line.push(b'\n');
        self.manifest
            .write_all(&line)
            .map_err(|source| CliError::Write {
                path: self.path.clone(),
                source,
            })
    }
}
