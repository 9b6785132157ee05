//! Kernels read and write nothing beyond their operands, which here end at an inaccessible page. A sanitizer would miss
//! such an access: assembly carries none of its checks.

use crate::{Int8Args, Kernels};
use std::ptr::null_mut;

/// Zeroed bytes that end at an inaccessible page.
pub(super) struct Guarded {
    start: *mut u8,
    mapped: usize,
    len: usize,
}

impl Guarded {
    pub(super) fn new(len: usize) -> Self {
        // SAFETY: the call takes no pointers.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        let mapped = len.next_multiple_of(page) + page;
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: maps new pages and closes the last of them.
        let start = unsafe {
            let start = libc::mmap(null_mut(), mapped, access, kind, -1, 0);
            assert!(
                start != libc::MAP_FAILED
                    && libc::mprotect(start.byte_add(mapped - page), page, libc::PROT_NONE) == 0
            );
            start.cast()
        };
        Self {
            start,
            mapped,
            len: len.next_multiple_of(page),
        }
    }

    /// The last `len` bytes.
    pub(super) fn last(&self, len: usize) -> *mut u8 {
        self.start.wrapping_add(self.len - len)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: unmaps this value's pages, which no pointer outlives.
        assert_eq!(unsafe { libc::munmap(self.start.cast(), self.mapped) }, 0);
    }
}

#[test]
fn the_integer_product_stays_within_its_operands() {
    for kernels in Kernels::all() {
        let kernel = &kernels.int8;
        for rows in 1..=kernel.rows {
            for depth in [1, 2, 3, 5, 8].map(|steps| steps * kernel.step) {
                let sums_len = rows * kernel.panel * size_of::<i32>();
                let (a, w, sums) = (
                    Guarded::new(rows * depth),
                    Guarded::new(depth * kernel.panel),
                    Guarded::new(sums_len),
                );
                let args = Int8Args {
                    rows,
                    a: a.last(rows * depth),
                    a_stride: depth,
                    weights: w.last(depth * kernel.panel).cast(),
                    depth,
                    extras: std::ptr::null(),
                    extra_count: 0,
                    // Any address is allowed.
                    prefetch: w.last(0).cast(),
                    prefetch_step: 64,
                };
                // SAFETY: the operands match the arguments' shapes.
                unsafe { (kernel.tile)(&args, sums.last(sums_len).cast()) };
            }
        }
    }
}
