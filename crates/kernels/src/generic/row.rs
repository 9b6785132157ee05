//! Passes over one row: its vectors, its sum, its range.

use crate::args::Range;
use crate::vector::Vector;

/// Calls `full` with the start of every whole vector of `0..len`, and `part` with the start and length of the rest.
#[inline(always)]
pub(super) fn chunks<V: Vector>(
    len: usize,
    mut full: impl FnMut(usize),
    mut part: impl FnMut(usize, usize),
) {
    let mut i = 0;
    while i + V::LEN <= len {
        full(i);
        i += V::LEN;
    }
    if i < len {
        part(i, len - i);
    }
}

/// Σ `term` over the row. Four independent sums hide the latency of the additions.
#[inline(always)]
pub(super) unsafe fn sum<V: Vector>(x: *const f32, len: usize, term: impl Fn(V) -> V) -> f32 {
    // SAFETY: `x` holds `len` values; this function inherits the caller's features.
    unsafe {
        let mut sums = [V::splat(0.0); 4];
        let mut i = 0;
        while i + 4 * V::LEN <= len {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(term(V::load(x.add(i + j * V::LEN))));
            }
            i += 4 * V::LEN;
        }
        while i + V::LEN <= len {
            sums[0] = sums[0].add(term(V::load(x.add(i))));
            i += V::LEN;
        }
        let mut total = sums[0].add(sums[1]).add(sums[2].add(sums[3])).reduce_sum();
        if i < len {
            let mut lanes = [0.0f32; 16];
            term(V::load_partial(x.add(i), len - i, 0.0)).store(lanes.as_mut_ptr());
            total += lanes[..len - i].iter().sum::<f32>();
        }
        total
    }
}

/// The lane-wise range of the vectors that it was widened to hold, and 0.
pub(super) struct VectorRange<V> {
    low: V,
    high: V,
}

impl<V: Vector> VectorRange<V> {
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        // SAFETY: this function inherits the caller's features.
        unsafe {
            Self {
                low: V::splat(0.0),
                high: V::splat(0.0),
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn widen(&mut self, v: V) {
        // SAFETY: this function inherits the caller's features.
        unsafe {
            self.low = self.low.min(v);
            self.high = self.high.max(v);
        }
    }

    #[inline(always)]
    pub(super) unsafe fn reduce(&self) -> Range {
        // SAFETY: this function inherits the caller's features.
        unsafe {
            Range {
                low: self.low.reduce_min(),
                high: self.high.reduce_max(),
            }
        }
    }
}

/// The range of a row of `len` values and 0.
#[inline(always)]
pub(crate) unsafe fn range<V: Vector>(x: *const f32, len: usize) -> Range {
    // SAFETY: `x` holds `len` values; this function inherits the caller's features.
    unsafe {
        let mut ranges = [VectorRange::<V>::new(), VectorRange::<V>::new()];
        let mut i = 0;
        while i + 2 * V::LEN <= len {
            ranges[0].widen(V::load(x.add(i)));
            ranges[1].widen(V::load(x.add(i + V::LEN)));
            i += 2 * V::LEN;
        }
        while i < len {
            let n = len - i;
            ranges[0].widen(if n >= V::LEN {
                V::load(x.add(i))
            } else {
                V::load_partial(x.add(i), n, 0.0)
            });
            i += V::LEN;
        }
        let (a, b) = (ranges[0].reduce(), ranges[1].reduce());
        Range {
            low: a.low.min(b.low),
            high: a.high.max(b.high),
        }
    }
}
