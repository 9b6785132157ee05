//! A simulated disk, on which every write can fail.

use super::super::folder::StoreLocation;
use super::super::medium::{FileId, Medium};
use super::super::store::Store;
use super::super::store_error::StoreError;
use super::super::totals::Bounds;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The size that a disk writes atomically.
const SECTOR: usize = 512;

/// A change since the last sync.
#[derive(Debug, Clone)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
pub(super) struct DiskState {
    /// The file as of the last sync.
    pub(super) safe: Vec<u8>,
    /// The file as the system shows it.
    pub(super) now: Vec<u8>,
    unsynced: Vec<Unsynced>,
    pub(super) writes: u64,
    pub(super) bytes: u64,
    pub(super) syncs: u64,
    /// Power fails at this write.
    pub(super) fails_at: Option<u64>,
    pub(super) powered_off: bool,
    /// Every write fails with this.
    pub(super) refuses: Option<ErrorKind>,
    /// How often a damaged file was moved aside.
    pub(super) aside: u32,
    /// The file was created completely.
    made: bool,
    /// Which file is at its place.
    file: u64,
    /// Files that were removed, which a process may still have open.
    removed: BTreeMap<u64, Vec<u8>>,
    /// The folder was moved away.
    pub(super) is_away: bool,
}

/// A disk in memory, which survives its simulated process.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<DiskState>>);

impl Disk {
    pub(super) fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Someone removes the file, or puts an empty one in its place.
    pub(super) fn replace_file(&self) {
        let mut state = self.lock();
        let file = state.file;
        let bytes = std::mem::take(&mut state.now);
        state.removed.insert(file, bytes);
        (state.safe, state.unsynced, state.made) = Default::default();
        state.file += 1;
    }

    fn store(&self, bounds: Bounds) -> std::result::Result<Store, StoreError> {
        let file = self.lock().file;
        let backend = DiskFile {
            disk: self.clone(),
            file,
        };
        Store::open(Medium::backend(FileId::of_test(file), backend), bounds)
    }

    /// Opens or creates the store.
    pub(super) fn open_store(&self, bounds: Bounds) -> Store {
        self.store(bounds).expect("store")
    }

    fn powered(&self) -> Result<MutexGuard<'_, DiskState>> {
        let state = self.lock();
        if state.powered_off {
            Err(Error::from(ErrorKind::Other))
        } else {
            Ok(state)
        }
    }

    fn writable(&self) -> Result<MutexGuard<'_, DiskState>> {
        let mut state = self.powered()?;
        if let Some(kind) = state.refuses {
            return Err(kind.into());
        }
        state.writes += 1;
        if state.fails_at.is_some_and(|at| state.writes >= at) {
            state.powered_off = true;
            return Err(Error::from(ErrorKind::Other));
        }
        Ok(state)
    }

    /// Power comes back. Each unsynced sector may be there, be missing, or hold garbage.
    pub(super) fn power_cut(&self, random: &mut fastrand::Rng) {
        let mut state = self.lock();
        let mut image = std::mem::take(&mut state.safe);
        for change in std::mem::take(&mut state.unsynced) {
            match change {
                Unsynced::Length(length) if random.bool() => image.resize(length, 0),
                Unsynced::Length(_) => {}
                Unsynced::Write(at, data) => {
                    for (i, sector) in data.chunks(SECTOR).enumerate() {
                        let (at, fate) = (at + i * SECTOR, random.u8(..10));
                        // The first sector names the current commit. It is never garbage: a sector is written atomically.
                        if fate < 4 {
                            continue;
                        }
                        image.resize(image.len().max(at + sector.len()), 0);
                        image[at..at + sector.len()].copy_from_slice(sector);
                        if fate == 9 && at >= SECTOR {
                            let hit = at + random.usize(..sector.len());
                            image[hit] ^= 1 << random.u8(..8);
                        }
                    }
                }
            }
        }
        state.safe.clone_from(&image);
        state.now = image;
        (state.powered_off, state.fails_at) = (false, None);
        state.removed.clear();
    }

    /// `kill -9`: the system still has everything that was written.
    pub(super) fn killed(&self) {
        let mut state = self.lock();
        (state.powered_off, state.fails_at) = (false, None);
        state.removed.clear();
    }
}

/// An open file, which need not be at its place any more.
#[derive(Debug, Clone)]
struct DiskFile {
    disk: Disk,
    file: u64,
}

impl DiskFile {
    /// The file's bytes, and whether it is in its place.
    fn bytes<'a>(&self, state: &'a mut DiskState) -> (&'a mut Vec<u8>, bool) {
        if state.file == self.file {
            (&mut state.now, true)
        } else {
            (state.removed.entry(self.file).or_default(), false)
        }
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> Result<u64> {
        Ok(self.bytes(&mut *self.disk.powered()?).0.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let (mut state, at) = (self.disk.powered()?, offset as usize);
        let bytes = self.bytes(&mut state).0.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.disk.writable()?;
        let (bytes, is_here) = self.bytes(&mut state);
        bytes.resize(len as usize, 0);
        if is_here {
            state.unsynced.push(Unsynced::Length(len as usize));
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.disk.writable()?;
        state.syncs += 1;
        if state.file == self.file {
            state.safe = state.now.clone();
            state.unsynced.clear();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let (mut state, at) = (self.disk.writable()?, offset as usize);
        let (bytes, is_here) = self.bytes(&mut state);
        bytes.resize(bytes.len().max(at + data.len()), 0);
        bytes[at..at + data.len()].copy_from_slice(data);
        state.bytes += data.len() as u64;
        if is_here {
            state.unsynced.push(Unsynced::Write(at, data.to_vec()));
        }
        Ok(())
    }
}

impl StoreLocation for Disk {
    fn open(&self, bounds: Bounds) -> std::result::Result<Store, StoreError> {
        if self.lock().is_away {
            return Err(redb::Error::Io(ErrorKind::NotFound.into()).into());
        }
        if !self.lock().made {
            let mut state = self.lock();
            (state.now, state.safe, state.unsynced) = Default::default();
            drop(state);
            drop(self.store(bounds)?);
            self.powered().map_err(redb::Error::Io)?.made = true;
        }
        self.store(bounds)
    }

    fn holds(&self, id: FileId) -> std::result::Result<bool, StoreError> {
        let state = self.lock();
        if state.is_away {
            return Err(redb::Error::Io(ErrorKind::NotFound.into()).into());
        }
        Ok(id == FileId::of_test(state.file))
    }

    fn shortage(&self, _: Bounds) -> Option<String> {
        None
    }

    fn move_aside(&self) -> Result<String> {
        let mut state = self.lock();
        let DiskState {
            writes,
            fails_at,
            refuses,
            aside,
            file,
            ..
        } = *state;
        *state = DiskState {
            writes,
            fails_at,
            refuses,
            aside: aside + 1,
            file: file + 1,
            ..DiskState::default()
        };
        Ok("aside".into())
    }

    fn name(&self) -> String {
        "test".into()
    }
}
