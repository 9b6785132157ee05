//! Eight lanes in plain Rust, the reference for the other vectors.

use super::Vector;

/// Eight lanes that need no instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Scalar([f32; 8]);

impl Scalar {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Vector for Scalar {
    const LEN: usize = 8;
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 1;
    const DEPTHWISE_PIXELS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller guarantees `LEN` values.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller guarantees `LEN` values.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: the caller guarantees `LEN` values.
        Self(unsafe { from.cast::<[i32; 8]>().read_unaligned() }.map(|v| v as f32))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    // Not `mul_add`: without an FMA instruction it is a function call per lane.
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        self.zip(factor, |a, b| a * b).zip(addend, |p, c| p + c)
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding and subtracting 1.5·2^23 rounds ties to even without a call to the maths library.
        const MAGIC: f32 = 12_582_912.0;
        Self(self.0.map(|v| {
            if v.abs() < 4_194_304.0 {
                (v + MAGIC) - MAGIC
            } else {
                v
            }
        }))
    }
    #[inline(always)]
    unsafe fn scale_exp2(self, rounded: Self) -> Self {
        self.zip(rounded, |v, r| {
            f32::from_bits(v.to_bits().wrapping_add(r.to_bits() << 23))
        })
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8, flip: u8) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an integer in 0..=255"
        )]
        let bytes = self.0.map(|v| v as i32 as u8 ^ flip);
        // SAFETY: the caller guarantees `LEN` bytes.
        unsafe { to.cast::<[u8; 8]>().write_unaligned(bytes) }
    }
}
