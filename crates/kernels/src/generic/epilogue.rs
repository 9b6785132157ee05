//! The epilogue of a product: scales, bias, activation, residual.

use super::activation::{
    gelu, gelu_tanh, hard_swish, quick_gelu, relu6, sigmoid, silu, with_activation,
};
use crate::args::{Activation, EpilogueArgs};
use crate::vector::Vector;

/// Turns one tile's i32 sums into f32: see [`EpilogueArgs`].
#[inline(always)]
pub(crate) unsafe fn epilogue<V: Vector>(args: &EpilogueArgs<'_>) {
    // SAFETY: the caller upholds the contract of `EpilogueArgs`.
    unsafe {
        let plain = args.weight_zeros.is_none()
            && args.outliers == 0
            && args.columns.is_multiple_of(V::LEN);
        match (plain, args.residual.is_null(), args.activation) {
            (true, true, _) => with_activation!(args.activation, V, plain_epilogue(args)),
            (true, false, Activation::None) => residual_epilogue::<V>(args),
            _ => with_activation!(args.activation, V, general_epilogue(args)),
        }
    }
}

/// The common case: whole vectors, weights without zero points, no outliers, no residual.
#[inline(always)]
unsafe fn plain_epilogue<V: Vector>(args: &EpilogueArgs<'_>, activate: impl Fn(V) -> V) {
    // SAFETY: as in `plain_rows`.
    unsafe {
        plain_rows(
            args,
            #[inline(always)]
            |y, _, _| activate(y),
        );
    }
}

/// [`plain_epilogue`] with a residual.
#[inline(always)]
unsafe fn residual_epilogue<V: Vector>(args: &EpilogueArgs<'_>) {
    // SAFETY: as in `plain_rows`; the residual has the output's shape.
    unsafe {
        plain_rows(
            args,
            #[inline(always)]
            |y: V, r, c| y.add(V::load(args.residual.add(r * args.residual_stride + c))),
        );
    }
}

#[inline(always)]
unsafe fn plain_rows<V: Vector>(args: &EpilogueArgs<'_>, then: impl Fn(V, usize, usize) -> V) {
    // SAFETY: as in `general_epilogue`.
    unsafe {
        for c in (0..args.columns).step_by(V::LEN) {
            let (scale, column_sum) = (
                V::load(args.scales.add(c)),
                V::load(args.column_sums.add(c)),
            );
            let bias = V::load(args.bias.add(c));
            let (mut sums, mut out, mut row) =
                (args.sums.add(c), args.out.add(c), args.quantised.as_ptr());
            for r in 0..args.rows {
                let base = V::splat((*row).offset).fma(column_sum, bias);
                let y = V::load_i32(sums)
                    .mul(scale)
                    .fma(V::splat((*row).scale), base);
                then(y, r, c).store(out);
                (sums, out) = (
                    sums.wrapping_add(args.panel),
                    out.wrapping_add(args.out_stride),
                );
                row = row.wrapping_add(1);
            }
        }
    }
}

#[inline(always)]
unsafe fn general_epilogue<V: Vector>(args: &EpilogueArgs<'_>, activate: impl Fn(V) -> V) {
    // SAFETY: the tile holds `rows × panel` sums, the column tables `columns`, padded to whole vectors; this function
    // inherits the caller's features.
    unsafe {
        let mut c = 0;
        while c < args.columns {
            let (scale, column_sum) = (
                V::load(args.scales.add(c)),
                V::load(args.column_sums.add(c)),
            );
            let bias = V::load(args.bias.add(c));
            let sums = args.sums.add(c);
            store_column(
                args,
                c,
                #[inline(always)]
                |r| {
                    let row = args.quantised.get_unchecked(r);
                    // The large terms are rounded before they cancel. That costs 2^−24 of them, far less than a
                    // quantisation step.
                    let base = V::splat(row.offset).fma(column_sum, bias);
                    let mut y = V::load_i32(sums.add(r * args.panel))
                        .mul(scale)
                        .fma(V::splat(row.scale), base);
                    if let Some(zeros) = args.weight_zeros {
                        y = V::splat(row.neg_sum).fma(V::load(zeros.add(c)), y);
                    }
                    for j in 0..args.outliers {
                        let weights =
                            V::load(args.outlier_weights.add(j * args.outlier_stride + c));
                        y = V::splat(*args.outlier_rows.add(r * args.outliers + j)).fma(weights, y);
                    }
                    y
                },
                &activate,
            );
            c += V::LEN;
        }
    }
}

/// Stores the vector that `of` computes for each row at column `c`, activated and with the residual added.
#[inline(always)]
unsafe fn store_column<V: Vector>(
    args: &EpilogueArgs<'_>,
    c: usize,
    of: impl Fn(usize) -> V,
    activate: &impl Fn(V) -> V,
) {
    // SAFETY: `out` and the residual hold `columns` values per row; this function inherits the caller's features.
    unsafe {
        let (mut out, mut residual) = (args.out.add(c), args.residual.wrapping_add(c));
        let left = args.columns - c;
        for r in 0..args.rows {
            let mut y = of(r);
            if args.residual.is_null() {
                y = activate(y);
            } else {
                let residual = if left >= V::LEN {
                    V::load(residual)
                } else {
                    V::load_partial(residual, left, 0.0)
                };
                y = if args.residual_first {
                    activate(y.add(residual))
                } else {
                    activate(y).add(residual)
                };
            }
            if left >= V::LEN {
                y.store(out);
            } else {
                y.store_partial(out, left);
            }
            out = out.wrapping_add(args.out_stride);
            residual = residual.wrapping_add(args.residual_stride);
        }
    }
}

/// The epilogue of an f32 product: bias, activation and residual.
#[inline(always)]
pub(crate) unsafe fn epilogue_f32<V: Vector>(sums: *const f32, args: &EpilogueArgs<'_>) {
    // SAFETY: the caller upholds the contract of `EpilogueArgs`.
    unsafe { with_activation!(args.activation, V, biased_epilogue(sums, args)) }
}

#[inline(always)]
unsafe fn biased_epilogue<V: Vector>(
    sums: *const f32,
    args: &EpilogueArgs<'_>,
    activate: impl Fn(V) -> V,
) {
    // SAFETY: as in `general_epilogue`.
    unsafe {
        let mut c = 0;
        while c < args.columns {
            let bias = V::load(args.bias.add(c));
            store_column(
                args,
                c,
                #[inline(always)]
                |r| V::load(sums.add(r * args.panel + c)).add(bias),
                &activate,
            );
            c += V::LEN;
        }
    }
}
