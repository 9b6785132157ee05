//! Attention with its two products in bfloat16, for towers whose other products are in int8.
//!
//! `vdpbf16ps` multiplies twice as many values as an f32 product and rounds each to 2^−9, a fifth of the error of
//! quantising a row. A pair of values lies in one 32-bit lane, low half first, so that the f32 tiles and transposes
//! work for pairs as well.

use super::args::{AttentionArgs, CACHE_LINE, Product};
use super::generic::{self, LOG2_E, MultiplyAdd, exp_row, product, store_divided, transpose};
use super::vector::Vector;
use super::vector::x86::Avx512;
#[allow(clippy::wildcard_imports, reason = "intrinsics")]
use std::arch::x86_64::*;

/// Values in a vector of pairs.
const PAIRED: usize = 2 * Avx512::LEN;
/// Most rows of a product of pairs on any instruction set.
const MAX_ROWS: usize = 32;

/// [`generic::attention`] in bfloat16 for heads whose depth is a multiple of 32; other depths are computed in f32.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn attention(args: &AttentionArgs) {
    // SAFETY: the caller upholds the contract of `AttentionArgs`; a product has up to `TILE_ROWS` rows.
    unsafe {
        attention_with(
            args,
            Avx512::TILE_ROWS,
            #[inline(always)]
            |p| product::<Avx512, Bf16Pairs>(p),
        );
    }
}

/// [`attention`] with `multiply` for products of pairs: a multiple of 16 pairs deep, whole panels of 32 columns, up to
/// `max_rows` rows. The buffers of queries, scores and results have room for that many rows.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn attention_with(
    args: &AttentionArgs,
    max_rows: usize,
    multiply: impl Fn(&Product),
) {
    if !args.depth.is_multiple_of(PAIRED) {
        // SAFETY: the caller upholds the contract of `AttentionArgs`.
        return unsafe { generic::attention::<Avx512>(args) };
    }
    // SAFETY: q, k, v and out match the shapes. The buffers below take 2 · pairs · padded values and, for `max_rows` rows,
    // at most twice padded + depth, as `Kernels::attention_scratch` requires.
    unsafe {
        let (keys, depth) = (args.keys, args.depth);
        let padded = keys.next_multiple_of(PAIRED);
        let pairs = depth / 2;
        // In pairs: keys [pairs, padded], values [padded / 2, depth], and rows, a tile of queries or of softmax weights. In
        // f32: scores and results.
        let transposed_keys = args
            .scratch
            .add(args.scratch.align_offset(64).min(CACHE_LINE));
        // The values' buffer also holds the keys' rows while they are transposed.
        let values = transposed_keys.add(pairs * padded);
        let rows = values.add(padded / 2 * depth);
        let scores = rows.add(max_rows * pairs.max(padded / 2));
        let result = scores.add(max_rows * padded);
        pack_keys(args, values, transposed_keys, padded);
        pack_values(args, values, padded);
        for first in (0..args.queries).step_by(max_rows) {
            let count = max_rows.min(args.queries - first);
            for r in 0..count {
                narrow_pairs(
                    args.q.add((first + r) * args.q_stride),
                    rows.add(r * pairs),
                    depth,
                );
            }
            multiply(&Product {
                rows: count,
                columns: padded,
                depth: pairs,
                segments: 1,
                a: rows,
                a_stride: pairs,
                a_segment: 0,
                b: transposed_keys,
                b_stride: padded,
                c: scores,
                c_stride: padded,
                prefetch: std::ptr::null(),
                prefetch_step: 0,
            });
            let mut totals = [0.0f32; MAX_ROWS];
            for (r, total) in totals.iter_mut().enumerate().take(count) {
                let row = scores.add(r * padded);
                *total = exp_row::<Avx512>(row, keys, padded, args.scale * LOG2_E);
                narrow_pairs(row, rows.add(r * padded / 2), padded);
            }
            multiply(&Product {
                rows: count,
                columns: depth,
                depth: padded / 2,
                segments: 1,
                a: rows,
                a_stride: padded / 2,
                a_segment: 0,
                b: values,
                b_stride: depth,
                c: result,
                c_stride: depth,
                prefetch: std::ptr::null(),
                prefetch_step: 0,
            });
            for (r, total) in totals.iter().enumerate().take(count) {
                let to = args.out.add((first + r) * args.out_stride);
                store_divided::<Avx512>(result.add(r * depth), *total, to, depth);
            }
        }
    }
}

/// Stores the keys, in pairs, as `to [depth / 2, padded]`. `scratch` takes their rows in between.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_keys(args: &AttentionArgs, scratch: *mut f32, to: *mut f32, padded: usize) {
    let (keys, depth) = (args.keys, args.depth);
    let pairs = depth / 2;
    // SAFETY: k matches its shape, `scratch` has room for `[keys, pairs]` and `to` for `[pairs, padded]`.
    unsafe {
        for t in 0..keys {
            narrow_pairs(args.k.add(t * args.k_stride), scratch.add(t * pairs), depth);
        }
        transpose::<Avx512>((keys, pairs), (scratch, pairs), (to, padded));
    }
}

/// Stores the values as `to [padded / 2, depth]`, each pair from two neighbouring rows.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_values(args: &AttentionArgs, to: *mut f32, padded: usize) {
    let (keys, depth) = (args.keys, args.depth);
    // SAFETY: v matches its shape, `to` has room for `[padded / 2, depth]`.
    unsafe {
        for t in 0..padded / 2 {
            let row = |t: usize| (t < keys).then(|| args.v.add(t * args.v_stride));
            interleave(row(2 * t), row(2 * t + 1), to.add(t * depth), depth);
        }
    }
}

/// Two bfloat16 values per lane.
struct Bf16Pairs;

impl MultiplyAdd<Avx512> for Bf16Pairs {
    #[inline(always)]
    unsafe fn multiply_add(a: Avx512, b: Avx512, sum: Avx512) -> Avx512 {
        // SAFETY: the caller has the features; both types are 64 bytes of plain data.
        unsafe {
            let pairs = |v: Avx512| std::mem::transmute::<__m512, __m512bh>(v.0);
            Avx512(_mm512_dpbf16_ps(sum.0, pairs(a), pairs(b)))
        }
    }
}

/// Converts `len` values, a multiple of 32, to pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn narrow_pairs(from: *const f32, to: *mut f32, len: usize) {
    for i in (0..len).step_by(PAIRED) {
        // SAFETY: the caller guarantees `len` values and room for half as many pairs.
        unsafe {
            let (low, high) = (
                _mm512_loadu_ps(from.add(i)),
                _mm512_loadu_ps(from.add(i + Avx512::LEN)),
            );
            store(_mm512_cvtne2ps_pbh(high, low), to.add(i / 2));
        }
    }
}

/// Pairs each value of row `a` with the one of row `b`, rows of `len` values; a missing row counts as zeros.
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
    // SAFETY: the caller guarantees `len` values of each row and room for as many pairs.
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
    // SAFETY: both types are 64 bytes of plain data; the caller guarantees room for 16 lanes.
    unsafe { _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(pairs)) }
}
