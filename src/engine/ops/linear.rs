//! The product of rows with a constant matrix, with what stands before and behind it:
//! `y = activation(norm(x) · W + b) + residual`.
//!
//! In bytes, every row is quantised with a scale and a zero point of its own; weights have a scale per column.

use super::scratch::{with_bytes, with_floats};
use super::weights::{F32Weights, Int8Weights, PackError, Precision, Weights};
use super::{Runtime, with_last};
use crate::engine::rewrite::{LinearSpec, NormSpec, Patches};
use constancy_kernels::{Activation, EpilogueArgs, Int8Args, Product, QuantisedRow, SharedMut};
use std::sync::Arc;
use tract_onnx::prelude::{TVec, tract_itertools::izip, tvec};

/// Rows that are quantised as one task.
const ROWS_PER_TASK: usize = 16;
/// A tile is 12 rows of 32 columns at most on any set, 32 of f32.
const TILE: usize = 12 * 32;

/// The operator.
pub(in super::super) struct Linear {
    weights: Weights,
    /// Padded to whole panels.
    bias: Vec<f32>,
    depth: usize,
    columns: usize,
    norm: Option<NormSpec>,
    activation: Activation,
    patches: Option<Patches>,
    runtime: Arc<Runtime>,
}

/// Input and output of one call.
struct Call<'a> {
    rows: usize,
    residual: Option<&'a [f32]>,
    out: SharedMut<f32>,
}

impl Linear {
    pub(super) fn new(
        name: &str,
        spec: &LinearSpec,
        runtime: &Arc<Runtime>,
        precision: Precision,
    ) -> Result<Self, PackError> {
        let kernels = runtime.kernels;
        let weights = Weights::pack(name, spec, runtime, precision)?;
        let mut bias = vec![0.0; spec.columns.next_multiple_of(kernels.int8.panel.max(kernels.f32_panel))];
        let mut start = 0;
        for part in &spec.parts {
            bias[start..start + part.bias.len()].copy_from_slice(&part.bias);
            start += part.columns();
        }
        Ok(Self {
            weights,
            bias,
            depth: spec.depth,
            columns: spec.columns,
            norm: spec.norm.clone(),
            activation: spec.activation,
            patches: spec.patches,
            runtime: Arc::clone(runtime),
        })
    }

    pub(super) fn kind(&self) -> &'static str {
        match (&self.weights, self.patches.is_some()) {
            (_, true) => "patch embedding",
            (Weights::Int8(_), false) => "linear int8",
            (Weights::F32(_), false) => "linear f32",
        }
    }

    /// Bytes of weights in memory.
    pub(in super::super) fn weight_bytes(&self) -> usize {
        self.weights.len()
    }

    pub(super) fn output_shape(&self, input: &[usize]) -> TVec<usize> {
        match self.patches {
            Some(p) => tvec![input.first().copied().unwrap_or(1), p.rows * p.columns, self.columns],
            None => with_last(input, self.columns),
        }
    }

    /// `x` is `[rows, depth]`, or an image where the operator embeds patches; `out` is `[rows, columns]`.
    pub(super) fn run(&self, x: &[f32], rows: usize, shape: &[usize], residual: Option<&[f32]>, out: &mut [f32]) {
        let Some(patches) = self.patches else { return self.run_rows(x, rows, residual, out) };
        let batch = shape.first().copied().unwrap_or(1);
        let count = patches.rows * patches.columns;
        // The rows are cut out here, and lent again below: not from the same scratch.
        let mut cut = vec![0.0; batch * count * self.depth];
        let image = patches.channels * count * patches.size * patches.size;
        for (image, rows) in x.chunks_exact(image).zip(cut.chunks_exact_mut(count * self.depth)) {
            patches.cut(image, rows);
        }
        self.run_rows(&cut, batch * count, residual, out);
    }

    fn run_rows(&self, x: &[f32], rows: usize, residual: Option<&[f32]>, out: &mut [f32]) {
        assert!(x.len() == rows * self.depth && out.len() == rows * self.columns, "operands of the product's shape");
        assert!(residual.is_none_or(|r| r.len() == out.len()), "a residual of the output's shape");
        let call = Call { rows, residual, out: SharedMut::new(out) };
        match &self.weights {
            Weights::Int8(weights) => self.run_int8(weights, x, &call),
            Weights::F32(weights) => self.run_f32(weights, x, &call),
        }
    }

    fn run_int8(&self, weights: &Int8Weights, x: &[f32], call: &Call<'_>) {
        let (rows, stride, outliers) = (call.rows, weights.packed.depth, weights.outliers.len());
        with_bytes(rows * stride, |bytes| {
            with_floats(rows * outliers, |split| {
                let mut quantised = vec![QuantisedRow::default(); rows];
                let (bytes_of, split_of) = (SharedMut::new(bytes), SharedMut::new(split));
                let quantised_of = SharedMut::new(&mut quantised);
                self.runtime.pool.run(rows.div_ceil(ROWS_PER_TASK), &|task| {
                    let first = task * ROWS_PER_TASK;
                    let count = ROWS_PER_TASK.min(rows - first);
                    // SAFETY: every task has rows of its own.
                    let (bytes, split, quantised) = unsafe {
                        (
                            bytes_of.slice(first * stride, count * stride),
                            split_of.slice(first * outliers, count * outliers),
                            quantised_of.slice(first, count),
                        )
                    };
                    self.quantise(
                        weights,
                        &x[first * self.depth..(first + count) * self.depth],
                        bytes,
                        split,
                        quantised,
                    );
                });
                let (bytes, split) = (&*bytes, &*split);
                let panels = weights.packed.panels();
                self.runtime.pool.run(panels, &|p| self.int8_panel(weights, p, bytes, split, &quantised, call));
            });
        });
    }

    /// Normalises and quantises rows; sets outliers aside.
    fn quantise(
        &self,
        weights: &Int8Weights,
        x: &[f32],
        bytes: &mut [u8],
        split: &mut [f32],
        quantised: &mut [QuantisedRow],
    ) {
        let kernels = self.runtime.kernels;
        let stride = weights.packed.depth;
        let outliers = weights.outliers.len();
        let mut row = vec![0.0; if self.norm.is_some() { self.depth } else { 0 }];
        let rows = x.chunks_exact(self.depth).zip(bytes.chunks_exact_mut(stride)).zip(quantised).enumerate();
        for (r, ((x, bytes), quantised)) in rows {
            let (x, range) = match &self.norm {
                Some(norm) => {
                    let mut range = kernels.layer_norm(x, &mut row, &norm.args());
                    if outliers > 0 {
                        for (value, &channel) in split[r * outliers..].iter_mut().zip(&weights.outliers) {
                            *value = std::mem::take(&mut row[channel]);
                        }
                        range = kernels.range(&row);
                    }
                    (&row[..], range)
                }
                None => (x, kernels.range(x)),
            };
            *quantised = kernels.quantise_row(x, range, bytes);
            // The padding meets weights of 0.
            bytes[self.depth..].fill(0);
            if weights.zeros.is_some() {
                let sum = kernels.stored_sum(&bytes[..self.depth]) as f32;
                quantised.rest = -(sum * quantised.scale + self.depth as f32 * quantised.offset);
            }
        }
    }

    fn int8_panel(
        &self,
        weights: &Int8Weights,
        p: usize,
        bytes: &[u8],
        split: &[f32],
        quantised: &[QuantisedRow],
        call: &Call<'_>,
    ) {
        let kernels = self.runtime.kernels;
        let packed = &weights.packed;
        let first = p * kernels.int8.panel;
        let extras = packed.extras(p);
        let outliers = weights.outliers.len();
        let mut sums = [0i32; TILE];
        let (steps, panel_bytes) = (packed.depth / kernels.int8.step, packed.depth * kernels.int8.panel);
        // Each tile fetches its share of the next panel, so that memory is never asked for all of it at once.
        let prefetch_step = panel_bytes.div_ceil(steps * call.rows.div_ceil(kernels.int8.rows)).min(64);
        for (t, (r, count)) in tiles(call.rows, kernels.int8.rows).enumerate() {
            let args = Int8Args {
                rows: count,
                a: bytes[r * packed.depth..].as_ptr(),
                a_stride: packed.depth,
                weights: packed.panel(p),
                depth: packed.depth,
                extras: extras.as_ptr(),
                extra_count: extras.len(),
                prefetch: packed.panel(p + 1).wrapping_add(t * steps * prefetch_step),
                prefetch_step,
            };
            // SAFETY: `count` rows of `depth` bytes lie from row `r` on; the tile is at least `[rows, panel]`.
            unsafe { (kernels.int8.tile)(&args, sums.as_mut_ptr()) };
            let args = EpilogueArgs {
                sums: sums.as_ptr(),
                quantised: &quantised[r..r + count],
                scales: weights.scales[first..].as_ptr(),
                column_sums: weights.sums[first..].as_ptr(),
                weight_zeros: weights.zeros.as_ref().map(|z| z[first..].as_ptr()),
                split_rows: split[r * outliers..].as_ptr(),
                split: outliers,
                split_weights: weights.outlier_weights.as_ptr().wrapping_add(first),
                split_stride: weights.scales.len(),
                ..self.epilogue(call, kernels.int8.panel, r, count, first)
            };
            // SAFETY: the tables hold whole panels, and this task alone writes these columns.
            unsafe { (kernels.epilogue)(&args) };
        }
    }

    /// What both kinds of product share.
    fn epilogue(&self, call: &Call<'_>, panel: usize, r: usize, rows: usize, first: usize) -> EpilogueArgs<'_> {
        let at = r * self.columns + first;
        EpilogueArgs {
            rows,
            columns: panel.min(self.columns - first),
            panel,
            bias: self.bias[first..].as_ptr(),
            activation: self.activation,
            residual: call.residual.map_or(std::ptr::null(), |r| r[at..].as_ptr()),
            residual_stride: self.columns,
            out: call.out.at(at),
            out_stride: self.columns,
            ..EpilogueArgs::default()
        }
    }

    fn run_f32(&self, weights: &F32Weights, x: &[f32], call: &Call<'_>) {
        let Some(norm) = &self.norm else { return self.f32_panels(weights, x, call) };
        with_floats(x.len(), |rows| {
            for (x, row) in izip!(x.chunks_exact(self.depth), rows.chunks_exact_mut(self.depth)) {
                self.runtime.kernels.layer_norm(x, row, &norm.args());
            }
            self.f32_panels(weights, rows, call);
        });
    }

    fn f32_panels(&self, weights: &F32Weights, x: &[f32], call: &Call<'_>) {
        let kernels = self.runtime.kernels;
        let panel = kernels.f32_panel;
        self.runtime.pool.run(weights.panels, &|p| {
            let first = p * panel;
            let columns = &weights.bytes.as_floats()[p * self.depth * panel..];
            let mut sums = [0.0f32; TILE];
            for (r, count) in tiles(call.rows, kernels.f32_rows) {
                let product = Product {
                    rows: count,
                    columns: panel,
                    depth: self.depth,
                    a: x[r * self.depth..].as_ptr(),
                    a_stride: self.depth,
                    b: columns.as_ptr(),
                    b_stride: panel,
                    c: sums.as_mut_ptr(),
                    c_stride: panel,
                };
                // SAFETY: `count` rows of `depth` values lie from row `r` on, the panel holds `[depth, panel]`, the
                // tile at least `[rows, panel]`.
                unsafe { (kernels.product)(&product) };
                let args = self.epilogue(call, panel, r, count, first);
                // SAFETY: the bias holds whole panels, and this task alone writes these columns.
                unsafe { (kernels.epilogue_f32)(sums.as_ptr(), &args) };
            }
        });
    }
}

/// First row and height of each tile: as few as can be, and alike.
fn tiles(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(most);
    (0..count).map(move |t| {
        let (start, end) = (t * rows / count, (t + 1) * rows / count);
        (start, end - start)
    })
}

impl Patches {
    /// `[C, H, W]` to `[patches, C · size · size]`.
    fn cut(&self, image: &[f32], rows: &mut [f32]) {
        let (size, width) = (self.size, self.columns * self.size);
        let height = self.rows * size;
        let area = size * size;
        for (p, row) in rows.chunks_exact_mut(self.channels * area).enumerate() {
            let (top, left) = (p / self.columns * size, p % self.columns * size);
            for (i, line) in row.chunks_exact_mut(size).enumerate() {
                let (channel, y) = (i / size, i % size);
                let from = (channel * height + top + y) * width + left;
                line.copy_from_slice(&image[from..from + size]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tiles;

    #[test]
    fn tiles_cover_every_row_once_and_are_alike() {
        for rows in 1..=70 {
            for most in [1, 4, 6, 10, 12] {
                let tiles: Vec<_> = tiles(rows, most).collect();
                let covered: usize = tiles.iter().map(|t| t.1).sum();
                assert_eq!(covered, rows);
                assert!(tiles.windows(2).all(|w| w[0].0 + w[0].1 == w[1].0));
                let (least, largest) = (tiles.iter().map(|t| t.1).min(), tiles.iter().map(|t| t.1).max());
                assert!(largest <= Some(most) && largest.zip(least).is_some_and(|(a, b)| a - b <= 1));
            }
        }
    }
}
