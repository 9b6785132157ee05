//! Memory for weights. A tower reads all of them once an image, from the first to the last: they lie one after the other
//! in large blocks, for which Linux is asked for large pages, so that what is fetched ahead of a matrix's end belongs to
//! the next one, and addresses are found with few lookups. On a Xeon with AMX that is worth 10 % of the products' time.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Cache lines, and what the widest loads like.
const ALIGNMENT: usize = 64;
/// A large page of x86-64, and of 64-bit ARM with pages of 4 KB.
const LARGE_PAGE: usize = 2 << 20;
const BLOCK: usize = 8 * LARGE_PAGE;
/// Weights of less than this get memory of their own.
const SMALL: usize = LARGE_PAGE / 8;

/// Zeroed bytes that begin at a cache line.
pub struct Bytes {
    start: NonNull<u8>,
    len: usize,
    _block: Arc<Block>,
}

// SAFETY: plain bytes that this value owns.
unsafe impl Send for Bytes {}
// SAFETY: shared references only read.
unsafe impl Sync for Bytes {}

/// What the system gives, zeroed: `room` bytes that begin at a multiple of `alignment`, somewhere in more.
struct Block {
    allocated: NonNull<u8>,
    layout: Layout,
    room: usize,
    alignment: usize,
}

// SAFETY: an address, which is freed once.
unsafe impl Send for Block {}
// SAFETY: shared references do nothing with it.
unsafe impl Sync for Block {}

/// The block that the next bytes come from, and how much of it is given away.
struct Open {
    block: Weak<Block>,
    used: usize,
}

static OPEN: Mutex<Open> = Mutex::new(Open {
    block: Weak::new(),
    used: 0,
});

impl Bytes {
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let block = Block::new(len, ALIGNMENT);
        Self {
            start: block.start(),
            len,
            _block: Arc::new(block),
        }
    }

    /// Zeroed, and next to those that were asked for before. A block is given back when the last of its bytes is.
    #[must_use]
    pub fn for_weights(len: usize) -> Self {
        if len < SMALL {
            return Self::zeroed(len);
        }
        let room = len.next_multiple_of(ALIGNMENT);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let block = open
            .block
            .upgrade()
            .filter(|block| open.used + room <= block.room);
        let block = block.unwrap_or_else(|| {
            let block = Arc::new(Block::new(room.max(BLOCK), LARGE_PAGE));
            block.ask_for_large_pages();
            *open = Open {
                block: Arc::downgrade(&block),
                used: 0,
            };
            block
        });
        // SAFETY: the block has so much room.
        let start = unsafe { block.start().add(open.used) };
        open.used += room;
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
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    #[must_use]
    pub fn as_floats(&self) -> &[f32] {
        // SAFETY: aligned to cache lines, initialised, and every bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len / 4) }
    }

    pub fn as_mut_floats(&mut self) -> &mut [f32] {
        // SAFETY: as above, and owned.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len / 4) }
    }

    #[must_use]
    pub fn size(&self) -> usize {
        self.len
    }
}

impl Block {
    /// Nothing is asked of the allocator that would make it write the zeros itself, and so touch every page.
    fn new(room: usize, alignment: usize) -> Self {
        let layout = Layout::array::<u8>(room + alignment).unwrap_or(Layout::new::<u8>());
        // SAFETY: the layout's size is at least 1.
        let allocated = unsafe { alloc_zeroed(layout) };
        let allocated = NonNull::new(allocated).unwrap_or_else(|| handle_alloc_error(layout));
        Self {
            allocated,
            layout,
            room,
            alignment,
        }
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: the block was made with so many bytes to spare.
        unsafe {
            self.allocated.add(
                self.allocated
                    .align_offset(self.alignment)
                    .min(self.alignment),
            )
        }
    }

    fn ask_for_large_pages(&self) {
        #[cfg(target_os = "linux")]
        {
            let len = self.room / LARGE_PAGE * LARGE_PAGE;
            // SAFETY: advice on pages of this block. Where it is not taken, pages stay small, and nothing else changes.
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
            SMALL - 1,
            SMALL,
            SMALL + 1,
            LARGE_PAGE,
            BLOCK - SMALL,
            BLOCK,
            BLOCK + 1,
        ];
        for round in 0..3u8 {
            let mut all: Vec<Bytes> = lens
                .iter()
                .flat_map(|&len| [Bytes::zeroed(len), Bytes::for_weights(len)])
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
                    "another wrote to bytes {mark}"
                );
            }
        }
    }

    #[test]
    fn a_block_lives_as_long_as_any_of_its_bytes() {
        let (first, mut second) = (Bytes::for_weights(SMALL), Bytes::for_weights(SMALL));
        drop(first);
        second.as_mut_slice().fill(7);
        let third = Bytes::for_weights(SMALL);
        assert!(third.as_slice().iter().all(|&b| b == 0));
        drop(third);
        assert!(second.as_slice().iter().all(|&b| b == 7));
    }
}
