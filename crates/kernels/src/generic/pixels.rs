//! Passes over pixels whose channels lie side by side: scale, activation and residual, mean, maximum.

use super::activation::{
    gelu, gelu_tanh, hard_swish, quick_gelu, relu6, sigmoid, silu, with_activation,
};
use super::row::chunks;
use crate::args::{Activation, FinishArgs, PoolArgs};
use crate::vector::Vector;

/// Scales, activates and adds: see [`FinishArgs`].
#[inline(always)]
pub(crate) unsafe fn finish<V: Vector>(args: &FinishArgs) {
    // SAFETY: the caller upholds the contract of `FinishArgs`.
    unsafe { with_activation!(args.activation, V, finish_with(args)) }
}

#[inline(always)]
unsafe fn finish_with<V: Vector>(args: &FinishArgs, activate: impl Fn(V) -> V) {
    for r in 0..args.rows {
        chunks::<V>(
            args.columns,
            #[inline(always)]
            // SAFETY: as in `finish_vector`.
            |c| unsafe { finish_vector(args, r * args.stride, c, V::LEN, &activate) },
            #[inline(always)]
            // SAFETY: as in `finish_vector`.
            |c, n| unsafe { finish_vector(args, r * args.stride, c, n, &activate) },
        );
    }
}

/// The first `n` lanes of a vector at column `c` of the row that begins at `row`.
#[inline(always)]
unsafe fn finish_vector<V: Vector>(
    args: &FinishArgs,
    row: usize,
    c: usize,
    n: usize,
    activate: &impl Fn(V) -> V,
) {
    // SAFETY: the operands hold `columns` values per row; this function inherits the caller's features.
    unsafe {
        let mut y = load::<V>(args.x.add(row + c), n);
        if !args.scales.is_null() {
            y = y.mul(load(args.scales.add(c), n));
        }
        if args.residual.is_null() {
            y = activate(y);
        } else {
            let residual = load(args.residual.add(row + c), n);
            y = if args.residual_first {
                activate(y.add(residual))
            } else {
                activate(y).add(residual)
            };
        }
        store(y, args.out.add(row + c), n);
    }
}

/// The first `n` lanes, at most all of them.
#[inline(always)]
unsafe fn load<V: Vector>(from: *const f32, n: usize) -> V {
    // SAFETY: the caller guarantees `n` values.
    unsafe {
        if n == V::LEN {
            V::load(from)
        } else {
            V::load_partial(from, n, 0.0)
        }
    }
}

/// Stores the first `n` lanes, at most all of them.
#[inline(always)]
unsafe fn store<V: Vector>(value: V, to: *mut f32, n: usize) {
    // SAFETY: the caller guarantees room for `n` values.
    unsafe {
        if n == V::LEN {
            value.store(to);
        } else {
            value.store_partial(to, n);
        }
    }
}

/// The mean of `rows` rows, `stride` values apart.
#[inline(always)]
pub(crate) unsafe fn mean<V: Vector>(
    x: *const f32,
    rows: usize,
    columns: usize,
    stride: usize,
    out: *mut f32,
) {
    // SAFETY: `x` holds `rows` rows and `out` one of `columns` values; this function inherits the caller's features.
    unsafe {
        let share = V::splat(1.0 / rows as f32);
        chunks::<V>(
            columns,
            #[inline(always)]
            |c| {
                // Four sums hide the latency of the additions.
                let mut sums = [V::splat(0.0); 4];
                for r in 0..rows {
                    sums[r % 4] = sums[r % 4].add(V::load(x.add(r * stride + c)));
                }
                let sum = sums[0].add(sums[1]).add(sums[2].add(sums[3]));
                sum.mul(share).store(out.add(c));
            },
            #[inline(always)]
            |c, n| {
                let mut sum = V::splat(0.0);
                for r in 0..rows {
                    sum = sum.add(V::load_partial(x.add(r * stride + c), n, 0.0));
                }
                sum.mul(share).store_partial(out.add(c), n);
            },
        );
    }
}

/// The largest value of each window of a line: see [`PoolArgs`].
#[inline(always)]
pub(crate) unsafe fn max_pool<V: Vector>(args: &PoolArgs) {
    for p in 0..args.pixels {
        // SAFETY: the caller upholds the contract of `PoolArgs`.
        unsafe {
            let input = args.input.add(p * args.stride * args.pixel_stride);
            let out = args.out.add(p * args.channels);
            chunks::<V>(
                args.channels,
                #[inline(always)]
                |c| largest::<V>(args, input.add(c), out.add(c), V::LEN),
                #[inline(always)]
                |c, n| largest::<V>(args, input.add(c), out.add(c), n),
            );
        }
    }
}

/// The largest values of `n` channels of a window.
#[inline(always)]
unsafe fn largest<V: Vector>(args: &PoolArgs, input: *const f32, out: *mut f32, n: usize) {
    // SAFETY: the caller upholds the contract of `PoolArgs`.
    unsafe {
        let mut largest = load::<V>(input, n);
        for y in 0..args.window.0 {
            for k in 0..args.window.1 {
                let at = y * args.line_stride + k * args.pixel_stride;
                largest = largest.max(load(input.add(at), n));
            }
        }
        store(largest, out, n);
    }
}
