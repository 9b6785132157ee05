//! A disk in memory on which every write can fail.

use super::super::keeper::Place;
use super::super::store::{Bounds, Store, StoreError};
use redb::StorageBackend;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A change that no sync has made safe yet.
#[derive(Debug, Clone)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
pub(super) struct Platter {
    pub(super) safe: Vec<u8>,
    pub(super) now: Vec<u8>,
    unsynced: Vec<Unsynced>,
    pub(super) writes: u64,
    pub(super) bytes: u64,
    pub(super) syncs: u64,
    /// Power fails at this write.
    pub(super) fails_at: Option<u64>,
    pub(super) dead: bool,
    /// Nothing can be written.
    pub(super) refuses: Option<ErrorKind>,
    pub(super) aside: u32,
    /// The file has its name: it was made whole once.
    made: bool,
}

/// A disk in memory that survives its process.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    pub(super) fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn living(&self) -> Result<MutexGuard<'_, Platter>> {
        let platter = self.lock();
        if platter.dead {
            Err(Error::from(ErrorKind::Other))
        } else {
            Ok(platter)
        }
    }

    fn writable(&self) -> Result<MutexGuard<'_, Platter>> {
        let mut platter = self.living()?;
        if let Some(kind) = platter.refuses {
            return Err(kind.into());
        }
        platter.writes += 1;
        if platter.fails_at.is_some_and(|at| platter.writes >= at) {
            platter.dead = true;
            return Err(Error::from(ErrorKind::Other));
        }
        Ok(platter)
    }

    /// Power comes back: of what was not synced any sector may be there, or be missing, or be garbage.
    pub(super) fn power_cut(&self, random: &mut fastrand::Rng) {
        let mut platter = self.lock();
        let mut image = std::mem::take(&mut platter.safe);
        for change in std::mem::take(&mut platter.unsynced) {
            match change {
                Unsynced::Length(length) if random.bool() => image.resize(length, 0),
                Unsynced::Length(_) => {}
                Unsynced::Write(at, data) => {
                    for (i, sector) in data.chunks(SECTOR).enumerate() {
                        let (at, fate) = (at + i * SECTOR, random.u8(..10));
                        // The first sector, which says which commit counts, is whole as sectors are.
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
        platter.safe.clone_from(&image);
        platter.now = image;
        (platter.dead, platter.fails_at) = (false, None);
    }

    /// kill -9: the system still has what was written.
    pub(super) fn killed(&self) {
        let mut platter = self.lock();
        (platter.dead, platter.fails_at) = (false, None);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.living()?.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let (platter, at) = (self.living()?, offset as usize);
        let bytes = platter
            .now
            .get(at..at + out.len())
            .ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut platter = self.writable()?;
        platter.now.resize(len as usize, 0);
        platter.unsynced.push(Unsynced::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut platter = self.writable()?;
        platter.syncs += 1;
        platter.safe = platter.now.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let (mut platter, at) = (self.writable()?, offset as usize);
        let length = platter.now.len().max(at + data.len());
        platter.now.resize(length, 0);
        platter.now[at..at + data.len()].copy_from_slice(data);
        platter.bytes += data.len() as u64;
        platter.unsynced.push(Unsynced::Write(at, data.to_vec()));
        Ok(())
    }
}

impl Place for Disk {
    fn open(&self, bounds: Bounds, base: Option<u64>) -> std::result::Result<Store, StoreError> {
        if !self.lock().made {
            let mut platter = self.lock();
            (platter.now, platter.safe, platter.unsynced) = Default::default();
            drop(platter);
            drop(Store::on(self.clone(), bounds, base)?);
            self.living().map_err(redb::Error::Io)?.made = true;
        }
        Store::on(self.clone(), bounds, base)
    }

    fn move_aside(&self) -> Result<String> {
        let mut platter = self.lock();
        let Platter {
            writes,
            fails_at,
            refuses,
            aside,
            ..
        } = *platter;
        *platter = Platter {
            writes,
            fails_at,
            refuses,
            aside: aside + 1,
            ..Platter::default()
        };
        Ok("aside".into())
    }

    fn name(&self) -> String {
        "test".into()
    }
}
