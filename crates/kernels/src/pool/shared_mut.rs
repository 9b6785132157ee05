//! A slice shared by the tasks of a job.

/// A slice that several tasks write to, each to its own part.
pub struct SharedMut<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: the callers of `slice` and `at` guarantee that tasks use disjoint parts.
unsafe impl<T: Send> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    /// Shares `slice`, which must outlive all use of the value.
    pub fn new(slice: &mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
        }
    }

    /// The `count` elements from `first` on.
    ///
    /// # Safety
    /// No two tasks may ask for overlapping parts, and none may outlive the slice.
    #[expect(
        clippy::mut_from_ref,
        reason = "the contract forbids overlapping parts"
    )]
    #[must_use]
    pub unsafe fn slice(&self, first: usize, count: usize) -> &mut [T] {
        assert!(first + count <= self.len, "a part of the slice");
        // SAFETY: within the slice, and no other task uses it, by contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), count) }
    }

    /// Address of the element at `index`.
    #[must_use]
    pub fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "an element of the slice");
        self.start.wrapping_add(index)
    }
}
