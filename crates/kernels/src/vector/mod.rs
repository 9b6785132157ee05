//! A vector of f32 lanes, the abstraction over instruction sets that the generic algorithms use.
//!
//! The algorithms in [`super::generic`] are generic over [`Vector`]. They are compiled inside functions that enable
//! the instruction set's features, so that every method below becomes one or two instructions. Calling one outside
//! such a function is undefined behaviour on a machine without those features, hence `unsafe`.

#[cfg(target_arch = "aarch64")]
pub(super) mod arm;
mod scalar;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

pub(super) use scalar::Scalar;

/// f32 lanes of one instruction set. Pointers may be unaligned and must be valid for `LEN` values.
pub(super) trait Vector: Copy {
    /// Lanes.
    const LEN: usize;
    /// Rows of a tile of the f32 product, chosen so that the accumulators fill the registers.
    const TILE_ROWS: usize;
    /// Vectors across a tile of the f32 product.
    const TILE_VECTORS: usize;

    /// Pixels of a tile of a depthwise convolution: 1, 2, 3, 4, 6 or 8, as accumulators and inputs fit the registers.
    const DEPTHWISE_PIXELS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The value at `from` in every lane, as a product needs it.
    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> Self {
        // SAFETY: the caller guarantees a value at `from`; this function inherits the caller's features.
        unsafe { Self::splat(*from) }
    }
    /// Prefetches the cache line at `from`, any address, on the sets where that measurably helps.
    #[inline(always)]
    fn prefetch(_from: *const f32) {}
    unsafe fn store(self, to: *mut f32);
    /// Loads `LEN` i32 values and converts them.
    unsafe fn load_i32(from: *const i32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self · factor + addend`.
    unsafe fn fma(self, factor: Self, addend: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// The nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// `self · 2^n` for `rounded = n + 1.5 · 2^23`, whose lowest bits hold n. Both `self` and the result are normal
    /// numbers.
    unsafe fn scale_exp2(self, rounded: Self) -> Self;
    /// Stores lanes, integers in `0..=255`, as bytes xor `flip`.
    unsafe fn store_u8(self, to: *mut u8, flip: u8);

    /// `1 / self`, relative error below 2e-7.
    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        // SAFETY: this function inherits the caller's features.
        unsafe { Self::splat(1.0).div(self) }
    }

    /// Transposes a block of `LEN × LEN` values.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for r in 0..Self::LEN {
            for c in 0..Self::LEN {
                // SAFETY: the caller guarantees both blocks.
                unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) }
            }
        }
    }

    /// Loads the first `len < LEN` values and sets the other lanes to `fill`.
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, len: usize, fill: f32) -> Self {
        let mut lanes = [fill; 16];
        // SAFETY: the caller guarantees `len` values at `from`; no set has more than 16 lanes.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len);
            Self::load(lanes.as_ptr())
        }
    }

    /// Stores the first `len < LEN` lanes.
    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, len: usize) {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the caller guarantees room for `len` values at `to`; no set has more than 16 lanes.
        unsafe {
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, len);
        }
    }

    /// Sum of the lanes.
    #[inline(always)]
    unsafe fn reduce_sum(self) -> f32 {
        // SAFETY: this function inherits the caller's features.
        unsafe {
            fold(
                self,
                #[inline(always)]
                |a, b| a + b,
            )
        }
    }

    /// The smallest lane; no lane is NaN.
    #[inline(always)]
    unsafe fn reduce_min(self) -> f32 {
        // SAFETY: this function inherits the caller's features.
        unsafe {
            fold(
                self,
                #[inline(always)]
                |a, b| if a < b { a } else { b },
            )
        }
    }

    /// The largest lane; no lane is NaN.
    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        // SAFETY: this function inherits the caller's features.
        unsafe {
            fold(
                self,
                #[inline(always)]
                |a, b| if a > b { a } else { b },
            )
        }
    }
}

/// Combines all lanes pairwise, halving their number each time.
#[inline(always)]
unsafe fn fold<V: Vector>(v: V, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    // SAFETY: no set has more than 16 lanes.
    unsafe { v.store(lanes.as_mut_ptr()) };
    let mut len = V::LEN;
    while len > 1 {
        len /= 2;
        for i in 0..len {
            lanes[i] = combine(lanes[i], lanes[i + len]);
        }
    }
    lanes[0]
}
