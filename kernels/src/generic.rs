//! Everything of a tower that is not an integer product, written once over [`Vector`]: quantising rows, layer
//! normalisation, the epilogue of a product, the f32 product, attention.
//!
//! Every function is `#[inline(always)]` so that it takes on the features of the function that it is compiled into
//! ([`super::table`]); every pointer must be valid for what its documentation says.

use super::vector::Vector;
use super::{Activation, AttentionArgs, EpilogueArgs, NormArgs, QuantisedRow};

/// log2(e).
const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// `e^x`, relative error below 3e-7; 0 below −87, and never infinite.
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller's features are this function's.
    unsafe {
        let x = x.max(V::splat(-87.0)).min(V::splat(88.0));
        let n = x.mul(V::splat(LOG2_E)).round();
        // ln 2 in two parts (Cody and Waite), so that the remainder is exact.
        let r = n.fma(V::splat(-0.693_359_4), x);
        let r = n.fma(V::splat(2.121_944_4e-4), r);
        // Cephes' expf.
        let p = V::splat(1.987_569_1e-4);
        let p = p.fma(r, V::splat(1.398_199_9e-3));
        let p = p.fma(r, V::splat(8.333_452e-3));
        let p = p.fma(r, V::splat(4.166_579_6e-2));
        let p = p.fma(r, V::splat(1.666_666_5e-1));
        let p = p.fma(r, V::splat(0.5));
        let p = p.fma(r.mul(r), r.add(V::splat(1.0)));
        p.mul(n.exp2_integral())
    }
}

/// 1 / (1 + e^−x).
#[inline(always)]
unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: the caller's features are this function's.
    unsafe {
        let one = V::splat(1.0);
        one.div(one.add(exp(V::splat(0.0).sub(x))))
    }
}

/// ½ x (1 + erf(x / √2)) with erf by Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
#[inline(always)]
unsafe fn gelu<V: Vector>(x: V) -> V {
    // SAFETY: the caller's features are this function's.
    unsafe {
        let zero = V::splat(0.0);
        let one = V::splat(1.0);
        let a = x.max(zero.sub(x)).mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = one.div(a.fma(V::splat(0.327_591_1), one));
        let p = V::splat(1.061_405_4);
        let p = p.fma(t, V::splat(-1.453_152));
        let p = p.fma(t, V::splat(1.421_413_8));
        let p = p.fma(t, V::splat(-0.284_496_74));
        let p = p.fma(t, V::splat(0.254_829_6)).mul(t);
        // For x < 0, 1 + erf = p·e^(−a²), without cancellation; for x > 0 it is 2 less that.
        let tail = p.mul(exp(zero.sub(a.mul(a)))).mul(V::splat(0.5));
        x.max(zero).sub(x.max(zero.sub(x)).mul(tail))
    }
}

#[inline(always)]
unsafe fn activate<V: Vector>(x: V, activation: Activation) -> V {
    // SAFETY: the caller's features are this function's.
    unsafe {
        match activation {
            Activation::None => x,
            Activation::Relu => x.max(V::splat(0.0)),
            Activation::QuickGelu => x.mul(sigmoid(x.mul(V::splat(1.702)))),
            Activation::Gelu => gelu(x),
            // ½ x (1 + tanh(√(2/π)(x + 0.044715 x³))) = x · sigmoid(2 √(2/π)(x + 0.044715 x³)).
            Activation::GeluTanh => {
                let cubic = x.mul(x).mul(x).fma(V::splat(0.044_715), x);
                x.mul(sigmoid(cubic.mul(V::splat(1.595_769))))
            }
        }
    }
}

/// Calls `full` for every whole vector of `0..len` and `part` with what is left.
#[inline(always)]
fn chunks<V: Vector>(len: usize, mut full: impl FnMut(usize), mut part: impl FnMut(usize, usize)) {
    let mut i = 0;
    while i + V::LEN <= len {
        full(i);
        i += V::LEN;
    }
    if i < len {
        part(i, len - i);
    }
}

/// Layer normalisation of one row: `(x − mean) / √(variance + ε) · gain + shift`, `to` may be `x`.
#[inline(always)]
pub(super) unsafe fn layer_norm<V: Vector>(x: *const f32, to: *mut f32, len: usize, norm: &NormArgs<'_>) {
    // SAFETY: `x`, `to`, gain and shift hold `len` values; the caller's features are this function's.
    unsafe {
        let mut sum = V::splat(0.0);
        let mut rest = 0.0f32;
        chunks::<V>(
            len,
            |i| sum = sum.add(V::load(x.add(i))),
            |i, n| rest += (0..n).map(|j| *x.add(i + j)).sum::<f32>(),
        );
        let mean = (sum.fold(|a, b| a + b) + rest) / len as f32;
        let centre = V::splat(mean);
        let mut squares = V::splat(0.0);
        let mut rest = 0.0f32;
        chunks::<V>(
            len,
            |i| {
                let d = V::load(x.add(i)).sub(centre);
                squares = d.fma(d, squares);
            },
            |i, n| rest += (0..n).map(|j| (*x.add(i + j) - mean) * (*x.add(i + j) - mean)).sum::<f32>(),
        );
        let variance = (squares.fold(|a, b| a + b) + rest) / len as f32;
        let scale = V::splat(1.0 / (variance + norm.epsilon).sqrt());
        let (gain, shift) = (norm.gain.as_ptr(), norm.shift.as_ptr());
        chunks::<V>(
            len,
            |i| {
                let d = V::load(x.add(i)).sub(centre).mul(scale);
                d.fma(V::load(gain.add(i)), V::load(shift.add(i))).store(to.add(i));
            },
            |i, n| {
                let d = V::load_part(x.add(i), n, 0.0).sub(centre).mul(scale);
                let y = d.fma(V::load_part(gain.add(i), n, 0.0), V::load_part(shift.add(i), n, 0.0));
                y.store_part(to.add(i), n);
            },
        );
    }
}

/// Quantises one row of `len` values to `0..=levels`, so that `x ≈ (q − zero) · scale`; the bytes are stored
/// xor `flip`. The range is that of the row, widened to hold 0.
#[inline(always)]
pub(super) unsafe fn quantise_row<V: Vector>(
    x: *const f32,
    to: *mut u8,
    len: usize,
    levels: u8,
    flip: u8,
) -> QuantisedRow {
    // SAFETY: `x` and `to` hold `len` values; the caller's features are this function's.
    unsafe {
        let (mut low, mut high) = (V::splat(0.0), V::splat(0.0));
        let mut i = 0;
        while i < len {
            let n = len - i;
            let v = if n >= V::LEN { V::load(x.add(i)) } else { V::load_part(x.add(i), n, 0.0) };
            low = low.min(v);
            high = high.max(v);
            i += V::LEN;
        }
        let low = low.fold(|a, b| if a < b { a } else { b });
        let high = high.fold(|a, b| if a > b { a } else { b });
        let top = f32::from(levels);
        let range = high - low;
        // A row of zeros, or one that is not finite, has no scale; the product is then 0 or not a number anyway.
        let scale = if range > f32::MIN_POSITIVE { range / top } else { 1.0 };
        let inverse = 1.0 / scale;
        let zero = (-low * inverse).round_ties_even().clamp(0.0, top);
        let (factor, offset) = (V::splat(inverse), V::splat(zero));
        let (least, most) = (V::splat(0.0), V::splat(top));
        let quantise = |v: V| v.fma(factor, offset).round().max(least).min(most);
        chunks::<V>(
            len,
            |i| quantise(V::load(x.add(i))).store_u8(to.add(i), flip),
            |i, n| {
                let mut bytes = [0u8; 16];
                quantise(V::load_part(x.add(i), n, 0.0)).store_u8(bytes.as_mut_ptr(), flip);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(i), n);
            },
        );
        #[expect(clippy::cast_possible_truncation, reason = "integral, in 0..=255")]
        let zero = zero as i32 - i32::from(flip);
        QuantisedRow { scale: if range.is_finite() { scale } else { f32::NAN }, zero, sum: 0 }
    }
}

/// One tile's i32 sums to f32: see [`EpilogueArgs`].
#[inline(always)]
pub(super) unsafe fn epilogue<V: Vector>(args: &EpilogueArgs<'_>) {
    // SAFETY: the tile holds `rows × panel` sums, the column tables `columns`, padded to whole vectors; the caller's
    // features are this function's.
    unsafe {
        let activation = args.activation;
        for r in 0..args.rows {
            let row = &*args.quantised.add(r);
            let sums = args.sums.add(r * args.panel);
            let out = args.out.add(r * args.out_stride);
            let mut c = 0;
            while c < args.columns {
                let mut exact = [0i32; 16];
                for (i, e) in exact.iter_mut().enumerate().take(V::LEN) {
                    // Integers, so that the large terms cancel exactly.
                    *e = *sums.add(c + i) - row.zero * *args.column_sums.add(c + i);
                }
                if let Some(zeros) = args.weight_zeros {
                    let row_sum = row.sum - args.depth * row.zero;
                    for (i, e) in exact.iter_mut().enumerate().take(V::LEN) {
                        *e -= row_sum * *zeros.add(c + i);
                    }
                }
                let scale = V::load(args.scales.add(c)).mul(V::splat(row.scale));
                let mut y = V::load_i32(exact.as_ptr()).fma(scale, V::load(args.bias.add(c)));
                for (j, &value) in args.split_values(r).iter().enumerate() {
                    y = V::splat(value).fma(V::load(args.split_weights.add(j * args.split_stride + c)), y);
                }
                y = activate(y, activation);
                finish(y, args, r, c, out);
                c += V::LEN;
            }
        }
    }
}

/// Adds the residual and stores what lies within the columns.
#[inline(always)]
unsafe fn finish<V: Vector>(y: V, args: &EpilogueArgs<'_>, r: usize, c: usize, out: *mut f32) {
    // SAFETY: `out` and the residual hold `columns` values a row; the caller's features are this function's.
    unsafe {
        let left = args.columns - c;
        if left >= V::LEN {
            let y = if args.residual.is_null() {
                y
            } else {
                y.add(V::load(args.residual.add(r * args.residual_stride + c)))
            };
            y.store(out.add(c));
        } else {
            let y = if args.residual.is_null() {
                y
            } else {
                y.add(V::load_part(args.residual.add(r * args.residual_stride + c), left, 0.0))
            };
            y.store_part(out.add(c), left);
        }
    }
}

/// The epilogue of an f32 product: bias, activation, residual over sums that are f32 already.
#[inline(always)]
pub(super) unsafe fn epilogue_f32<V: Vector>(sums: *const f32, args: &EpilogueArgs<'_>) {
    // SAFETY: as in `epilogue`.
    unsafe {
        for r in 0..args.rows {
            let out = args.out.add(r * args.out_stride);
            let mut c = 0;
            while c < args.columns {
                let y = V::load(sums.add(r * args.panel + c)).add(V::load(args.bias.add(c)));
                finish(activate(y, args.activation), args, r, c, out);
                c += V::LEN;
            }
        }
    }
}

/// One tile `[R, N·LEN]` of the f32 product of `a [R, depth]` (rows `a_stride` apart) and `b [depth, N·LEN]`.
#[inline(always)]
unsafe fn product_tile<V: Vector, const R: usize, const N: usize>(
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    b_stride: usize,
    depth: usize,
    c: *mut f32,
    c_stride: usize,
) {
    // SAFETY: the pointers hold what the shapes say; the caller's features are this function's.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; R];
        let mut row = b;
        for k in 0..depth {
            let columns: [V; N] = std::array::from_fn(|n| V::load(row.add(n * V::LEN)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = V::splat(*a.add(r * a_stride + k));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = value.fma(column, *sum);
                }
            }
            row = row.add(b_stride);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                sum.store(c.add(r * c_stride + n * V::LEN));
            }
        }
    }
}

/// `c [rows, N·LEN] = a [rows, depth] · b [depth, N·LEN]`, one panel of columns, up to 12 rows at a time.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "three matrices with their strides")]
unsafe fn product_rows<V: Vector, const N: usize>(
    rows: usize,
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    b_stride: usize,
    depth: usize,
    c: *mut f32,
    c_stride: usize,
) {
    macro_rules! tile {
        ($r:expr, $($n:literal)+) => {
            match $r { $($n => product_tile::<V, $n, N>(a, a_stride, b, b_stride, depth, c, c_stride),)+ _ => {} }
        };
    }
    // SAFETY: as in `product_tile`.
    unsafe {
        match V::TILE_ROWS {
            12 => tile!(rows, 1 2 3 4 5 6 7 8 9 10 11 12),
            6 => tile!(rows, 1 2 3 4 5 6),
            _ => tile!(rows, 1 2 3 4),
        }
    }
}

/// A tile of the f32 product as wide as the set's panel, see [`product_rows`].
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "three matrices with their strides")]
pub(super) unsafe fn product_panel<V: Vector>(
    rows: usize,
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    b_stride: usize,
    depth: usize,
    c: *mut f32,
    c_stride: usize,
) {
    // SAFETY: as in `product_tile`.
    unsafe {
        match V::TILE_VECTORS {
            4 => product_rows::<V, 4>(rows, a, a_stride, b, b_stride, depth, c, c_stride),
            2 => product_rows::<V, 2>(rows, a, a_stride, b, b_stride, depth, c, c_stride),
            _ => product_rows::<V, 1>(rows, a, a_stride, b, b_stride, depth, c, c_stride),
        }
    }
}

/// `c [rows, columns]` with `columns` a multiple of the panel's width.
#[inline(always)]
#[expect(clippy::many_single_char_names, reason = "c = a · b")]
unsafe fn product<V: Vector>(
    (rows, columns, depth): (usize, usize, usize),
    (a, a_stride): (*const f32, usize),
    (b, b_stride): (*const f32, usize),
    (c, c_stride): (*mut f32, usize),
) {
    // SAFETY: as in `product_tile`.
    unsafe {
        for column in (0..columns).step_by(V::LEN * V::TILE_VECTORS) {
            let mut r = 0;
            while r < rows {
                let n = (rows - r).min(V::TILE_ROWS);
                let (from, to) = (a.add(r * a_stride), c.add(r * c_stride + column));
                product_panel::<V>(n, from, a_stride, b.add(column), b_stride, depth, to, c_stride);
                r += n;
            }
        }
    }
}

/// Softmax of the first `len` values of a row, the values times `scale` first; the others become 0.
#[inline(always)]
unsafe fn softmax<V: Vector>(row: *mut f32, len: usize, padded: usize, scale: f32) {
    // SAFETY: `row` holds `padded` values; the caller's features are this function's.
    unsafe {
        for i in len..padded {
            *row.add(i) = f32::NEG_INFINITY;
        }
        let mut most = V::splat(f32::NEG_INFINITY);
        chunks::<V>(padded, |i| most = most.max(V::load(row.add(i))), |_, _| {});
        let most = V::splat(most.fold(|a, b| if a > b { a } else { b }) * scale);
        let factor = V::splat(scale);
        let mut sum = V::splat(0.0);
        chunks::<V>(
            padded,
            |i| {
                let e = exp(V::load(row.add(i)).mul(factor).sub(most));
                e.store(row.add(i));
                sum = sum.add(e);
            },
            |_, _| {},
        );
        let mut total = sum.fold(|a, b| a + b);
        for i in len..padded {
            total -= *row.add(i);
            *row.add(i) = 0.0;
        }
        let inverse = V::splat(1.0 / total);
        chunks::<V>(padded, |i| V::load(row.add(i)).mul(inverse).store(row.add(i)), |_, _| {});
    }
}

/// `softmax(scale · q kᵀ) v` of one head; see [`AttentionArgs`].
#[inline(always)]
pub(super) unsafe fn attention<V: Vector>(args: &AttentionArgs) {
    // SAFETY: q, k, v, out and scratch hold what the shapes say; the caller's features are this function's.
    unsafe {
        let panel = V::LEN * V::TILE_VECTORS;
        let (keys, depth) = (args.keys, args.depth);
        let padded = keys.next_multiple_of(panel);
        let wide = depth.next_multiple_of(panel);
        let turned = args.scratch;
        let scores = turned.add(padded * depth);
        // Few keys at a time: their rows lie a power of two apart, and would push each other out of the cache.
        for block in (0..padded).step_by(8) {
            for d in 0..depth {
                let row = turned.add(d * padded);
                for t in block..(block + 8).min(padded) {
                    *row.add(t) = if t < keys { *args.k.add(t * args.k_stride + d) } else { 0.0 };
                }
            }
        }
        let shape = (args.queries, padded, depth);
        product::<V>(shape, (args.q, args.q_stride), (turned, padded), (scores, padded));
        for r in 0..args.queries {
            softmax::<V>(scores.add(r * padded), keys, padded, args.scale);
        }
        if wide == depth {
            let shape = (args.queries, depth, keys);
            product::<V>(shape, (scores, padded), (args.v, args.v_stride), (args.out, args.out_stride));
            return;
        }
        // A head narrower than a panel goes through a copy that is as wide.
        let values = scores.add(args.queries * padded);
        let result = values.add(keys * wide);
        for t in 0..keys {
            for d in 0..wide {
                *values.add(t * wide + d) = if d < depth { *args.v.add(t * args.v_stride + d) } else { 0.0 };
            }
        }
        product::<V>((args.queries, wide, keys), (scores, padded), (values, wide), (result, wide));
        for r in 0..args.queries {
            std::ptr::copy_nonoverlapping(result.add(r * wide), args.out.add(r * args.out_stride), depth);
        }
    }
}
