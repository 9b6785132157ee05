//! The cache's file: embeddings of one recipe, one after another.
//!
//! A header (`CNSTEMB1`, the recipe's length as u32, the recipe as JSON), then records of one size: key 32 bytes, the
//! embedding as f32, CRC-32 of both; all little endian. Records are only ever added, under a lock, so that several
//! runs may share a file. What an interruption left unfinished at the end is cut off when the file is next opened;
//! a record that the disk has damaged counts as missing.

use super::{Content, Recipe};
use constancy_core::intervene::Intervention;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"CNSTEMB1";
const KEY_BYTES: usize = 32;
const CRC_BYTES: usize = 4;

/// Why a cache could not be used.
#[derive(Debug, Error)]
pub enum CacheError {
    #[error("cache {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "cache {path}: it holds embeddings of {theirs}, not of {ours}; give it back its old name, move it away, or name another folder by --cache"
    )]
    Mixed {
        path: PathBuf,
        ours: String,
        theirs: String,
    },
    #[error(
        "cache {path}: not a cache of embeddings; move it away, or name another folder by --cache"
    )]
    Foreign { path: PathBuf },
    #[error(
        "cache {path}: an embedding of {found} values, some of them no finite numbers perhaps, was to be kept among those of {width}"
    )]
    Row {
        path: PathBuf,
        found: usize,
        width: usize,
    },
}

/// By which an embedding is found: what the image's file holds, and what was done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; KEY_BYTES]);

impl Key {
    /// Of the image itself, or of what an intervention made of it.
    #[must_use]
    pub(crate) fn of(content: &Content, intervention: Option<&Intervention>) -> Self {
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

/// Embeddings of one recipe on disk.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    file: File,
    width: usize,
    /// Where the records begin.
    start: u64,
    /// Where each key's record lies.
    places: HashMap<Key, u64>,
}

impl Cache {
    /// Opens the file of `recipe` in `folder`, both of which are made where they are missing.
    pub(crate) fn open(folder: &Path, recipe: &Recipe) -> Result<Self, CacheError> {
        let path = folder.join(recipe.file_name());
        let io = |source| CacheError::Io {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(io)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        let header = header(recipe);
        let start = header.len() as u64;
        let mut cache = Self {
            path,
            file,
            width: recipe.width(),
            start,
            places: HashMap::new(),
        };
        cache.locked(|cache| {
            cache.check_header(&header, recipe)?;
            cache.cut_torn_end()?;
            cache.read_keys()
        })?;
        Ok(cache)
    }

    /// The default folder: `$XDG_CACHE_HOME/constancy`, or `~/.cache/constancy`; `None` where neither is known.
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

    /// As on a disk that has become full or read-only.
    #[cfg(test)]
    pub(super) fn unwritable(self) -> Self {
        Self {
            file: File::open(&self.path).unwrap(),
            ..self
        }
    }

    /// How many embeddings there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The embedding of `key`; `None` where there is none, or the disk has damaged it.
    #[must_use]
    pub(crate) fn get(&self, key: &Key) -> Option<Vec<f32>> {
        let record = self.record(*self.places.get(key)?).ok().flatten();
        let Some(record) = record.filter(|record| record[..KEY_BYTES] == key.0) else {
            log::warn!(
                "cache {}: an embedding is damaged, and computed anew",
                self.path.display()
            );
            return None;
        };
        let (words, _) = record[KEY_BYTES..KEY_BYTES + 4 * self.width].as_chunks::<4>();
        Some(words.iter().map(|&word| f32::from_le_bytes(word)).collect())
    }

    /// Adds embeddings of finite values.
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
            // Another run may have added to the file, or have died while it did.
            let end = cache.whole_records()?;
            cache.file.write_all_at(&bytes, end).map_err(|source| {
                // A part of a record would be cut off later; no need to leave it.
                let _ = cache.file.set_len(end);
                cache.io(source)
            })?;
            for (place, (key, _)) in (end..).step_by(cache.record_bytes()).zip(rows) {
                cache.places.insert(*key, place);
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

    /// Does something while no other run writes.
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

    /// Where the last whole record ends.
    fn whole_records(&self) -> Result<u64, CacheError> {
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
        // New, or the very first write was interrupted.
        if header.starts_with(&found) {
            return self.file.write_all_at(header, 0).map_err(|e| self.io(e));
        }
        let (path, ours) = (self.path.clone(), named(recipe.json()));
        match self.other_recipe() {
            Some(theirs) => Err(CacheError::Mixed {
                path,
                ours,
                theirs: named(&theirs),
            }),
            None => Err(CacheError::Foreign { path }),
        }
    }

    /// The recipe that the file's header holds.
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

    /// Cuts off what a run that was interrupted did not finish.
    fn cut_torn_end(&self) -> Result<(), CacheError> {
        let len = self.file_len()?;
        let mut end = self.whole_records()?;
        while end > self.start && self.record(end - self.record_bytes() as u64)?.is_none() {
            end -= self.record_bytes() as u64;
        }
        if end < len {
            self.file.set_len(end).map_err(|e| self.io(e))?;
            log::warn!(
                "cache {}: its last {} bytes were not written to the end, and are cut off",
                self.path.display(),
                len - end
            );
        }
        Ok(())
    }

    fn read_keys(&mut self) -> Result<(), CacheError> {
        let end = self.whole_records()?;
        for place in (self.start..end).step_by(self.record_bytes()) {
            let mut key = [0; KEY_BYTES];
            self.file
                .read_exact_at(&mut key, place)
                .map_err(|e| self.io(e))?;
            self.places.insert(Key(key), place);
        }
        Ok(())
    }

    /// The record at a place; `None` where its checksum is wrong.
    fn record(&self, place: u64) -> Result<Option<Vec<u8>>, CacheError> {
        let mut record = vec![0; self.record_bytes()];
        self.file
            .read_exact_at(&mut record, place)
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

/// A recipe in words: the encoder, and the rest as it is.
fn named(json: &str) -> String {
    let fields: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    match fields["encoder_sha256"].as_str() {
        Some(sha256) => format!("the encoder with sha256 {sha256} ({json})"),
        None => json.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use constancy_core::intervene::Family;

    fn key(n: u8) -> Key {
        Key::of(&[n; 32], None)
    }

    fn row(n: u8) -> Vec<f32> {
        vec![f32::from(n), 0.5, -1.25]
    }

    fn open(folder: &Path) -> Cache {
        Cache::open(folder, &Recipe::named("aa11", 3)).unwrap()
    }

    /// A cache with embeddings 0, 1 and 2, closed; and its file.
    fn three(folder: &Path) -> PathBuf {
        let mut cache = open(folder);
        cache.append(&[(key(0), row(0)), (key(1), row(1))]).unwrap();
        cache.append(&[(key(2), row(2))]).unwrap();
        cache.path
    }

    fn known(cache: &Cache) -> Vec<u8> {
        (0..4)
            .filter(|&n| cache.get(&key(n)) == Some(row(n)))
            .collect()
    }

    #[test]
    fn what_was_kept_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        three(&folder.path().join("new/folder"));
        let cache = open(&folder.path().join("new/folder"));
        assert_eq!((known(&cache), cache.len()), (vec![0, 1, 2], 3));
        assert_eq!(cache.get(&key(7)), None);
    }

    #[test]
    fn a_key_is_the_image_the_family_its_strength_and_its_seed() {
        let base = Intervention {
            family: Family::Jpeg,
            strength: 0.5,
            seed: 1,
        };
        let keys = [
            Key::of(&[1; 32], None),
            Key::of(&[2; 32], None),
            Key::of(&[1; 32], Some(&base)),
            Key::of(
                &[1; 32],
                Some(&Intervention {
                    family: Family::Haze,
                    ..base
                }),
            ),
            Key::of(
                &[1; 32],
                Some(&Intervention {
                    strength: 0.6,
                    ..base
                }),
            ),
            Key::of(&[1; 32], Some(&Intervention { seed: 2, ..base })),
        ];
        let different: std::collections::HashSet<Key> = keys.into();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn a_torn_end_is_cut_off_wherever_it_tore() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let record = KEY_BYTES + 12 + CRC_BYTES;
        for torn in 1..=whole.len() {
            std::fs::write(&path, &whole[..whole.len() - torn]).unwrap();
            let mut cache = open(folder.path());
            let left = 3_usize.saturating_sub(torn.div_ceil(record));
            assert_eq!(known(&cache).len(), left, "{torn} bytes torn off");
            cache.append(&[(key(3), row(3))]).unwrap();
            assert_eq!(known(&open(folder.path())).last(), Some(&3));
        }
    }

    #[test]
    fn an_end_of_zeros_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(folder.path());
        let whole = std::fs::read(&path).unwrap();
        // What a power cut leaves: the length was written, the bytes were not.
        std::fs::write(&path, [&whole[..], &[0; 100]].concat()).unwrap();
        assert_eq!(open(folder.path()).len(), 3);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn a_record_that_the_disk_damaged_counts_as_missing_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(folder.path());
        let mut bytes = std::fs::read(&path).unwrap();
        let second = bytes.len() - 2 * (KEY_BYTES + 12 + CRC_BYTES) + KEY_BYTES + 1;
        bytes[second] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let mut cache = open(folder.path());
        assert_eq!(known(&cache), [0, 2]);
        cache.append(&[(key(1), row(1))]).unwrap();
        assert_eq!(known(&open(folder.path())), [0, 1, 2]);
    }

    #[test]
    fn encoders_do_not_mix_and_both_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(folder.path());
        let other = Recipe::named("bb22", 3);
        assert_eq!(
            Cache::open(folder.path(), &other).unwrap().len(),
            0,
            "it has a file of its own"
        );
        std::fs::rename(&path, folder.path().join(other.file_name())).unwrap();
        let error = Cache::open(folder.path(), &other).unwrap_err().to_string();
        assert!(
            error.contains("aa11") && error.contains("bb22") && error.contains("--cache"),
            "{error}"
        );
        std::fs::write(folder.path().join(other.file_name()), "something else").unwrap();
        let error = Cache::open(folder.path(), &other).unwrap_err().to_string();
        assert!(
            error.contains("not a cache") && error.contains("move it away"),
            "{error}"
        );
    }

    #[test]
    fn runs_that_share_a_file_do_not_write_over_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let many = |from: u8| (from..from + 100).map(|n| (key(n), row(n)));
        std::thread::scope(|scope| {
            for from in [0, 100] {
                let mut cache = open(folder.path());
                scope.spawn(move || many(from).for_each(|r| cache.append(&[r]).unwrap()));
            }
        });
        let cache = open(folder.path());
        assert_eq!(cache.len(), 200);
        assert!((0..200).all(|n| cache.get(&key(n)) == Some(row(n))));
    }

    #[test]
    fn what_is_no_number_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = open(folder.path());
        assert!(matches!(
            cache.append(&[(key(0), vec![1.0, f32::NAN, 0.0])]),
            Err(CacheError::Row { .. })
        ));
        assert!(matches!(
            cache.append(&[(key(0), vec![1.0])]),
            Err(CacheError::Row {
                found: 1,
                width: 3,
                ..
            })
        ));
        assert!(cache.len() == 0 && open(folder.path()).len() == 0);
    }
}
