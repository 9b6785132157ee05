//! AVX2 and AVX-512 vectors.

#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "every block relies on the trait's contract: the caller has the features, pointers hold `LEN` values"
)]
#![allow(clippy::wildcard_imports, reason = "intrinsics")]

use super::Vector;
use std::arch::x86_64::*;

/// Eight lanes of AVX2 with FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

// SAFETY of every block: the trait's contract: a caller compiled for AVX2 and FMA and valid pointers.
impl Vector for Avx2 {
    const LEN: usize = 8;
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 2;
    const DEPTHWISE_PIXELS: usize = 6;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    fn prefetch(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, len: usize, fill: f32) -> Self {
        unsafe {
            let mask = first_lanes(len);
            let loaded = _mm256_maskload_ps(from, mask);
            Self(_mm256_blendv_ps(
                _mm256_set1_ps(fill),
                loaded,
                _mm256_castsi256_ps(mask),
            ))
        }
    }
    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, len: usize) {
        unsafe { _mm256_maskstore_ps(to, first_lanes(len), self.0) }
    }
    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        Self(unsafe { _mm256_cvtepi32_ps(_mm256_loadu_si256(from.cast())) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)
        })
    }
    #[inline(always)]
    unsafe fn scale_exp2(self, rounded: Self) -> Self {
        unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(rounded.0));
            Self(_mm256_castsi256_ps(_mm256_add_epi32(
                _mm256_castps_si256(self.0),
                exponent,
            )))
        }
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8, flip: u8) {
        unsafe {
            let wide = _mm256_cvtps_epi32(self.0);
            let (low, high) = (
                _mm256_castsi256_si128(wide),
                _mm256_extracti128_si256::<1>(wide),
            );
            let words = _mm_packus_epi32(low, high);
            let bytes = _mm_xor_si128(
                _mm_packus_epi16(words, words),
                _mm_set1_epi8(flip.cast_signed()),
            );
            _mm_storel_epi64(to.cast(), bytes);
        }
    }
}

/// A mask of the first `len < 8` lanes. Nothing is read or written where it is not set, and no fault is raised there.
#[inline(always)]
unsafe fn first_lanes(len: usize) -> __m256i {
    const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    unsafe { _mm256_loadu_si256(LANES.as_ptr().add(8 - len).cast()) }
}

/// Sixteen lanes of AVX-512 F.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Avx512(pub(crate) __m512);

// SAFETY of every block: the trait's contract: a caller compiled for AVX-512 F and valid pointers.
impl Vector for Avx512 {
    const LEN: usize = 16;
    const TILE_ROWS: usize = 12;
    const TILE_VECTORS: usize = 2;
    const DEPTHWISE_PIXELS: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    fn prefetch(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, len: usize, fill: f32) -> Self {
        unsafe {
            Self(_mm512_mask_loadu_ps(
                _mm512_set1_ps(fill),
                first_of_16(len),
                from,
            ))
        }
    }
    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, len: usize) {
        unsafe { _mm512_mask_storeu_ps(to, first_of_16(len), self.0) }
    }
    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(from.cast())) })
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)
        })
    }
    #[inline(always)]
    unsafe fn scale_exp2(self, rounded: Self) -> Self {
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(rounded.0));
            Self(_mm512_castsi512_ps(_mm512_add_epi32(
                _mm512_castps_si512(self.0),
                exponent,
            )))
        }
    }
    #[inline(always)]
    unsafe fn reduce_sum(self) -> f32 {
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn reduce_min(self) -> f32 {
        unsafe { _mm512_reduce_min_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn reduce_max(self) -> f32 {
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        unsafe {
            // 14 bits, refined by one Newton step: a quarter of a division's time.
            let r = _mm512_rcp14_ps(self.0);
            Self(_mm512_mul_ps(
                r,
                _mm512_fnmadd_ps(self.0, r, _mm512_set1_ps(2.0)),
            ))
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            // Exchanges blocks of 1 × 1, 2 × 2, 4 × 4 and 8 × 8.
            let zero = _mm512_setzero_ps();
            let (mut ones, mut twos) = ([zero; 16], [zero; 16]);
            for i in 0..8 {
                let a = _mm512_loadu_ps(from.add(2 * i * from_stride));
                let b = _mm512_loadu_ps(from.add((2 * i + 1) * from_stride));
                ones[2 * i] = _mm512_unpacklo_ps(a, b);
                ones[2 * i + 1] = _mm512_unpackhi_ps(a, b);
            }
            for i in 0..8 {
                let first = i / 2 * 4 + i % 2;
                let (a, b) = (
                    _mm512_castps_pd(ones[first]),
                    _mm512_castps_pd(ones[first + 2]),
                );
                twos[2 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                twos[2 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
            // `twos[4 b + c]` holds columns c, c + 4, c + 8 and c + 12 of rows 4b..4b+4.
            for c in 0..4 {
                let (a, b, d, e) = (twos[c], twos[4 + c], twos[8 + c], twos[12 + c]);
                let (low, high) = (
                    _mm512_shuffle_f32x4::<0x88>(a, b),
                    _mm512_shuffle_f32x4::<0xdd>(a, b),
                );
                let (low2, high2) = (
                    _mm512_shuffle_f32x4::<0x88>(d, e),
                    _mm512_shuffle_f32x4::<0xdd>(d, e),
                );
                let row = to.add(c * to_stride);
                _mm512_storeu_ps(row, _mm512_shuffle_f32x4::<0x88>(low, low2));
                _mm512_storeu_ps(
                    row.add(4 * to_stride),
                    _mm512_shuffle_f32x4::<0x88>(high, high2),
                );
                _mm512_storeu_ps(
                    row.add(8 * to_stride),
                    _mm512_shuffle_f32x4::<0xdd>(low, low2),
                );
                _mm512_storeu_ps(
                    row.add(12 * to_stride),
                    _mm512_shuffle_f32x4::<0xdd>(high, high2),
                );
            }
        }
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8, flip: u8) {
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0));
            _mm_storeu_si128(
                to.cast(),
                _mm_xor_si128(bytes, _mm_set1_epi8(flip.cast_signed())),
            );
        }
    }
}

/// A mask of the first `len < 16` lanes.
#[inline(always)]
fn first_of_16(len: usize) -> __mmask16 {
    (1 << len) - 1
}
