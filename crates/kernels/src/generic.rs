//! Everything of a tower that is not an integer product, written once over [`Vector`]: quantising rows, layer
//! normalisation, the epilogue of a product, the f32 product, attention.
//!
//! Every function and closure is `#[inline(always)]` so that it takes on the features of the function that it is compiled into
//! ([`super::table`]); every pointer must be valid for what its documentation says.

use super::vector::Vector;
use super::{
    Activation, AttentionArgs, EpilogueArgs, NormArgs, Product, QuantisedRow, Range, least,
};

/// log2(e).
pub(super) const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// `2^x`, relative error below 2e-7; x is held to −100..=100, where reciprocals are still normal numbers.
#[inline(always)]
unsafe fn exp2<V: Vector>(x: V) -> V {
    // SAFETY: the caller's features are this function's.
    unsafe {
        let x = x.max(V::splat(-100.0)).min(V::splat(100.0));
        // Adding 1.5 · 2^23 rounds to an integer, and leaves it in the lowest bits.
        let magic = V::splat(12_582_912.0);
        let rounded = x.add(magic);
        let f = x.sub(rounded.sub(magic));
        // Minimax (Remez) for 2^f on −½..½, relative error 7.5e-8.
        let p = V::splat(1.327_647_2e-3);
        let p = p.fma(f, V::splat(9.675_541e-3));
        let p = p.fma(f, V::splat(5.550_713e-2));
        let p = p.fma(f, V::splat(0.240_221_2));
        let p = p.fma(f, V::splat(0.693_146_94));
        let p = p.fma(f, V::splat(1.000_000_1));
        p.scale_exp2(rounded)
    }
}

/// `x / (1 + 2^power)`: with `power = −log2(e) · y`, x times the sigmoid of y.
#[inline(always)]
unsafe fn gate<V: Vector>(x: V, power: V) -> V {
    // SAFETY: the caller's features are this function's.
    unsafe { x.mul(exp2(power).add(V::splat(1.0)).reciprocal()) }
}

/// x · sigmoid(1.702 x).
#[inline(always)]
unsafe fn quick_gelu<V: Vector>(x: V) -> V {
    // SAFETY: the caller's features are this function's.
    unsafe { gate(x, x.mul(V::splat(-1.702 * LOG2_E))) }
}

/// ½ x (1 + tanh(√(2/π)(x + 0.044715 x³))) = x · sigmoid(2 √(2/π)(x + 0.044715 x³)).
#[inline(always)]
unsafe fn gelu_tanh<V: Vector>(x: V) -> V {
    // SAFETY: the caller's features are this function's.
    unsafe {
        let cubic = x.mul(x).mul(x).fma(V::splat(0.044_715), x);
        gate(x, cubic.mul(V::splat(-1.595_769 * LOG2_E)))
    }
}

/// ½ x (1 + erf(x / √2)) with erf by Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
#[inline(always)]
unsafe fn gelu<V: Vector>(x: V) -> V {
    // SAFETY: the caller's features are this function's.
    unsafe {
        let zero = V::splat(0.0);
        let one = V::splat(1.0);
        let a = x
            .max(zero.sub(x))
            .mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = a.fma(V::splat(0.327_591_1), one).reciprocal();
        let p = V::splat(1.061_405_4);
        let p = p.fma(t, V::splat(-1.453_152));
        let p = p.fma(t, V::splat(1.421_413_8));
        let p = p.fma(t, V::splat(-0.284_496_74));
        let p = p.fma(t, V::splat(0.254_829_6)).mul(t);
        // For x < 0, 1 + erf = p·e^(−a²), without cancellation; for x > 0 it is 2 less that.
        let tail = p
            .mul(exp2(a.mul(a).mul(V::splat(-LOG2_E))))
            .mul(V::splat(0.5));
        x.max(zero).sub(x.max(zero.sub(x)).mul(tail))
    }
}

/// Calls `$work` with a closure that computes `$activation`: the choice is made once a tile, not once a vector.
macro_rules! with_activation {
    ($activation:expr, $vector:ident, $work:ident($($argument:expr),*)) => {
        match $activation {
            Activation::None => $work::<$vector>($($argument,)* #[inline(always)] |x| x),
            Activation::Relu => $work::<$vector>($($argument,)* #[inline(always)] |x: $vector| x.max($vector::splat(0.0))),
            Activation::QuickGelu => $work::<$vector>($($argument,)* #[inline(always)] |x| quick_gelu(x)),
            Activation::Gelu => $work::<$vector>($($argument,)* #[inline(always)] |x| gelu(x)),
            Activation::GeluTanh => $work::<$vector>($($argument,)* #[inline(always)] |x| gelu_tanh(x)),
        }
    };
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

/// Σ `term` over the row; four sums side by side, as an addition waits for the one before it.
#[inline(always)]
unsafe fn sum<V: Vector>(x: *const f32, len: usize, term: impl Fn(V) -> V) -> f32 {
    // SAFETY: `x` holds `len` values; the caller's features are this function's.
    unsafe {
        let mut sums = [V::splat(0.0); 4];
        let mut i = 0;
        while i + 4 * V::LEN <= len {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(term(V::load(x.add(i + j * V::LEN))));
            }
            i += 4 * V::LEN;
        }
        while i + V::LEN <= len {
            sums[0] = sums[0].add(term(V::load(x.add(i))));
            i += V::LEN;
        }
        let mut total = sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum();
        if i < len {
            let mut lanes = [0.0f32; 16];
            term(V::load_part(x.add(i), len - i, 0.0)).store(lanes.as_mut_ptr());
            total += lanes[..len - i].iter().sum::<f32>();
        }
        total
    }
}

/// Layer normalisation of one row: `(x − mean) / √(variance + ε) · gain + shift`, `to` may be `x`.
/// Returns the least and the largest of the results.
#[inline(always)]
pub(super) unsafe fn layer_norm<V: Vector>(
    x: *const f32,
    to: *mut f32,
    len: usize,
    norm: &NormArgs<'_>,
) -> Range {
    // SAFETY: `x`, `to`, gain and shift hold `len` values; the caller's features are this function's.
    unsafe {
        let mean = sum::<V>(
            x,
            len,
            #[inline(always)]
            |v| v,
        ) / len as f32;
        let centre = V::splat(mean);
        let variance = sum::<V>(
            x,
            len,
            #[inline(always)]
            |v| {
                let d = v.sub(centre);
                d.mul(d)
            },
        ) / len as f32;
        let scale = V::splat(1.0 / (variance + norm.epsilon).sqrt());
        let (gain, shift) = (norm.gain.as_ptr(), norm.shift.as_ptr());
        let mut range = VectorRange::<V>::new();
        chunks::<V>(
            len,
            #[inline(always)]
            |i| {
                let d = V::load(x.add(i)).sub(centre).mul(scale);
                let y = d.fma(V::load(gain.add(i)), V::load(shift.add(i)));
                y.store(to.add(i));
                range.widen(y);
            },
            #[inline(always)]
            |i, n| {
                let d = V::load_part(x.add(i), n, 0.0).sub(centre).mul(scale);
                // Gain and shift are 0 beyond the end, and so are the lanes there.
                let y = d.fma(
                    V::load_part(gain.add(i), n, 0.0),
                    V::load_part(shift.add(i), n, 0.0),
                );
                y.store_part(to.add(i), n);
            },
        );
        let tail = len / V::LEN * V::LEN;
        if tail < len {
            range.widen(V::load_part(to.add(tail), len - tail, 0.0));
        }
        range.fold()
    }
}

/// The range of what was seen, widened to hold 0.
struct VectorRange<V> {
    low: V,
    high: V,
}

impl<V: Vector> VectorRange<V> {
    #[inline(always)]
    unsafe fn new() -> Self {
        // SAFETY: the caller's features are this function's.
        unsafe {
            Self {
                low: V::splat(0.0),
                high: V::splat(0.0),
            }
        }
    }

    #[inline(always)]
    unsafe fn widen(&mut self, v: V) {
        // SAFETY: the caller's features are this function's.
        unsafe {
            self.low = self.low.min(v);
            self.high = self.high.max(v);
        }
    }

    #[inline(always)]
    unsafe fn fold(&self) -> Range {
        // SAFETY: the caller's features are this function's.
        unsafe {
            Range {
                low: self.low.least(),
                high: self.high.largest(),
            }
        }
    }
}

/// The range of a row of `len` values and 0.
#[inline(always)]
pub(super) unsafe fn range<V: Vector>(x: *const f32, len: usize) -> Range {
    // SAFETY: `x` holds `len` values; the caller's features are this function's.
    unsafe {
        let mut ranges = [VectorRange::<V>::new(), VectorRange::<V>::new()];
        let mut i = 0;
        while i + 2 * V::LEN <= len {
            ranges[0].widen(V::load(x.add(i)));
            ranges[1].widen(V::load(x.add(i + V::LEN)));
            i += 2 * V::LEN;
        }
        while i < len {
            let n = len - i;
            ranges[0].widen(if n >= V::LEN {
                V::load(x.add(i))
            } else {
                V::load_part(x.add(i), n, 0.0)
            });
            i += V::LEN;
        }
        let (a, b) = (ranges[0].fold(), ranges[1].fold());
        Range {
            low: a.low.min(b.low),
            high: a.high.max(b.high),
        }
    }
}

/// From values to the integers `bottom..=top`.
struct Levels<V> {
    factor: V,
    offset: V,
    bottom: V,
    top: V,
}

impl<V: Vector> Levels<V> {
    #[inline(always)]
    unsafe fn of(&self, v: V) -> V {
        // SAFETY: the caller's features are this function's.
        unsafe {
            v.fma(self.factor, self.offset)
                .max(self.bottom)
                .min(self.top)
                .round()
        }
    }
}

/// Quantises one row of `len` values that lie in `range` to `least..=levels`, so that `x ≈ (q − zero) · scale`; the bytes
/// are stored xor `flip`.
#[inline(always)]
pub(super) unsafe fn quantise_row<V: Vector>(
    x: *const f32,
    to: *mut u8,
    len: usize,
    Range { low, high }: Range,
    levels: u8,
    flip: u8,
) -> QuantisedRow {
    // SAFETY: `x` and `to` hold `len` values; the caller's features are this function's.
    unsafe {
        let (bottom, top) = (f32::from(least(flip)), f32::from(levels));
        let range = high - low;
        // A row of zeros, or one that is not finite, has no scale; the product is then 0 or not a number anyway. The less
        // the scale, the less is left of what cancels.
        let scale = if range > f32::MIN_POSITIVE {
            range / (top - bottom)
        } else {
            f32::MIN_POSITIVE
        };
        let inverse = 1.0 / scale;
        let zero = (bottom - low * inverse)
            .round_ties_even()
            .clamp(bottom, top);
        let (factor, offset) = (V::splat(inverse), V::splat(zero));
        let to_levels = Levels {
            factor,
            offset,
            bottom: V::splat(bottom),
            top: V::splat(top),
        };
        chunks::<V>(
            len,
            #[inline(always)]
            |i| to_levels.of(V::load(x.add(i))).store_u8(to.add(i), flip),
            #[inline(always)]
            |i, n| {
                let mut bytes = [0u8; 16];
                to_levels
                    .of(V::load_part(x.add(i), n, 0.0))
                    .store_u8(bytes.as_mut_ptr(), flip);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(i), n);
            },
        );
        let scale = if range.is_finite() { scale } else { f32::NAN };
        QuantisedRow {
            scale,
            offset: (f32::from(flip) - zero) * scale,
            rest: 0.0,
        }
    }
}

/// One tile's i32 sums to f32: see [`EpilogueArgs`].
#[inline(always)]
pub(super) unsafe fn epilogue<V: Vector>(args: &EpilogueArgs<'_>) {
    // SAFETY: the contract is the caller's.
    unsafe {
        let plain =
            args.weight_zeros.is_none() && args.split == 0 && args.columns.is_multiple_of(V::LEN);
        match (plain, args.residual.is_null(), args.activation) {
            (true, true, _) => with_activation!(args.activation, V, plain_epilogue(args)),
            (true, false, Activation::None) => residual_epilogue::<V>(args),
            _ => with_activation!(args.activation, V, epilogue_with(args)),
        }
    }
}

/// What most tiles have: whole vectors, weights without zero points, nothing split off; and nothing to add.
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

/// The same with a residual.
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
    // SAFETY: as in `epilogue_with`.
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
unsafe fn epilogue_with<V: Vector>(args: &EpilogueArgs<'_>, activate: impl Fn(V) -> V) {
    // SAFETY: the tile holds `rows × panel` sums, the column tables `columns`, padded to whole vectors; the caller's
    // features are this function's.
    unsafe {
        let mut c = 0;
        while c < args.columns {
            let (scale, column_sum) = (
                V::load(args.scales.add(c)),
                V::load(args.column_sums.add(c)),
            );
            let bias = V::load(args.bias.add(c));
            let sums = args.sums.add(c);
            finish_column(
                args,
                c,
                #[inline(always)]
                |r| {
                    let row = args.quantised.get_unchecked(r);
                    // Rounding the large terms before they cancel costs 2^−24 of them: far less than a step of the bytes.
                    let base = V::splat(row.offset).fma(column_sum, bias);
                    let mut y = V::load_i32(sums.add(r * args.panel))
                        .mul(scale)
                        .fma(V::splat(row.scale), base);
                    if let Some(zeros) = args.weight_zeros {
                        y = V::splat(row.rest).fma(V::load(zeros.add(c)), y);
                    }
                    for j in 0..args.split {
                        let weights = V::load(args.split_weights.add(j * args.split_stride + c));
                        y = V::splat(*args.split_rows.add(r * args.split + j)).fma(weights, y);
                    }
                    activate(y)
                },
            );
            c += V::LEN;
        }
    }
}

/// Stores what `of` computes for each row of the columns from `c` on, with the residual added.
#[inline(always)]
unsafe fn finish_column<V: Vector>(args: &EpilogueArgs<'_>, c: usize, of: impl Fn(usize) -> V) {
    // SAFETY: `out` and the residual hold `columns` values a row; the caller's features are this function's.
    unsafe {
        let (mut out, mut residual) = (args.out.add(c), args.residual.wrapping_add(c));
        let left = args.columns - c;
        for r in 0..args.rows {
            let mut y = of(r);
            if left >= V::LEN {
                if !args.residual.is_null() {
                    y = y.add(V::load(residual));
                }
                y.store(out);
            } else {
                if !args.residual.is_null() {
                    y = y.add(V::load_part(residual, left, 0.0));
                }
                y.store_part(out, left);
            }
            out = out.wrapping_add(args.out_stride);
            residual = residual.wrapping_add(args.residual_stride);
        }
    }
}

/// The epilogue of an f32 product: bias, activation, residual over sums that are f32 already.
#[inline(always)]
pub(super) unsafe fn epilogue_f32<V: Vector>(sums: *const f32, args: &EpilogueArgs<'_>) {
    // SAFETY: the contract is the caller's.
    unsafe { with_activation!(args.activation, V, epilogue_f32_with(sums, args)) }
}

#[inline(always)]
unsafe fn epilogue_f32_with<V: Vector>(
    sums: *const f32,
    args: &EpilogueArgs<'_>,
    activate: impl Fn(V) -> V,
) {
    // SAFETY: as in `epilogue_with`.
    unsafe {
        let mut c = 0;
        while c < args.columns {
            let bias = V::load(args.bias.add(c));
            finish_column(
                args,
                c,
                #[inline(always)]
                |r| activate(V::load(sums.add(r * args.panel + c)).add(bias)),
            );
            c += V::LEN;
        }
    }
}

/// What a product's lanes hold.
pub(super) trait Lanes<V> {
    /// `sum + a · b`.
    unsafe fn multiply_add(a: V, b: V, sum: V) -> V;
}

/// A value each.
pub(super) struct Floats;

impl<V: Vector> Lanes<V> for Floats {
    #[inline(always)]
    unsafe fn multiply_add(a: V, b: V, sum: V) -> V {
        // SAFETY: the caller's features are this function's.
        unsafe { a.fma(b, sum) }
    }
}

/// One tile `[R, N·LEN]` of a product.
#[inline(always)]
unsafe fn product_tile<V: Vector, L: Lanes<V>, const R: usize, const N: usize>(p: &Product) {
    // SAFETY: the pointers hold what the shapes say; the caller's features are this function's.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; R];
        let (mut column, mut row) = (p.a, p.b);
        let mut next = if p.prefetch.is_null() {
            p.b
        } else {
            p.prefetch
        };
        for _ in 0..p.depth {
            V::prefetch(next);
            next = next.wrapping_byte_add(p.prefetch_step);
            let mut columns = [V::splat(0.0); N];
            for (n, column) in columns.iter_mut().enumerate() {
                *column = V::load(row.add(n * V::LEN));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = V::broadcast(column.add(r * p.a_stride));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = L::multiply_add(value, column, *sum);
                }
            }
            column = column.add(1);
            row = row.add(p.b_stride);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                sum.store(p.c.add(r * p.c_stride + n * V::LEN));
            }
        }
    }
}

/// A panel of `N` vectors of columns, up to `TILE_ROWS` rows.
#[inline(always)]
unsafe fn product_rows<V: Vector, L: Lanes<V>, const N: usize>(p: &Product) {
    macro_rules! tile {
        ($($n:literal)+) => {
            match p.rows { $($n => product_tile::<V, L, $n, N>(p),)+ _ => {} }
        };
    }
    // SAFETY: as in `product_tile`.
    unsafe {
        match V::TILE_ROWS {
            12 => tile!(1 2 3 4 5 6 7 8 9 10 11 12),
            6 => tile!(1 2 3 4 5 6),
            _ => tile!(1 2 3 4),
        }
    }
}

/// See [`Product`]; up to `TILE_ROWS` rows.
#[inline(always)]
pub(super) unsafe fn product<V: Vector, L: Lanes<V>>(p: &Product) {
    // SAFETY: as in `product_tile`.
    unsafe {
        for c in (0..p.columns).step_by(V::LEN * V::TILE_VECTORS) {
            let panel = Product {
                b: p.b.add(c),
                c: p.c.add(c),
                ..*p
            };
            match V::TILE_VECTORS {
                4 => product_rows::<V, L, 4>(&panel),
                2 => product_rows::<V, L, 2>(&panel),
                _ => product_rows::<V, L, 1>(&panel),
            }
        }
    }
}

/// The first `len` values of a row of `padded` become `2^(factor · (x − largest))`, the others 0; returns their sum.
#[inline(always)]
pub(super) unsafe fn exponentials<V: Vector>(
    row: *mut f32,
    len: usize,
    padded: usize,
    factor: f32,
) -> f32 {
    // SAFETY: `row` holds `padded` values, a multiple of the lanes; the caller's features are this function's.
    unsafe {
        for i in len..padded {
            *row.add(i) = f32::NEG_INFINITY;
        }
        let mut most = V::splat(f32::NEG_INFINITY);
        chunks::<V>(
            padded,
            #[inline(always)]
            |i| most = most.max(V::load(row.add(i))),
            #[inline(always)]
            |_, _| {},
        );
        let most = V::splat(-most.largest() * factor);
        let factor = V::splat(factor);
        let mut sum = V::splat(0.0);
        chunks::<V>(
            padded,
            #[inline(always)]
            |i| {
                let e = exp2(V::load(row.add(i)).fma(factor, most));
                e.store(row.add(i));
                sum = sum.add(e);
            },
            #[inline(always)]
            |_, _| {},
        );
        let mut total = sum.sum();
        for i in len..padded {
            total -= *row.add(i);
            *row.add(i) = 0.0;
        }
        total
    }
}

/// `to [columns, to_stride] = from [rows, columns]ᵀ`, zeros from `rows` to `to_stride`.
#[inline(always)]
pub(super) unsafe fn turn<V: Vector>(
    (rows, columns): (usize, usize),
    (from, from_stride): (*const f32, usize),
    (to, to_stride): (*mut f32, usize),
) {
    // SAFETY: both hold what the shapes say; the caller's features are this function's.
    unsafe {
        let (whole_rows, whole_columns) = (rows / V::LEN * V::LEN, columns / V::LEN * V::LEN);
        for r in (0..whole_rows).step_by(V::LEN) {
            for c in (0..whole_columns).step_by(V::LEN) {
                V::turn(
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
/// A tile of queries at a time, so that its scores stay in the nearest cache.
#[inline(always)]
pub(super) unsafe fn attention<V: Vector>(args: &AttentionArgs) {
    // SAFETY: q, k, v, out and scratch hold what the shapes say; the caller's features are this function's.
    unsafe {
        let panel = V::LEN * V::TILE_VECTORS;
        let (keys, depth) = (args.keys, args.depth);
        let padded = keys.next_multiple_of(panel);
        let wide = depth.next_multiple_of(panel);
        let turned = args.scratch;
        let values = turned.add(depth * padded);
        let scores = values.add(keys * wide);
        let result = scores.add(V::TILE_ROWS * padded);
        turn::<V>((keys, depth), (args.k, args.k_stride), (turned, padded));
        for t in 0..keys {
            let (from, to) = (args.v.add(t * args.v_stride), values.add(t * wide));
            chunks::<V>(
                depth,
                #[inline(always)]
                |d| V::load(from.add(d)).store(to.add(d)),
                #[inline(always)]
                |d, n| {
                    V::load_part(from.add(d), n, 0.0).store(to.add(d));
                },
            );
            (depth.next_multiple_of(V::LEN)..wide).for_each(|d| *to.add(d) = 0.0);
        }
        for first in (0..args.queries).step_by(V::TILE_ROWS) {
            let rows = V::TILE_ROWS.min(args.queries - first);
            let (q, a_stride) = (args.q.add(first * args.q_stride), args.q_stride);
            let shape = Product {
                rows,
                columns: padded,
                depth,
                a: q,
                a_stride,
                b: turned,
                b_stride: padded,
                c: scores,
                c_stride: padded,
                prefetch: std::ptr::null(),
                prefetch_step: 0,
            };
            product::<V, Floats>(&shape);
            let mut totals = [0.0f32; 16];
            for (r, total) in totals.iter_mut().enumerate().take(rows) {
                *total =
                    exponentials::<V>(scores.add(r * padded), keys, padded, args.scale * LOG2_E);
            }
            let shape = Product {
                rows,
                columns: wide,
                depth: keys,
                a: scores,
                a_stride: padded,
                b: values,
                b_stride: wide,
                c: result,
                c_stride: wide,
                prefetch: std::ptr::null(),
                prefetch_step: 0,
            };
            product::<V, Floats>(&shape);
            for (r, total) in totals.iter().enumerate().take(rows) {
                let inverse = V::splat(1.0 / total);
                let (from, to) = (
                    result.add(r * wide),
                    args.out.add((first + r) * args.out_stride),
                );
                chunks::<V>(
                    depth,
                    #[inline(always)]
                    |d| V::load(from.add(d)).mul(inverse).store(to.add(d)),
                    #[inline(always)]
                    |d, n| {
                        V::load(from.add(d)).mul(inverse).store_part(to.add(d), n);
                    },
                );
            }
        }
    }
}
