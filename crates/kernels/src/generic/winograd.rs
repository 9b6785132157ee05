//! 3 × 3 convolutions by Winograd's minimal filtering: tiles of outputs cost fewer products, between two transforms
//! (Lavin and Gray 2016, F(2 × 2, 3 × 3) and F(4 × 4, 3 × 3)).
//!
//! A vector holds neighbouring channels of one pixel.

use super::row::chunks;
use crate::args::{WinogradInput, WinogradOutput};
use crate::vector::Vector;

const INPUT_2: [[f32; 4]; 4] = [
    [1.0, 0.0, -1.0, 0.0],
    [0.0, 1.0, 1.0, 0.0],
    [0.0, -1.0, 1.0, 0.0],
    [0.0, 1.0, 0.0, -1.0],
];
const OUTPUT_2: [[f32; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, -1.0]];
const INPUT_4: [[f32; 6]; 6] = [
    [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
    [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
    [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
];
const OUTPUT_4: [[f32; 6]; 4] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
];

/// Transforms the pixels of one tile: see [`WinogradInput`].
#[inline(always)]
pub(crate) unsafe fn winograd_input<V: Vector>(args: &WinogradInput) {
    // SAFETY: the caller upholds the contract of `WinogradInput`.
    unsafe {
        if args.edge == 2 {
            transform_input::<V, 4>(&INPUT_2, args);
        } else {
            transform_input::<V, 6>(&INPUT_4, args);
        }
    }
}

/// Transforms the sums of one tile to its outputs: see [`WinogradOutput`].
#[inline(always)]
pub(crate) unsafe fn winograd_output<V: Vector>(args: &WinogradOutput) {
    // SAFETY: the caller upholds the contract of `WinogradOutput`.
    unsafe {
        if args.edge == 2 {
            transform_output::<V, 4, 2>(&OUTPUT_2, args);
        } else {
            transform_output::<V, 6, 4>(&OUTPUT_4, args);
        }
    }
}

/// `matrix · x`; the matrix is known when this is compiled.
#[inline(always)]
unsafe fn times<V: Vector, const N: usize, const M: usize>(
    matrix: &[[f32; N]; M],
    x: &[V; N],
) -> [V; M] {
    // SAFETY: this function inherits the caller's features.
    unsafe {
        let mut y = [V::splat(0.0); M];
        for (y, row) in y.iter_mut().zip(matrix) {
            let mut first = true;
            for (&factor, &x) in row.iter().zip(x) {
                if factor == 0.0 {
                    continue;
                }
                *y = match (first, factor) {
                    (true, 1.0) => x,
                    (true, _) => x.mul(V::splat(factor)),
                    (false, 1.0) => y.add(x),
                    (false, -1.0) => y.sub(x),
                    (false, _) => x.fma(V::splat(factor), *y),
                };
                first = false;
            }
        }
        y
    }
}

#[inline(always)]
unsafe fn transform_input<V: Vector, const N: usize>(matrix: &[[f32; N]; N], args: &WinogradInput) {
    chunks::<V>(
        args.channels,
        #[inline(always)]
        // SAFETY: as in `input_vector`.
        |c| unsafe { input_vector::<V, N>(matrix, args, c, V::LEN) },
        #[inline(always)]
        // SAFETY: as in `input_vector`.
        |c, n| unsafe { input_vector::<V, N>(matrix, args, c, n) },
    );
}

/// The first `n` lanes of the vector at channel `c`.
#[inline(always)]
unsafe fn input_vector<V: Vector, const N: usize>(
    matrix: &[[f32; N]; N],
    args: &WinogradInput,
    c: usize,
    n: usize,
) {
    // SAFETY: the pointers match the shapes; this function inherits the caller's features.
    unsafe {
        let zero = V::splat(0.0);
        // Columns first, so that each line of pixels is read once.
        let mut lines = [[zero; N]; N];
        for (y, line) in lines.iter_mut().enumerate() {
            let from = args.input.add(y * args.line_stride + c);
            let mut pixels = [zero; N];
            for (x, pixel) in pixels.iter_mut().enumerate() {
                let from = from.add(x * args.pixel_stride);
                *pixel = if n == V::LEN {
                    V::load(from)
                } else {
                    V::load_partial(from, n, 0.0)
                };
            }
            *line = times(matrix, &pixels);
        }
        for x in 0..N {
            let mut column = [zero; N];
            for (value, line) in column.iter_mut().zip(&lines) {
                *value = line[x];
            }
            for (y, value) in times(matrix, &column).into_iter().enumerate() {
                let to = args.out.add((y * N + x) * args.position_stride + c);
                if n == V::LEN {
                    value.store(to);
                } else {
                    value.store_partial(to, n);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn transform_output<V: Vector, const N: usize, const M: usize>(
    matrix: &[[f32; N]; M],
    args: &WinogradOutput,
) {
    chunks::<V>(
        args.columns,
        #[inline(always)]
        // SAFETY: as in `output_vector`.
        |c| unsafe { output_vector::<V, N, M>(matrix, args, c, V::LEN) },
        #[inline(always)]
        // SAFETY: as in `output_vector`.
        |c, n| unsafe { output_vector::<V, N, M>(matrix, args, c, n) },
    );
}

/// The first `n` lanes of the vector at column `c`; sums and bias reach up to a whole vector.
#[inline(always)]
unsafe fn output_vector<V: Vector, const N: usize, const M: usize>(
    matrix: &[[f32; N]; M],
    args: &WinogradOutput,
    c: usize,
    n: usize,
) {
    // SAFETY: the pointers match the shapes; this function inherits the caller's features.
    unsafe {
        let zero = V::splat(0.0);
        let bias = V::load(args.bias.add(c));
        let mut lines = [[zero; M]; N];
        for (y, line) in lines.iter_mut().enumerate() {
            let mut sums = [zero; N];
            for (x, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(args.sums.add((y * N + x) * args.position_stride + c));
            }
            *line = times(matrix, &sums);
        }
        for x in 0..args.pixels.min(M) {
            let mut column = [zero; N];
            for (value, line) in column.iter_mut().zip(&lines) {
                *value = line[x];
            }
            let outputs = times(matrix, &column);
            for (y, value) in outputs.into_iter().enumerate().take(args.lines) {
                let to = args
                    .out
                    .add(y * args.line_stride + x * args.pixel_stride + c);
                let value = value.add(bias);
                if n == V::LEN {
                    value.store(to);
                } else {
                    value.store_partial(to, n);
                }
            }
        }
    }
}
