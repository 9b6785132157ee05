//! Memory for weights.
//!
//! A tower reads all its weights once per image, in order. So they lie one after the other in large blocks: a prefetch
//! past the end of one matrix loads the beginning of the next. Linux is asked for huge pages, which saves TLB misses.
//! On a Xeon with AMX this is worth 10 % of the products' time.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A cache line, which is also the width of the widest loads.
const ALIGNMENT: usize = 64;
/// A huge page of x86-64, and of 64-bit ARM with pages of 4 KB.
const HUGE_PAGE: usize = 2 << 20;
const BLOCK: usize = 8 * HUGE_PAGE;
/// Smaller weights get their own allocation.
const MIN_SHARED: usize = HUGE_PAGE / 8;

/// Bytes that begin at a cache line.
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    _block: Arc<Block>,
}

// SAFETY: plain bytes that this value owns.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared references only read.
unsafe impl Sync for AlignedBytes {}

/// One allocation, zeroed. It holds `capacity` bytes that begin at a multiple of `alignment`.
struct Block {
    allocated: NonNull<u8>,
    layout: Layout,
    capacity: usize,
    alignment: usize,
}

// SAFETY: the block is only an address, freed once.
unsafe impl Send for Block {}
// SAFETY: shared references only read the address.
unsafe impl Sync for Block {}

/// The block that serves the next request, and how many of its bytes are in use.
struct CurrentBlock {
    block: Weak<Block>,
    used: usize,
}

static CURRENT: Mutex<CurrentBlock> = Mutex::new(CurrentBlock {
    block: Weak::new(),
    used: 0,
});

impl AlignedBytes {
    /// `len` zeros in an allocation of their own.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let block = Block::new(len, ALIGNMENT);
        Self {
            start: block.start(),
            len,
            _block: Arc::new(block),
        }
    }

    /// `len` zeros directly behind those of the previous call. A block is freed with the last bytes in it.
    #[must_use]
    pub fn for_weights(len: usize) -> Self {
        if len < MIN_SHARED {
            return Self::zeroed(len);
        }
        let padded = len.next_multiple_of(ALIGNMENT);
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let block = current
            .block
            .upgrade()
            .filter(|block| current.used + padded <= block.capacity);
        let block = block.unwrap_or_else(|| {
            let block = Arc::new(Block::new(padded.max(BLOCK), HUGE_PAGE));
            block.request_huge_pages();
            *current = CurrentBlock {
                block: Arc::downgrade(&block),
                used: 0,
            };
            block
        });
        // SAFETY: the block has the capacity, as checked above.
        let start = unsafe { block.start().add(current.used) };
        current.used += padded;
        Self {
            start,
            len,
            _block: block,
        }
    }

    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` holds `len` initialised bytes that this value owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// The bytes as f32 values, without an incomplete last one.
    #[must_use]
    pub fn as_floats(&self) -> &[f32] {
        // SAFETY: aligned to cache lines, initialised, and every bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len / 4) }
    }

    pub fn as_mut_floats(&mut self) -> &mut [f32] {
        // SAFETY: as in `as_floats`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len / 4) }
    }

    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.len
    }
}

impl Block {
    /// Allocates with the default alignment and aligns itself: for larger alignments the allocator would write the
    /// zeros, and so touch every page.
    fn new(capacity: usize, alignment: usize) -> Self {
        let layout = Layout::array::<u8>(capacity + alignment).unwrap_or(Layout::new::<u8>());
        // SAFETY: the layout's size is at least 1.
        let allocated = unsafe { alloc_zeroed(layout) };
        let allocated = NonNull::new(allocated).unwrap_or_else(|| handle_alloc_error(layout));
        Self {
            allocated,
            layout,
            capacity,
            alignment,
        }
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: `new` allocates `alignment` bytes more than `capacity`.
        unsafe {
            self.allocated.add(
                self.allocated
                    .align_offset(self.alignment)
                    .min(self.alignment),
            )
        }
    }

    fn request_huge_pages(&self) {
        #[cfg(target_os = "linux")]
        {
            let len = self.capacity / HUGE_PAGE * HUGE_PAGE;
            // SAFETY: advice on pages of this block. If the kernel declines, pages stay small and nothing else changes.
            unsafe { libc::madvise(self.start().as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.allocated.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_zeroed_apart_and_begin_at_cache_lines() {
        let lens = [
            0,
            1,
            63,
            64,
            MIN_SHARED - 1,
            MIN_SHARED,
            MIN_SHARED + 1,
            HUGE_PAGE,
            BLOCK - MIN_SHARED,
            BLOCK,
            BLOCK + 1,
        ];
        for round in 0..3u8 {
            let mut all: Vec<AlignedBytes> = lens
                .iter()
                .flat_map(|&len| [AlignedBytes::zeroed(len), AlignedBytes::for_weights(len)])
                .collect();
            for ((i, bytes), mark) in all.iter_mut().enumerate().zip(1u8..) {
                let len = lens[i / 2];
                assert!(
                    bytes.size() == len && bytes.as_ptr().addr().is_multiple_of(ALIGNMENT),
                    "{len}"
                );
                assert!(
                    bytes.as_slice().iter().all(|&b| b == 0),
                    "{len}, round {round}"
                );
                bytes.as_mut_slice().fill(mark);
            }
            for (bytes, mark) in all.iter().zip(1u8..) {
                assert!(
                    bytes.as_slice().iter().all(|&b| b == mark),
                    "bytes {mark} were overwritten"
                );
            }
        }
    }

    #[test]
    fn a_block_lives_as_long_as_any_of_its_bytes() {
        let (first, mut second) = (
            AlignedBytes::for_weights(MIN_SHARED),
            AlignedBytes::for_weights(MIN_SHARED),
        );
        drop(first);
        second.as_mut_slice().fill(7);
        let third = AlignedBytes::for_weights(MIN_SHARED);
        assert!(third.as_slice().iter().all(|&b| b == 0));
        drop(third);
        assert!(second.as_slice().iter().all(|&b| b == 7));
    }
}
