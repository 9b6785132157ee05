//! The int8 product on x86-64.
//!
//! - AVX-512 VNNI and AVX-VNNI: `vpdpbusd` adds four u8 × s8 products to an i32 lane.
//! - AVX2: `vpmaddubsw` sums two products in 16 bits and saturates. Weights are packed ([`super::packed`]) so that two
//!   products fit whatever the activations are; `vpmaddwd` widens the sums.

use super::int8::{Extra, Int8Args, Int8Kernel};
#[allow(clippy::wildcard_imports, reason = "intrinsics")]
use std::arch::x86_64::*;

pub(super) const AVX2: Int8Kernel = Int8Kernel {
    panel: 8,
    rows: 10,
    step: 8,
    group: 4,
    flip: 0,
    splits_pairs: true,
    tile: avx2,
};

pub(super) const AVX_VNNI: Int8Kernel = Int8Kernel {
    panel: 16,
    rows: 6,
    step: 4,
    group: 4,
    flip: 0,
    splits_pairs: false,
    tile: avx_vnni,
};

pub(super) const AVX512_VNNI: Int8Kernel = Int8Kernel {
    panel: 32,
    rows: 12,
    step: 4,
    group: 4,
    flip: 0,
    splits_pairs: false,
    tile: avx512_vnni,
};

/// Calls `$tile::<R>` for the R that equals the number of rows.
macro_rules! for_rows {
    ($tile:ident, $args:expr, $sums:expr, $($n:literal)+) => {
        // SAFETY: the caller upholds the contract of `Int8Args`.
        match $args.rows { $($n => unsafe { $tile::<$n>($args, $sums) },)+ _ => {} }
    };
}

#[target_feature(enable = "avx2")]
unsafe fn avx2(args: &Int8Args, sums: *mut i32) {
    for_rows!(avx2_rows, args, sums, 1 2 3 4 5 6 7 8 9 10);
}

#[target_feature(enable = "avx2")]
unsafe fn avx2_rows<const R: usize>(args: &Int8Args, out: *mut i32) {
    // SAFETY: rows of `a` and the panel hold `depth` bytes per column, `depth` is a multiple of 8, `out` holds `[R, 8]`.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_si256(); R];
        let mut w = args.weights;
        let mut k = 0;
        while k < args.depth {
            _mm_prefetch::<_MM_HINT_T1>(args.prefetch.wrapping_add(k / 8 * args.prefetch_step));
            let (w0, w1) = (
                _mm256_loadu_si256(w.cast()),
                _mm256_loadu_si256(w.add(32).cast()),
            );
            for (r, sum) in sums.iter_mut().enumerate() {
                let a = args.a.add(r * args.a_stride + k);
                let p0 = _mm256_madd_epi16(_mm256_maddubs_epi16(broadcast4(a), w0), ones);
                let p1 = _mm256_madd_epi16(_mm256_maddubs_epi16(broadcast4(a.add(4)), w1), ones);
                *sum = _mm256_add_epi32(*sum, _mm256_add_epi32(p0, p1));
            }
            w = w.add(64);
            k += 8;
        }
        for e in 0..args.extra_count {
            let Extra { weights, offset } = &*args.extras.add(e);
            let w = _mm256_loadu_si256(weights.as_ptr().cast());
            for (r, sum) in sums.iter_mut().enumerate() {
                let a = args.a.add(r * args.a_stride + *offset as usize);
                *sum = _mm256_add_epi32(
                    *sum,
                    _mm256_madd_epi16(_mm256_maddubs_epi16(broadcast4(a), w), ones),
                );
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            _mm256_storeu_si256(out.add(r * 8).cast(), *sum);
        }
    }
}

/// Four bytes in every 32-bit lane.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn broadcast4(a: *const u8) -> __m256i {
    // SAFETY: the caller guarantees four bytes.
    _mm256_set1_epi32(unsafe { a.cast::<i32>().read_unaligned() })
}

#[target_feature(enable = "avx2,avxvnni")]
unsafe fn avx_vnni(args: &Int8Args, sums: *mut i32) {
    for_rows!(avx_vnni_rows, args, sums, 1 2 3 4 5 6);
}

#[target_feature(enable = "avx2,avxvnni")]
unsafe fn avx_vnni_rows<const R: usize>(args: &Int8Args, out: *mut i32) {
    // SAFETY: rows of `a` and the panel hold `depth` bytes per column, `depth` is a multiple of 4, `out` holds `[R, 16]`.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        let mut w = args.weights;
        let mut k = 0;
        while k < args.depth {
            _mm_prefetch::<_MM_HINT_T1>(args.prefetch.wrapping_add(k / 4 * args.prefetch_step));
            let (w0, w1) = (
                _mm256_loadu_si256(w.cast()),
                _mm256_loadu_si256(w.add(32).cast()),
            );
            for (r, [s0, s1]) in sums.iter_mut().enumerate() {
                let a = broadcast4(args.a.add(r * args.a_stride + k));
                *s0 = _mm256_dpbusd_avx_epi32(*s0, a, w0);
                *s1 = _mm256_dpbusd_avx_epi32(*s1, a, w1);
            }
            w = w.add(64);
            k += 4;
        }
        for (r, [s0, s1]) in sums.iter().enumerate() {
            _mm256_storeu_si256(out.add(r * 16).cast(), *s0);
            _mm256_storeu_si256(out.add(r * 16 + 8).cast(), *s1);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn avx512_vnni(args: &Int8Args, sums: *mut i32) {
    for_rows!(avx512_vnni_rows, args, sums, 1 2 3 4 5 6 7 8 9 10 11 12);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn avx512_vnni_rows<const R: usize>(args: &Int8Args, out: *mut i32) {
    // SAFETY: rows of `a` and the panel hold `depth` bytes per column, `depth` is a multiple of 4, `out` holds `[R, 32]`.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); 2]; R];
        let mut w = args.weights;
        let mut k = 0;
        while k < args.depth {
            _mm_prefetch::<_MM_HINT_T1>(args.prefetch.wrapping_add(k / 4 * args.prefetch_step));
            let (w0, w1) = (
                _mm512_loadu_si512(w.cast()),
                _mm512_loadu_si512(w.add(64).cast()),
            );
            for (r, [s0, s1]) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_epi32(
                    args.a
                        .add(r * args.a_stride + k)
                        .cast::<i32>()
                        .read_unaligned(),
                );
                *s0 = _mm512_dpbusd_epi32(*s0, a, w0);
                *s1 = _mm512_dpbusd_epi32(*s1, a, w1);
            }
            w = w.add(128);
            k += 4;
        }
        for (r, [s0, s1]) in sums.iter().enumerate() {
            _mm512_storeu_si512(out.add(r * 32).cast(), *s0);
            _mm512_storeu_si512(out.add(r * 32 + 16).cast(), *s1);
        }
    }
}
