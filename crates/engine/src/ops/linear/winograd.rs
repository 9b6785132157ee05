//! 3 × 3 convolutions in f32 by Winograd's minimal filtering, where that takes fewer products: every tile of the output is
//! computed from products of transformed pixels with transformed weights.

use super::{Call, Linear, tiles};
use crate::ops::pixels::After;
use crate::ops::scratch::with_floats;
use crate::ops::window::{Source, with_source};
use crate::ops::winograd_weights::WinogradWeights;
use crate::runtime::Runtime;
use crate::spec::Window;
use constancy_kernels::{Product, SharedMut, WinogradInput, WinogradOutput};

/// Transformed values that are computed at a time, so that they stay in a core's cache; but all of them where the weights
/// do not.
const BLOCK: usize = 128 << 10;
const LARGE_WEIGHTS: usize = 256 << 10;

/// The tiles of a call.
struct Tiles<'a> {
    weights: &'a WinogradWeights,
    window: &'a Window,
    /// Positions of a tile.
    positions: usize,
    /// Lines of tiles, and tiles along them, of an image.
    lines: usize,
    across: usize,
    /// Columns, padded to whole panels.
    padded: usize,
}

impl Linear {
    pub(super) fn run_winograd(&self, weights: &WinogradWeights, window: &Window, call: &Call<'_>) {
        let edge = weights.edge;
        let tiles = Tiles {
            weights,
            window,
            positions: (edge + 2).pow(2),
            lines: window.out.0.div_ceil(edge),
            across: window.out.1.div_ceil(edge),
            padded: weights.panels * self.runtime.kernels.f32_panel,
        };
        // Whole tiles read beyond the windows.
        let whole = Window {
            out: (tiles.lines * edge, tiles.across * edge),
            ..*window
        };
        let images = call.rows / (window.out.0 * window.out.1).max(1);
        let lines = images * tiles.lines;
        let per_line = tiles.across * tiles.positions * (window.channels + tiles.padded);
        let most = if weights.bytes.size() / size_of::<f32>() > LARGE_WEIGHTS {
            lines
        } else {
            (BLOCK / per_line.max(1)).max(1)
        };
        with_source(&whole, &self.runtime.pool, call.x, 0.0, |source| {
            with_floats(most.min(lines) * per_line, |floats| {
                for first in (0..lines).step_by(most) {
                    let count = most.min(lines - first);
                    let pixels = count * tiles.across * tiles.positions * window.channels;
                    let (pixels, sums) = floats.split_at_mut(pixels);
                    tiles.transform(&self.runtime, source, (first, count), pixels);
                    tiles.multiply(&self.runtime, count, pixels, sums);
                    self.finish_tiles(&tiles, (first, count), sums, call);
                }
            });
        });
    }

    /// Makes lines of outputs from the sums of their tiles.
    fn finish_tiles(
        &self,
        tiles: &Tiles<'_>,
        (first, count): (usize, usize),
        sums: &[f32],
        call: &Call<'_>,
    ) {
        let (edge, (height, width)) = (tiles.weights.edge, tiles.window.out);
        let kernels = self.runtime.kernels;
        self.runtime.pool.run(count, &|line| {
            let (image, y) = (
                (first + line) / tiles.lines,
                (first + line) % tiles.lines * edge,
            );
            let lines = edge.min(height - y);
            let row = (image * height + y) * width;
            for tile in 0..tiles.across {
                let x = tile * edge;
                let args = WinogradOutput {
                    edge,
                    columns: self.columns,
                    sums: sums[(line * tiles.across + tile) * tiles.padded..].as_ptr(),
                    position_stride: count * tiles.across * tiles.padded,
                    bias: self.bias.as_ptr(),
                    lines,
                    pixels: edge.min(width - x),
                    out: call.out.at((row + x) * self.columns),
                    pixel_stride: self.columns,
                    line_stride: width * self.columns,
                };
                // SAFETY: the sums hold every position of the tile, the bias whole panels; no other task writes these
                // lines.
                unsafe { (kernels.winograd_output)(&args) };
            }
            let after = After {
                columns: self.columns,
                activation: self.activation,
                residual: call.residual,
                residual_first: self.residual_first,
            };
            after.finish(kernels, row, lines * width, &call.out);
        });
    }
}

impl Tiles<'_> {
    /// Transforms the pixels of lines of tiles to `[positions, tiles, channels]`.
    fn transform(
        &self,
        runtime: &Runtime,
        source: &Source<'_>,
        (first, count): (usize, usize),
        to: &mut [f32],
    ) {
        let channels = self.window.channels;
        let edge = self.weights.edge;
        let to = SharedMut::new(to);
        runtime.pool.run(count, &|line| {
            let (image, y) = (
                (first + line) / self.lines,
                (first + line) % self.lines * edge,
            );
            for tile in 0..self.across {
                let args = WinogradInput {
                    edge,
                    channels,
                    input: source.at(image, y).wrapping_add(tile * edge * channels),
                    pixel_stride: source.pixel,
                    line_stride: source.line,
                    out: to.at((line * self.across + tile) * channels),
                    position_stride: count * self.across * channels,
                };
                // SAFETY: the source holds whole tiles, and every tile is written by one task.
                unsafe { (runtime.kernels.winograd_input)(&args) };
            }
        });
    }

    /// The products of each position: `sums` is `[positions, tiles, padded columns]`.
    fn multiply(&self, runtime: &Runtime, count: usize, pixels: &[f32], sums: &mut [f32]) {
        let kernels = runtime.kernels;
        let (rows, channels, panel) =
            (count * self.across, self.window.channels, kernels.f32_panel);
        let weights = self.weights.bytes.as_floats();
        let sums = SharedMut::new(sums);
        runtime
            .pool
            .run(self.positions * self.weights.panels, &|task| {
                let (position, p) = (task / self.weights.panels, task % self.weights.panels);
                let columns = &weights[task * channels * panel..];
                for (r, height) in tiles(rows, kernels.f32_rows) {
                    let row = position * rows + r;
                    let product = Product {
                        rows: height,
                        columns: panel,
                        depth: channels,
                        segments: 1,
                        a: pixels[row * channels..].as_ptr(),
                        a_stride: channels,
                        a_segment: 0,
                        b: columns.as_ptr(),
                        b_stride: panel,
                        c: sums.at(row * self.padded + p * panel),
                        c_stride: self.padded,
                        prefetch: std::ptr::null(),
                        prefetch_step: 0,
                    };
                    // SAFETY: the pixels hold these rows, the weights a panel of `[channels, panel]`; no other task
                    // writes these sums.
                    unsafe { (kernels.product)(&product) };
                }
            });
    }
}
