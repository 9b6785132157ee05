//! The cache file: embeddings of one recipe, one after another.
//!
//! A header (`CNSTEMB1`, the recipe's length as u32, the recipe as JSON) precedes records of equal size: a key of 32
//! bytes, the embedding as f32, and the CRC-32 of both. All numbers are little-endian. Records are only appended,
//! under a file lock, so several runs may share a file. Opening the file truncates an incomplete record at its end,
//! which an interrupted run left; a record whose checksum is wrong counts as missing.

use super::plan::ContentHash;
use super::recipe::Recipe;
use crate::files::open_or_create;
use constancy_core::intervene::Intervention;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"CNSTEMB1";
const KEY_BYTES: usize = 32;
const CRC_BYTES: usize = 4;

/// Why a cache cannot be used.
#[derive(Debug, Error)]
pub enum CacheError {
    #[error("cache {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "cache {path}: it holds embeddings of {theirs}, not of {ours}; restore its old name, move it away, or choose another folder with --cache"
    )]
    OtherRecipe {
        path: PathBuf,
        ours: String,
        theirs: String,
    },
    #[error(
        "cache {path}: not a cache of embeddings; move it away, or choose another folder with --cache"
    )]
    Foreign { path: PathBuf },
    #[error(
        "cache {path}: only embeddings of {width} finite values are stored, and this one has {found} values or a non-finite one"
    )]
    Row {
        path: PathBuf,
        found: usize,
        width: usize,
    },
}

/// Identifies an embedding by the image's content and the intervention on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; KEY_BYTES]);

impl Key {
    /// The key of the image itself (`None`), or of the image under an intervention.
    #[must_use]
    pub(crate) fn of(content: &ContentHash, intervention: Option<&Intervention>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(content);
        if let Some(Intervention {
            family,
            strength,
            seed,
        }) = intervention
        {
            hasher.update(family.name());
            hasher.update(strength.to_bits().to_le_bytes());
            hasher.update(seed.to_le_bytes());
        }
        Self(hasher.finalize().into())
    }
}

/// An open cache file.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    file: File,
    width: usize,
    /// Offset of the first record in bytes.
    start: u64,
    /// Offset of each key's record in bytes.
    offsets: HashMap<Key, u64>,
}

impl Cache {
    /// Opens the file of `recipe` in `folder`; creates both if they do not exist.
    pub(crate) fn open(folder: &Path, recipe: &Recipe) -> Result<Self, CacheError> {
        let path = folder.join(recipe.file_name());
        let io = |source| CacheError::Io {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(io)?;
        let file = open_or_create(&path).map_err(io)?;
        let header = header(recipe);
        let start = header.len() as u64;
        let mut cache = Self {
            path,
            file,
            width: recipe.width(),
            start,
            offsets: HashMap::new(),
        };
        cache.locked(|cache| {
            cache.check_header(&header, recipe)?;
            cache.truncate_torn_end()?;
            cache.read_keys()
        })?;
        Ok(cache)
    }

    /// The default folder: `$XDG_CACHE_HOME/constancy`, or `~/.cache/constancy`; `None` if neither variable is set.
    #[must_use]
    pub(crate) fn default_folder() -> Option<PathBuf> {
        let named = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let root = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
        Some(root.join("constancy"))
    }

    /// The cache as if its disk were full or read-only.
    #[cfg(test)]
    pub(super) fn unwritable(self) -> Self {
        Self {
            file: File::open(&self.path).unwrap(),
            ..self
        }
    }

    /// The number of embeddings.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// The embedding of `key`; `None` if there is none, or if its record is damaged or unreadable, which is logged.
    #[must_use]
    pub(crate) fn get(&self, key: &Key) -> Option<Vec<f32>> {
        let problem = match self.record(*self.offsets.get(key)?) {
            Ok(Some(record)) if record[..KEY_BYTES] == key.0 => return Some(self.row(&record)),
            Ok(_) => format!("cache {}: an embedding is damaged", self.path.display()),
            Err(error) => error.to_string(),
        };
        log::warn!("{problem}; it is computed again");
        None
    }

    /// The embedding in a record.
    fn row(&self, record: &[u8]) -> Vec<f32> {
        let (words, _) = record[KEY_BYTES..KEY_BYTES + 4 * self.width].as_chunks::<4>();
        words.iter().map(|&word| f32::from_le_bytes(word)).collect()
    }

    /// Appends embeddings; their values must be finite.
    pub(crate) fn append(&mut self, rows: &[(Key, Vec<f32>)]) -> Result<(), CacheError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(rows.len() * self.record_bytes());
        for (key, row) in rows {
            if row.len() != self.width || row.iter().any(|v| !v.is_finite()) {
                return Err(CacheError::Row {
                    path: self.path.clone(),
                    found: row.len(),
                    width: self.width,
                });
            }
            let begin = bytes.len();
            bytes.extend_from_slice(&key.0);
            bytes.extend(row.iter().flat_map(|v| v.to_le_bytes()));
            bytes.extend(crc32fast::hash(&bytes[begin..]).to_le_bytes());
        }
        self.locked(|cache| {
            // Another run may have appended to the file, or died while it did.
            let end = cache.records_end()?;
            cache.file.write_all_at(&bytes, end).map_err(|source| {
                // An incomplete record would be truncated later anyway.
                let _ = cache.file.set_len(end);
                cache.io(source)
            })?;
            for (offset, (key, _)) in (end..).step_by(cache.record_bytes()).zip(rows) {
                cache.offsets.insert(*key, offset);
            }
            Ok(())
        })
    }

    fn io(&self, source: io::Error) -> CacheError {
        CacheError::Io {
            path: self.path.clone(),
            source,
        }
    }

    /// Runs `work` under the file lock.
    fn locked<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        self.file.lock().map_err(|e| self.io(e))?;
        let result = work(self);
        self.file.unlock().map_err(|e| self.io(e))?;
        result
    }

    fn file_len(&self) -> Result<u64, CacheError> {
        Ok(self.file.metadata().map_err(|e| self.io(e))?.len())
    }

    fn record_bytes(&self) -> usize {
        KEY_BYTES + 4 * self.width + CRC_BYTES
    }

    /// The offset after the last complete record.
    fn records_end(&self) -> Result<u64, CacheError> {
        let len = self.file_len()?;
        Ok(len - len.saturating_sub(self.start) % self.record_bytes() as u64)
    }

    /// Writes the header of a new file; refuses the file of another recipe.
    fn check_header(&self, header: &[u8], recipe: &Recipe) -> Result<(), CacheError> {
        let len = self.file_len()?;
        let mut found = vec![0; header.len().min(usize::try_from(len).unwrap_or(usize::MAX))];
        self.file
            .read_exact_at(&mut found, 0)
            .map_err(|e| self.io(e))?;
        if found == header {
            return Ok(());
        }
        // The file is new, or its first write was interrupted.
        if header.starts_with(&found) {
            return self.file.write_all_at(header, 0).map_err(|e| self.io(e));
        }
        let (path, ours) = (self.path.clone(), describe(recipe.json()));
        match self.other_recipe() {
            Some(theirs) => Err(CacheError::OtherRecipe {
                path,
                ours,
                theirs: describe(&theirs),
            }),
            None => Err(CacheError::Foreign { path }),
        }
    }

    /// The recipe in the file's header; `None` if there is no valid header.
    fn other_recipe(&self) -> Option<String> {
        let mut begin = [0; MAGIC.len() + 4];
        self.file.read_exact_at(&mut begin, 0).ok()?;
        let (magic, len) = begin.split_at(MAGIC.len());
        let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
        if magic != MAGIC || len > 1 << 16 {
            return None;
        }
        let mut json = vec![0; len];
        self.file
            .read_exact_at(&mut json, begin.len() as u64)
            .ok()?;
        String::from_utf8(json).ok()
    }

    /// Truncates the incomplete record that an interrupted run left at the end.
    fn truncate_torn_end(&self) -> Result<(), CacheError> {
        let len = self.file_len()?;
        let mut end = self.records_end()?;
        while end > self.start && self.record(end - self.record_bytes() as u64)?.is_none() {
            end -= self.record_bytes() as u64;
        }
        if end < len {
            self.file.set_len(end).map_err(|e| self.io(e))?;
            log::warn!(
                "cache {}: its last {} bytes were not completely written and are removed",
                self.path.display(),
                len - end
            );
        }
        Ok(())
    }

    fn read_keys(&mut self) -> Result<(), CacheError> {
        let end = self.records_end()?;
        for offset in (self.start..end).step_by(self.record_bytes()) {
            let mut key = [0; KEY_BYTES];
            self.file
                .read_exact_at(&mut key, offset)
                .map_err(|e| self.io(e))?;
            self.offsets.insert(Key(key), offset);
        }
        Ok(())
    }

    /// The record at an offset; `None` if its checksum is wrong.
    fn record(&self, offset: u64) -> Result<Option<Vec<u8>>, CacheError> {
        let mut record = vec![0; self.record_bytes()];
        self.file
            .read_exact_at(&mut record, offset)
            .map_err(|e| self.io(e))?;
        let (body, crc) = record.split_at(self.record_bytes() - CRC_BYTES);
        let good = crc32fast::hash(body).to_le_bytes() == crc;
        Ok(good.then_some(record))
    }
}

fn header(recipe: &Recipe) -> Vec<u8> {
    let json = recipe.json().as_bytes();
    #[expect(clippy::cast_possible_truncation, reason = "a few hundred bytes")]
    let len = (json.len() as u32).to_le_bytes();
    [MAGIC, &len[..], json].concat()
}

/// A recipe for an error message: the encoder's hash, then the JSON.
fn describe(json: &str) -> String {
    let fields: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    match fields["encoder_sha256"].as_str() {
        Some(sha256) => format!("the encoder with sha256 {sha256} ({json})"),
        None => json.to_owned(),
    }
}

#[cfg(test)]
mod tests;
