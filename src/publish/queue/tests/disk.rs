//! A simulated disk, on which every write can fail.

use super::super::folder::StoreLocation;
use super::super::store::Store;
use super::super::store_error::StoreError;
use super::super::totals::Bounds;
use redb::StorageBackend;
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
}

/// A disk in memory, which survives its simulated process.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<DiskState>>);

impl Disk {
    pub(super) fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    }

    /// `kill -9`: the system still has everything that was written.
    pub(super) fn killed(&self) {
        let mut state = self.lock();
        (state.powered_off, state.fails_at) = (false, None);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.powered()?.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let (state, at) = (self.powered()?, offset as usize);
        let bytes = state
            .now
            .get(at..at + out.len())
            .ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.writable()?;
        state.now.resize(len as usize, 0);
        state.unsynced.push(Unsynced::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.writable()?;
        state.syncs += 1;
        state.safe = state.now.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let (mut state, at) = (self.writable()?, offset as usize);
        let length = state.now.len().max(at + data.len());
        state.now.resize(length, 0);
        state.now[at..at + data.len()].copy_from_slice(data);
        state.bytes += data.len() as u64;
        state.unsynced.push(Unsynced::Write(at, data.to_vec()));
        Ok(())
    }
}

impl StoreLocation for Disk {
    fn open(&self, bounds: Bounds, base: Option<u64>) -> std::result::Result<Store, StoreError> {
        if !self.lock().made {
            let mut state = self.lock();
            (state.now, state.safe, state.unsynced) = Default::default();
            drop(state);
            drop(Store::on(self.clone(), bounds, base)?);
            self.powered().map_err(redb::Error::Io)?.made = true;
        }
        Store::on(self.clone(), bounds, base)
    }

    fn move_aside(&self) -> Result<String> {
        let mut state = self.lock();
        let DiskState {
            writes,
            fails_at,
            refuses,
            aside,
            ..
        } = *state;
        *state = DiskState {
            writes,
            fails_at,
            refuses,
            aside: aside + 1,
            ..DiskState::default()
        };
        Ok("aside".into())
    }

    fn name(&self) -> String {
        "test".into()
    }
}
