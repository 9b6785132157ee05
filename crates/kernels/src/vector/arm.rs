//! NEON vectors.

#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "every block relies on the trait's contract: the caller has the features, pointers hold `LEN` values"
)]
#![allow(clippy::wildcard_imports, reason = "intrinsics")]

use super::Vector;
use std::arch::aarch64::*;
use std::arch::asm;

/// Four lanes of NEON, which every aarch64 machine has.
#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

// SAFETY of every block: the trait's contract: valid pointers.
impl Vector for Neon {
    const LEN: usize = 4;
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 4;
    const DEPTHWISE_PIXELS: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { vdupq_n_f32(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { vld1q_f32(from) })
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> Self {
        // `fmla` can multiply by one lane of a register, and a plain load occupies no arithmetic pipe. The compiler
        // prefers `ld1r`, which does occupy one. The empty `asm!` hides from it that the value comes from memory.
        let mut value = unsafe { *from };
        unsafe {
            asm!("/* {0:s} */", inout(vreg) value, options(pure, nomem, nostack, preserves_flags))
        };
        Self(unsafe { vdupq_n_f32(value) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        Self(unsafe { vcvtq_f32_s32(vld1q_s32(from)) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { vaddq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { vsubq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { vmulq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { vdivq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        Self(unsafe { vfmaq_f32(addend.0, self.0, factor.0) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { vminq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { vmaxq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { vrndnq_f32(self.0) })
    }
    #[inline(always)]
    unsafe fn scale_exp2(self, rounded: Self) -> Self {
        unsafe {
            let exponent = vshlq_n_s32::<23>(vreinterpretq_s32_f32(rounded.0));
            Self(vreinterpretq_f32_s32(vaddq_s32(
                vreinterpretq_s32_f32(self.0),
                exponent,
            )))
        }
    }
    #[inline(always)]
    unsafe fn reduce_sum(self) -> f32 {
        unsafe { vaddvq_f32(self.0) }
    }
    #[inline(always)]
    unsafe fn reduce_min(self) -> f32 {
        unsafe { vminvq_f32(self.0) }
    }
    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        unsafe { vmaxvq_f32(self.0) }
    }
    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        unsafe {
            // 8 bits, refined by two Newton steps: a division occupies Cortex-A53's only pipe for about 20 cycles.
            let r = vrecpeq_f32(self.0);
            let r = vmulq_f32(r, vrecpsq_f32(self.0, r));
            Self(vmulq_f32(r, vrecpsq_f32(self.0, r)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let [a, b, c, d] = [0, 1, 2, 3].map(|r| vld1q_f32(from.add(r * from_stride)));
            // Exchanges blocks of 1 × 1, then of 2 × 2.
            let ones = [
                vtrn1q_f32(a, b),
                vtrn2q_f32(a, b),
                vtrn1q_f32(c, d),
                vtrn2q_f32(c, d),
            ];
            let [a, b, c, d] = ones.map(|v| vreinterpretq_f64_f32(v));
            let twos = [
                vtrn1q_f64(a, c),
                vtrn1q_f64(b, d),
                vtrn2q_f64(a, c),
                vtrn2q_f64(b, d),
            ];
            for (r, row) in twos.into_iter().enumerate() {
                vst1q_f32(to.add(r * to_stride), vreinterpretq_f32_f64(row));
            }
        }
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8, flip: u8) {
        unsafe {
            let words = vmovn_u32(vcvtq_u32_f32(self.0));
            let bytes = veor_u8(vmovn_u16(vcombine_u16(words, words)), vdup_n_u8(flip));
            to.cast::<u32>()
                .write_unaligned(vget_lane_u32::<0>(vreinterpret_u32_u8(bytes)));
        }
    }
}
