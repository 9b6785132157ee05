//! Attention: the softmax of scaled products, times the values.

use super::activation::{LOG2_E, exp2};
use super::product::{F32, product};
use super::row::chunks;
use crate::args::{AttentionArgs, Product};
use crate::vector::Vector;

/// Replaces the first `len` values of a row of `padded` by `2^(factor · (x − max))` and the others by 0; returns their
/// sum.
#[inline(always)]
pub(crate) unsafe fn exp_row<V: Vector>(
    row: *mut f32,
    len: usize,
    padded: usize,
    factor: f32,
) -> f32 {
    // SAFETY: `row` holds `padded` values, a multiple of the lanes; this function inherits the caller's features.
    unsafe {
        for i in len..padded {
            *row.add(i) = f32::NEG_INFINITY;
        }
        let mut max = V::splat(f32::NEG_INFINITY);
        chunks::<V>(
            padded,
            #[inline(always)]
            |i| max = max.max(V::load(row.add(i))),
            #[inline(always)]
            |_, _| {},
        );
        let offset = V::splat(-max.reduce_max() * factor);
        let factor = V::splat(factor);
        let mut sum = V::splat(0.0);
        chunks::<V>(
            padded,
            #[inline(always)]
            |i| {
                let e = exp2(V::load(row.add(i)).fma(factor, offset));
                e.store(row.add(i));
                sum = sum.add(e);
            },
            #[inline(always)]
            |_, _| {},
        );
        let mut total = sum.reduce_sum();
        for i in len..padded {
            total -= *row.add(i);
            *row.add(i) = 0.0;
        }
        total
    }
}

/// `to [columns, to_stride] = from [rows, columns]ᵀ`, with zeros from `rows` to `to_stride`.
#[inline(always)]
pub(crate) unsafe fn transpose<V: Vector>(
    (rows, columns): (usize, usize),
    (from, from_stride): (*const f32, usize),
    (to, to_stride): (*mut f32, usize),
) {
    // SAFETY: both match the shapes; this function inherits the caller's features.
    unsafe {
        let (whole_rows, whole_columns) = (rows / V::LEN * V::LEN, columns / V::LEN * V::LEN);
        for r in (0..whole_rows).step_by(V::LEN) {
            for c in (0..whole_columns).step_by(V::LEN) {
                V::transpose(
                    from.add(r * from_stride + c),
                    from_stride,
                    to.add(c * to_stride + r),
                    to_stride,
                );
            }
        }
        let one = |r: usize, c: usize| {
            *to.add(c * to_stride + r) = if r < rows {
                *from.add(r * from_stride + c)
            } else {
                0.0
            };
        };
        for c in 0..columns {
            (whole_rows..to_stride).for_each(|r| one(r, c));
        }
        for c in whole_columns..columns {
            (0..whole_rows).for_each(|r| one(r, c));
        }
    }
}

/// `softmax(scale · q kᵀ) v` of one head; see [`AttentionArgs`].
///
/// A tile of queries at a time, so that its scores stay in the L1 cache.
#[inline(always)]
pub(crate) unsafe fn attention<V: Vector>(args: &AttentionArgs) {
    // SAFETY: q, k, v, out and scratch match the shapes; this function inherits the caller's features.
    unsafe {
        let panel = V::LEN * V::TILE_VECTORS;
        let (keys, depth) = (args.keys, args.depth);
        let padded = keys.next_multiple_of(panel);
        let wide = depth.next_multiple_of(panel);
        let transposed_keys = args.scratch;
        let values = transposed_keys.add(depth * padded);
        let scores = values.add(keys * wide);
        let result = scores.add(V::TILE_ROWS * padded);
        transpose::<V>(
            (keys, depth),
            (args.k, args.k_stride),
            (transposed_keys, padded),
        );
        copy_padded::<V>((keys, depth), (args.v, args.v_stride), (values, wide));
        for first in (0..args.queries).step_by(V::TILE_ROWS) {
            let rows = V::TILE_ROWS.min(args.queries - first);
            let (q, a_stride) = (args.q.add(first * args.q_stride), args.q_stride);
            let shape = Product {
                rows,
                columns: padded,
                depth,
                segments: 1,
                a: q,
                a_stride,
                a_segment: 0,
                b: transposed_keys,
                b_stride: padded,
                c: scores,
                c_stride: padded,
                prefetch: std::ptr::null(),
                prefetch_step: 0,
            };
            product::<V, F32>(&shape);
            let mut totals = [0.0f32; 16];
            for (r, total) in totals.iter_mut().enumerate().take(rows) {
                *total = exp_row::<V>(scores.add(r * padded), keys, padded, args.scale * LOG2_E);
            }
            let shape = Product {
                rows,
                columns: wide,
                depth: keys,
                segments: 1,
                a: scores,
                a_stride: padded,
                a_segment: 0,
                b: values,
                b_stride: wide,
                c: result,
                c_stride: wide,
                prefetch: std::ptr::null(),
                prefetch_step: 0,
            };
            product::<V, F32>(&shape);
            for (r, total) in totals.iter().enumerate().take(rows) {
                let to = args.out.add((first + r) * args.out_stride);
                store_divided::<V>(result.add(r * wide), *total, to, depth);
            }
        }
    }
}

/// Copies `[rows, columns]` and sets the columns up to `to_stride` to 0.
#[inline(always)]
unsafe fn copy_padded<V: Vector>(
    (rows, columns): (usize, usize),
    (from, from_stride): (*const f32, usize),
    (to, to_stride): (*mut f32, usize),
) {
    // SAFETY: both match the shapes; this function inherits the caller's features.
    unsafe {
        for r in 0..rows {
            let (from, to) = (from.add(r * from_stride), to.add(r * to_stride));
            chunks::<V>(
                columns,
                #[inline(always)]
                |c| V::load(from.add(c)).store(to.add(c)),
                #[inline(always)]
                |c, n| {
                    V::load_partial(from.add(c), n, 0.0).store(to.add(c));
                },
            );
            (columns.next_multiple_of(V::LEN)..to_stride).for_each(|c| *to.add(c) = 0.0);
        }
    }
}

/// Stores a row of `len` values, each divided by `total`. `from` holds whole vectors.
#[inline(always)]
pub(crate) unsafe fn store_divided<V: Vector>(
    from: *const f32,
    total: f32,
    to: *mut f32,
    len: usize,
) {
    // SAFETY: `from` holds `len` values, padded to whole vectors, `to` holds `len`; this function inherits the caller's
    // features.
    unsafe {
        let inverse = V::splat(1.0 / total);
        chunks::<V>(
            len,
            #[inline(always)]
            |i| V::load(from.add(i)).mul(inverse).store(to.add(i)),
            #[inline(always)]
            |i, n| {
                V::load(from.add(i))
                    .mul(inverse)
                    .store_partial(to.add(i), n);
            },
        );
    }
}
