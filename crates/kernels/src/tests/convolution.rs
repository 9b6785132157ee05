//! Depthwise convolution, pooling and the passes over pixels, against plain loops; every operand ends at an inaccessible
//! page.

use super::guarded::Guarded;
use super::products::{ACTIVATIONS, activate};
use crate::{
    DEPTHWISE_BLOCK, DepthwiseArgs, FinishArgs, Kernels, PoolArgs, WinogradInput, WinogradOutput,
};
use proptest::prelude::*;
use std::ptr::null;

/// A line of pixels with its windows.
#[derive(Debug, Clone)]
struct Line {
    pixels: usize,
    channels: usize,
    filters: usize,
    window: (usize, usize),
    stride: usize,
    seed: u64,
}

fn lines() -> impl Strategy<Value = Line> {
    let window = (1..=7usize, 1..=7usize);
    (
        0..=23usize,
        1..=DEPTHWISE_BLOCK,
        1..=3usize,
        window,
        1..=3usize,
        any::<u64>(),
    )
        .prop_map(|(pixels, channels, filters, window, stride, seed)| Line {
            pixels,
            channels,
            filters,
            window,
            stride,
            seed,
        })
}

impl Line {
    /// Pixels of a line of the input.
    fn across(&self) -> usize {
        self.pixels.saturating_sub(1) * self.stride + self.window.1
    }

    fn noise(&self, salt: u64, len: usize) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ salt);
        (0..len).map(|_| rng.f32() * 2.0 - 1.0).collect()
    }

    /// Every tap of the window of pixel `p`: its number and the pixel of the input.
    fn taps(&self, p: usize) -> impl Iterator<Item = (usize, usize)> {
        let (across, columns, first) = (self.across(), self.window.1, p * self.stride);
        (0..self.window.0 * columns).map(move |t| (t, t / columns * across + first + t % columns))
    }
}

/// `values` at the end of guarded memory, as floats.
fn guarded(values: &[f32]) -> (Guarded, *mut f32) {
    let memory = Guarded::new(size_of_val(values));
    #[expect(
        clippy::cast_ptr_alignment,
        reason = "a page's end less whole floats is aligned"
    )]
    let start = memory.last(size_of_val(values)).cast::<f32>();
    // SAFETY: the memory holds as many values.
    unsafe { start.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    (memory, start)
}

fn is_close(ours: f32, want: f64) -> bool {
    (f64::from(ours) - want).abs() < 2e-5 * (1.0 + want.abs())
}

/// One tile of a 3 × 3 convolution of each channel by itself, through both transforms, as `[edge, edge, channels]`.
fn winograd_tile(
    kernels: &Kernels,
    edge: usize,
    channels: usize,
    x: &[f32],
    w: &[f32],
) -> Vec<f32> {
    let (across, whole) = (edge + 2, channels.next_multiple_of(16));
    let (_input_memory, input) = guarded(x);
    let (_positions_memory, positions) = guarded(&vec![f32::NAN; across * across * channels]);
    let args = WinogradInput {
        edge,
        channels,
        input,
        pixel_stride: channels,
        line_stride: across * channels,
        out: positions,
        position_stride: channels,
    };
    // SAFETY: the operands match the arguments' shapes.
    unsafe { (kernels.winograd_input)(&args) };
    let filter: &[[f32; 3]] = if edge == 2 {
        &[
            [1.0, 0.0, 0.0],
            [0.5, 0.5, 0.5],
            [0.5, -0.5, 0.5],
            [0.0, 0.0, 1.0],
        ]
    } else {
        &[
            [0.25, 0.0, 0.0],
            [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
            [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
            [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
            [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
            [0.0, 0.0, 1.0],
        ]
    };
    let mut sums = vec![0.0f32; across * across * whole];
    for (at, sums) in sums.chunks_exact_mut(whole).enumerate() {
        for (c, sum) in sums.iter_mut().enumerate().take(channels) {
            let taps = (0..9).map(|t| {
                filter[at / across][t / 3] * filter[at % across][t % 3] * w[t * channels + c]
            });
            // SAFETY: within the positions.
            *sum = taps.sum::<f32>() * unsafe { *positions.add(at * channels + c) };
        }
    }
    let (_sums_memory, sums) = guarded(&sums);
    let (_bias_memory, bias) = guarded(&vec![0.25; whole]);
    let (_out_memory, out) = guarded(&vec![f32::NAN; edge * edge * channels]);
    let args = WinogradOutput {
        edge,
        columns: channels,
        sums,
        position_stride: whole,
        bias,
        lines: edge,
        pixels: edge,
        out,
        pixel_stride: channels,
        line_stride: edge * channels,
    };
    // SAFETY: the operands match the arguments' shapes; what was written is read before it is unmapped.
    unsafe {
        (kernels.winograd_output)(&args);
        std::slice::from_raw_parts(out, edge * edge * channels).to_vec()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_depthwise_line_is_the_formula(line in lines()) {
        const B: usize = DEPTHWISE_BLOCK;
        let taps = line.window.0 * line.window.1;
        // Whole blocks are read.
        let input = line.noise(1, line.window.0 * line.across() * B);
        let weights = line.noise(2, line.filters * taps * B);
        let bias = line.noise(3, line.filters * B);
        let width = line.channels * line.filters;
        for kernels in Kernels::all() {
            let (input_memory, weight_memory, bias_memory) =
                (guarded(&input), guarded(&weights), guarded(&bias));
            let (_memory, out) = guarded(&vec![f32::NAN; line.pixels * width]);
            let args = DepthwiseArgs {
                pixels: line.pixels,
                channels: line.channels,
                filters: line.filters,
                window: line.window,
                stride: line.stride,
                input: input_memory.1,
                pixel_stride: B,
                line_stride: line.across() * B,
                weights: weight_memory.1,
                bias: bias_memory.1,
                out,
                out_stride: width,
            };
            // SAFETY: the operands match the arguments' shapes.
            unsafe { (kernels.depthwise)(&args) };
            for p in 0..line.pixels {
                for i in 0..width {
                    let (c, f) = (i / line.filters, i % line.filters);
                    let products = line.taps(p).map(|(t, pixel)| {
                        f64::from(input[pixel * B + c]) * f64::from(weights[(f * taps + t) * B + c])
                    });
                    let want = products.sum::<f64>() + f64::from(bias[f * B + c]);
                    // SAFETY: within `out`.
                    let ours = unsafe { *out.add(p * width + i) };
                    prop_assert!(is_close(ours, want), "{}: {ours} for {want}", kernels.isa.name());
                }
            }
        }
    }

    #[test]
    fn a_pooled_line_is_the_largest_of_each_window(line in lines(), channels in 1..=70usize) {
        let input = line.noise(1, line.window.0 * line.across() * channels);
        for kernels in Kernels::all() {
            let (_input_memory, from) = guarded(&input);
            let (_memory, out) = guarded(&vec![f32::NAN; line.pixels * channels]);
            let args = PoolArgs {
                pixels: line.pixels,
                channels,
                window: line.window,
                stride: line.stride,
                input: from,
                pixel_stride: channels,
                line_stride: line.across() * channels,
                out,
            };
            // SAFETY: the operands match the arguments' shapes.
            unsafe { (kernels.max_pool)(&args) };
            for p in 0..line.pixels {
                for c in 0..channels {
                    let values = line.taps(p).map(|(_, pixel)| input[pixel * channels + c]);
                    let want = values.fold(f32::NEG_INFINITY, f32::max);
                    // SAFETY: within `out`.
                    prop_assert_eq!(unsafe { *out.add(p * channels + c) }, want);
                }
            }
        }
    }

    #[test]
    fn finished_pixels_are_the_formula(
        shape in (1..=9usize, 1..=70usize, 0..5usize),
        activation in 0..ACTIVATIONS.len(),
        options in (any::<bool>(), any::<bool>(), any::<bool>()),
        seed in any::<u64>(),
    ) {
        let (rows, columns, gap) = shape;
        let (with_scales, with_residual, residual_first) = options;
        let stride = columns + gap;
        let len = (rows - 1) * stride + columns;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut noise = |n: usize| (0..n).map(|_| rng.f32() * 8.0 - 4.0).collect::<Vec<f32>>();
        let (x, scales, residual) = (noise(len), noise(columns), noise(len));
        let activation = ACTIVATIONS[activation];
        for kernels in Kernels::all() {
            let (x_memory, scale_memory, residual_memory) =
                (guarded(&x), guarded(&scales), guarded(&residual));
            let (_memory, out) = guarded(&vec![f32::NAN; len]);
            let args = FinishArgs {
                rows,
                columns,
                x: x_memory.1,
                scales: if with_scales { scale_memory.1 } else { null() },
                residual: if with_residual { residual_memory.1 } else { null() },
                residual_first,
                activation,
                out,
                stride,
            };
            // SAFETY: the operands match the arguments' shapes.
            unsafe { (kernels.finish)(&args) };
            for (r, c) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                let at = r * stride + c;
                let scale = if with_scales { f64::from(scales[c]) } else { 1.0 };
                let added = if with_residual { f64::from(residual[at]) } else { 0.0 };
                let y = f64::from(x[at]) * scale;
                let want = if residual_first {
                    activate(y + added, activation)
                } else {
                    activate(y, activation) + added
                };
                // SAFETY: within `out`.
                let ours = unsafe { *out.add(at) };
                prop_assert!(is_close(ours, want), "{}: {ours} for {want}", kernels.isa.name());
            }
        }
    }

    #[test]
    fn a_mean_is_the_formula(rows in 1..=30usize, columns in 1..=70usize, seed in any::<u64>()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let x: Vec<f32> = (0..rows * columns).map(|_| rng.f32() * 2.0 - 1.0).collect();
        for kernels in Kernels::all() {
            let mut out = vec![f32::NAN; columns];
            kernels.mean(&x, columns, &mut out);
            for (c, &ours) in out.iter().enumerate() {
                let sum: f64 = (0..rows).map(|r| f64::from(x[r * columns + c])).sum();
                prop_assert!(is_close(ours, sum / rows as f64), "{}", kernels.isa.name());
            }
        }
    }

    #[test]
    fn a_tile_is_the_convolution(four in any::<bool>(), channels in 1..=40usize, seed in any::<u64>()) {
        let edge = if four { 4 } else { 2 };
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut noise = |n: usize| (0..n).map(|_| rng.f32() * 2.0 - 1.0).collect::<Vec<f32>>();
        let (x, w) = (noise((edge + 2) * (edge + 2) * channels), noise(9 * channels));
        for kernels in Kernels::all() {
            for (i, ours) in winograd_tile(kernels, edge, channels, &x, &w).into_iter().enumerate() {
                let (y, p, c) = (i / channels / edge, i / channels % edge, i % channels);
                let taps = (0..9).map(|t| {
                    let at = (y + t / 3) * (edge + 2) + p + t % 3;
                    f64::from(x[at * channels + c]) * f64::from(w[t * channels + c])
                });
                let want = taps.sum::<f64>() + 0.25;
                prop_assert!((f64::from(ours) - want).abs() < 1e-4, "{}: {ours} for {want}", kernels.isa.name());
            }
        }
    }
}
