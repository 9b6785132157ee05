//! Memory-mapped files, and the data of tensors in them.

use crate::regular_file;
use constancy_core::foreign_file::{HEAD_BYTES, Wanted, foreign};
use memmap2::Mmap;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A mapped file.
pub(crate) struct MappedFile {
    map: Mmap,
}

impl MappedFile {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = regular_file::open(path)?;
        // SAFETY: a model file is not written to while it is loaded; models are replaced by
        // renaming. A file that is truncated all the same kills the process with SIGBUS, as it does
        // with every program that maps files.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// What the file is instead of what is wanted, if that can be told.
    pub(super) fn foreign(&self, wanted: Wanted) -> Option<String> {
        foreign(&self.map[..self.len().min(HEAD_BYTES)], wanted)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The hash of the whole file, read piece by piece so that it takes no memory.
    pub(super) fn sha256(&self) -> impl AsRef<[u8]> + use<> {
        const PIECE: usize = 1 << 20;
        let mut hasher = Sha256::new();
        for start in (0..self.map.len()).step_by(PIECE) {
            let range = start..self.map.len().min(start + PIECE);
            hasher.update(&self.map[range.clone()]);
            self.release(&range);
        }
        hasher.finalize()
    }

    /// Releases the pages of a range that will not be read again soon; they stay in the page cache.
    pub(super) fn release(&self, range: &Range<usize>) {
        const PAGE: usize = 4096;
        let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
        if start < end {
            // SAFETY: in a read-only mapping of a file, released pages are read again when they are
            // touched.
            let _ = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    start,
                    end - start,
                )
            };
        }
    }
}

/// The data of one tensor, in a mapped file or in memory.
#[derive(Clone)]
pub(crate) enum TensorData {
    File(Arc<MappedFile>, Range<usize>),
    Owned(Arc<Vec<u8>>),
}

impl TensorData {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::File(file, range) => &file.map[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }

    /// Releases the memory that reading has taken, if it can be read again.
    pub(crate) fn release(&self) {
        if let Self::File(file, range) = self {
            file.release(range);
        }
    }
}

/// Bytes in lower-case hex.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
