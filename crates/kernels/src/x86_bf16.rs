//! Attention with its two products in bfloat16, for towers whose other products are in bytes: `vdpbf16ps` multiplies
//! twice as much as an f32 product does, and rounds to 2^−9 of a value, a fifth of what quantising a row costs.
//!
//! Pairs of values lie in one 32-bit lane, low half first, so that the f32 tiles and transposes serve for pairs, too.

use super::vector::Vector;
use super::vector::x86::Avx512;
use super::{AttentionArgs, CACHE_LINE, Product, generic};
use generic::{LOG2_E, Lanes, exponentials, product, turn};
#[allow(clippy::wildcard_imports, reason = "intrinsics")]
use std::arch::x86_64::*;

/// Values of a vector of pairs.
const PAIRED: usize = 2 * Avx512::LEN;
/// Most rows of a product of pairs on any set.
const MOST_ROWS: usize = 32;

/// As [`generic::attention`], for heads whose depth is a multiple of 32; others go there.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn attention(args: &AttentionArgs) {
    // SAFETY: the contract is the caller's; a product is of up to `TILE_ROWS` rows.
    unsafe {
        attention_by(
            args,
            Avx512::TILE_ROWS,
            #[inline(always)]
            |p| product::<Avx512, Pairs>(p),
        );
    }
}

/// The same with `multiply` for products of pairs, a multiple of 16 of them deep, whole panels of 32 columns, up to `most`
/// rows. A tile of rows, of pairs and of results has room for that many.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn attention_by(args: &AttentionArgs, most: usize, multiply: impl Fn(&Product)) {
    if !args.depth.is_multiple_of(PAIRED) {
        // SAFETY: the contract is the caller's.
        return unsafe { generic::attention::<Avx512>(args) };
    }
    // SAFETY: q, k, v and out hold what the shapes say; the buffers below take 2 · pairs · padded values and, for `most`
    // rows, at most twice padded + depth, which is what `Kernels::attention_scratch` asks for.
    unsafe {
        let (keys, depth) = (args.keys, args.depth);
        let padded = keys.next_multiple_of(PAIRED);
        let pairs = depth / 2;
        // In pairs: keys [pairs, padded], values [padded / 2, depth], a tile of queries or of weights; in f32: scores.
        let turned = args
            .scratch
            .add(args.scratch.align_offset(64).min(CACHE_LINE));
        let values = turned.add(pairs * padded);
        let rows = values.add(padded / 2 * depth);
        let scores = rows.add(most * pairs.max(padded / 2));
        let result = scores.add(most * padded);
        // The rows of the keys, in pairs, lie for a moment where the values will.
        let narrow_keys = values;
        for t in 0..keys {
            narrow(
                args.k.add(t * args.k_stride),
                narrow_keys.add(t * pairs),
                depth,
            );
        }
        turn::<Avx512>((keys, pairs), (narrow_keys, pairs), (turned, padded));
        for t in 0..padded / 2 {
            let row = |t: usize| (t < keys).then(|| args.v.add(t * args.v_stride));
            interleave(row(2 * t), row(2 * t + 1), values.add(t * depth), depth);
        }
        for first in (0..args.queries).step_by(most) {
            let count = most.min(args.queries - first);
            for r in 0..count {
                narrow(
                    args.q.add((first + r) * args.q_stride),
                    rows.add(r * pairs),
                    depth,
                );
            }
            multiply(&Product {
                rows: count,
                columns: padded,
                depth: pairs,
                a: rows,
                a_stride: pairs,
                b: turned,
                b_stride: padded,
                c: scores,
                c_stride: padded,
                prefetch: std::ptr::null(),
                prefetch_step: 0,
            });
            let mut totals = [0.0f32; MOST_ROWS];
            for (r, total) in totals.iter_mut().enumerate().take(count) {
                let row = scores.add(r * padded);
                *total = exponentials::<Avx512>(row, keys, padded, args.scale * LOG2_E);
                narrow(row, rows.add(r * padded / 2), padded);
            }
            multiply(&Product {
                rows: count,
                columns: depth,
                depth: padded / 2,
                a: rows,
                a_stride: padded / 2,
                b: values,
                b_stride: depth,
                c: result,
                c_stride: depth,
                prefetch: std::ptr::null(),
                prefetch_step: 0,
            });
            for (r, total) in totals.iter().enumerate().take(count) {
                let inverse = Avx512::splat(1.0 / total);
                let (from, to) = (
                    result.add(r * depth),
                    args.out.add((first + r) * args.out_stride),
                );
                for d in (0..depth).step_by(Avx512::LEN) {
                    Avx512::load(from.add(d)).mul(inverse).store(to.add(d));
                }
            }
        }
    }
}

/// Two values in bfloat16.
struct Pairs;

impl Lanes<Avx512> for Pairs {
    #[inline(always)]
    unsafe fn multiply_add(a: Avx512, b: Avx512, sum: Avx512) -> Avx512 {
        // SAFETY: the caller has the features; both types are 64 plain bytes.
        unsafe {
            let pairs = |v: Avx512| std::mem::transmute::<__m512, __m512bh>(v.0);
            Avx512(_mm512_dpbf16_ps(sum.0, pairs(a), pairs(b)))
        }
    }
}

/// `len` values, a multiple of 32, as pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn narrow(from: *const f32, to: *mut f32, len: usize) {
    for i in (0..len).step_by(PAIRED) {
        // SAFETY: the caller vouches for `len` values and half as many pairs.
        unsafe {
            let (low, high) = (
                _mm512_loadu_ps(from.add(i)),
                _mm512_loadu_ps(from.add(i + Avx512::LEN)),
            );
            store(_mm512_cvtne2ps_pbh(high, low), to.add(i / 2));
        }
    }
}

/// Two rows of `len` values as pairs of one value of each; zeros for a row that is not there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn interleave(a: Option<*const f32>, b: Option<*const f32>, to: *mut f32, len: usize) {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            #[expect(clippy::cast_possible_truncation, reason = "below 32")]
            let lane = (i / 2 + i % 2 * 16) as u16;
            order[i] = lane;
            i += 1;
        }
        order
    };
    // SAFETY: the caller vouches for `len` values of each row and as many pairs.
    unsafe {
        let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
        for i in (0..len).step_by(Avx512::LEN) {
            let (mut low, mut high) = (_mm512_setzero_ps(), _mm512_setzero_ps());
            if let Some(a) = a {
                low = _mm512_loadu_ps(a.add(i));
            }
            if let Some(b) = b {
                high = _mm512_loadu_ps(b.add(i));
            }
            let both = _mm512_cvtne2ps_pbh(high, low);
            let words = std::mem::transmute::<__m512bh, __m512i>(both);
            _mm512_storeu_si512(to.add(i).cast(), _mm512_permutexvar_epi16(order, words));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn store(pairs: __m512bh, to: *mut f32) {
    // SAFETY: both types are 64 plain bytes; the caller vouches for 16 lanes.
    unsafe { _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(pairs)) }
}
