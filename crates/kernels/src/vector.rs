//! A vector of f32 lanes: what the element-wise parts of a tower are written over, once for every instruction set.
//!
//! The algorithms in [`super::generic`] are generic over [`Vector`] and are compiled inside functions that enable
//! the instruction set's features, so that every method below becomes one or two instructions. Calling one outside
//! such a function is undefined behaviour on a machine without those features, hence `unsafe`.

/// f32 lanes of one instruction set. All pointers are unaligned and must be valid for `LEN` values.
pub(super) trait Vector: Copy {
    /// Lanes.
    const LEN: usize;
    /// Rows of a tile of the f32 product, chosen so that the accumulators fill the registers.
    const TILE_ROWS: usize;
    /// Vectors across a tile of the f32 product.
    const TILE_VECTORS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The value at `from` in every lane, for a product.
    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> Self {
        // SAFETY: the caller vouches for a value at `from`, and its features are this function's.
        unsafe { Self::splat(*from) }
    }
    /// Has the cache line at `from` fetched, where that was found to help; `from` may point to anywhere.
    #[inline(always)]
    fn prefetch(_from: *const f32) {}
    unsafe fn store(self, to: *mut f32);
    /// `LEN` i32 values, converted.
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
    /// `self · 2^n` for `rounded = n + 1.5 · 2^23`, which has n in its lowest bits; both self and the result are normal
    /// numbers.
    unsafe fn scale_exp2(self, rounded: Self) -> Self;
    /// Stores integral lanes in `0..=255` as bytes, each xor `flip`.
    unsafe fn store_u8(self, to: *mut u8, flip: u8);

    /// `1 / self`, to 2e-7 of it.
    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        // SAFETY: the caller's features are this function's.
        unsafe { Self::splat(1.0).div(self) }
    }

    /// A block of `LEN × LEN` values with rows and columns exchanged.
    #[inline(always)]
    unsafe fn turn(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for r in 0..Self::LEN {
            for c in 0..Self::LEN {
                // SAFETY: the caller vouches for both blocks.
                unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) }
            }
        }
    }

    /// The first `len < LEN` values; the other lanes are `fill`.
    #[inline(always)]
    unsafe fn load_part(from: *const f32, len: usize, fill: f32) -> Self {
        let mut lanes = [fill; 16];
        // SAFETY: the caller vouches for `len` values at `from`; 16 lanes are the most of any set.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len);
            Self::load(lanes.as_ptr())
        }
    }

    /// Stores the first `len < LEN` lanes.
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, len: usize) {
        let mut lanes = [0.0f32; 16];
        // SAFETY: as above.
        unsafe {
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, len);
        }
    }

    /// Of all lanes.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller's features are this function's.
        unsafe {
            fold(
                self,
                #[inline(always)]
                |a, b| a + b,
            )
        }
    }
    /// The least lane; lanes are numbers.
    #[inline(always)]
    unsafe fn least(self) -> f32 {
        // SAFETY: the caller's features are this function's.
        unsafe {
            fold(
                self,
                #[inline(always)]
                |a, b| if a < b { a } else { b },
            )
        }
    }
    /// The largest lane.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: the caller's features are this function's.
        unsafe {
            fold(
                self,
                #[inline(always)]
                |a, b| if a > b { a } else { b },
            )
        }
    }
}

/// All lanes combined pairwise.
#[inline(always)]
unsafe fn fold<V: Vector>(v: V, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    // SAFETY: 16 lanes are the most of any set.
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

/// Eight lanes without any instruction set: what the others are held to.
#[derive(Clone, Copy)]
pub(super) struct Scalar([f32; 8]);

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

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for `LEN` values.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for `LEN` values.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_i32(from: *const i32) -> Self {
        // SAFETY: the caller vouches for `LEN` values.
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
    // Not `mul_add`: without the instruction it is a call for every lane.
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
        // Adding and taking away 1.5·2^23 rounds to even without a call to the maths library.
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
            reason = "integral, in 0..=255"
        )]
        let bytes = self.0.map(|v| v as i32 as u8 ^ flip);
        // SAFETY: the caller vouches for `LEN` bytes.
        unsafe { to.cast::<[u8; 8]>().write_unaligned(bytes) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    #![expect(
        clippy::undocumented_unsafe_blocks,
        reason = "every block stands on the trait's contract: the caller has the features, pointers hold `LEN` values"
    )]
    #![allow(clippy::wildcard_imports, reason = "intrinsics")]
    use super::Vector;
    use std::arch::x86_64::*;

    /// AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    // SAFETY of every block: the trait's contract, that is a caller compiled for AVX2 and FMA and valid pointers.
    impl Vector for Avx2 {
        const LEN: usize = 8;
        const TILE_ROWS: usize = 6;
        const TILE_VECTORS: usize = 2;

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

    /// AVX-512 F.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    pub(crate) struct Avx512(pub(crate) __m512);

    // SAFETY of every block: the trait's contract, that is a caller compiled for AVX-512 F and valid pointers.
    impl Vector for Avx512 {
        const LEN: usize = 16;
        const TILE_ROWS: usize = 12;
        const TILE_VECTORS: usize = 2;

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
        unsafe fn sum(self) -> f32 {
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
        #[inline(always)]
        unsafe fn least(self) -> f32 {
            unsafe { _mm512_reduce_min_ps(self.0) }
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            unsafe { _mm512_reduce_max_ps(self.0) }
        }
        #[inline(always)]
        unsafe fn reciprocal(self) -> Self {
            unsafe {
                // 14 bits, and one step of Newton's: a quarter of what a division takes.
                let r = _mm512_rcp14_ps(self.0);
                Self(_mm512_mul_ps(
                    r,
                    _mm512_fnmadd_ps(self.0, r, _mm512_set1_ps(2.0)),
                ))
            }
        }
        #[inline(always)]
        unsafe fn turn(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            unsafe {
                // Exchanges of 1 × 1, 2 × 2, 4 × 4 and 8 × 8 blocks.
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
                // `twos[4 b + c]` holds, of rows 4b..4b+4, columns c, c + 4, c + 8 and c + 12.
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
}

#[cfg(target_arch = "aarch64")]
pub(super) mod arm {
    #![expect(
        clippy::undocumented_unsafe_blocks,
        reason = "every block stands on the trait's contract: the caller has the features, pointers hold `LEN` values"
    )]
    #![allow(clippy::wildcard_imports, reason = "intrinsics")]
    use super::Vector;
    use std::arch::aarch64::*;
    use std::arch::asm;

    /// NEON, which every aarch64 machine has.
    #[derive(Clone, Copy)]
    pub(crate) struct Neon(float32x4_t);

    // SAFETY of every block: the trait's contract, that is valid pointers.
    impl Vector for Neon {
        const LEN: usize = 4;
        const TILE_ROWS: usize = 6;
        const TILE_VECTORS: usize = 4;

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
            // `fmla` can name a lane, and loading one takes no arithmetic pipe; but the compiler prefers `ld1r`, which
            // does, unless it does not see that the value comes from memory.
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
        unsafe fn sum(self) -> f32 {
            unsafe { vaddvq_f32(self.0) }
        }
        #[inline(always)]
        unsafe fn least(self) -> f32 {
            unsafe { vminvq_f32(self.0) }
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            unsafe { vmaxvq_f32(self.0) }
        }
        #[inline(always)]
        unsafe fn reciprocal(self) -> Self {
            unsafe {
                // 8 bits, and two steps of Newton's: a division keeps Cortex-A53's only pipe for some twenty cycles.
                let r = vrecpeq_f32(self.0);
                let r = vmulq_f32(r, vrecpsq_f32(self.0, r));
                Self(vmulq_f32(r, vrecpsq_f32(self.0, r)))
            }
        }
        #[inline(always)]
        unsafe fn turn(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            unsafe {
                let [a, b, c, d] = [0, 1, 2, 3].map(|r| vld1q_f32(from.add(r * from_stride)));
                // Exchanges of 1 × 1, then of 2 × 2 blocks.
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
}
