//! The product of rows with a constant matrix, with what stands before and behind it:
//! `y = activation(norm(x) · W + b) + residual`.
//!
//! In bytes, every row is quantised with a scale and a zero point of its own; weights have a scale per column.

use super::scratch::{with_bytes, with_floats};
use super::weights::{F32Weights, Int8Weights, PackError, Weights};
use super::{Runtime, with_last};
use crate::rewrite::{LinearSpec, NormSpec, Patches};
use constancy_kernels::{
    Activation, EpilogueArgs, Int8Args, Product, QuantisedRow, Range, SharedMut,
};
use std::mem::MaybeUninit;
use std::sync::Arc;
use tract_onnx::prelude::{TVec, tvec};

/// Rows that are quantised as one task.
const ROWS_PER_TASK: usize = 4;
/// A tile of sums is 272 rows of 32 columns at most on any set, one of f32 12 of 32.
const SUMS: usize = 272 * 32;
const SUMS_F32: usize = 12 * 32;

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

/// Room for a tile, whole cache lines of it.
#[repr(align(64))]
struct Sums([MaybeUninit<i32>; SUMS]);

/// Input and output of one call.
struct Call<'a> {
    rows: usize,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    out: SharedMut<f32>,
}

impl Linear {
    pub(super) fn new(
        name: &str,
        spec: &LinearSpec,
        runtime: &Arc<Runtime>,
        bytes: bool,
    ) -> Result<Self, PackError> {
        let kernels = runtime.kernels;
        let weights = Weights::pack(name, spec, runtime, bytes)?;
        let bias = spec.bias(
            spec.columns
                .next_multiple_of(kernels.int8.panel.max(kernels.f32_panel)),
        );
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
            Some(p) => tvec![
                input.first().copied().unwrap_or(1),
                p.rows * p.columns,
                self.columns
            ],
            None => with_last(input, self.columns),
        }
    }

    /// `x` is `[rows, depth]`, or images `[B, C, H, W]` where the operator embeds patches; `out` is `[rows, columns]`.
    pub(super) fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let rows = out.len() / self.columns.max(1);
        assert!(
            x.len() == rows * self.depth && out.len() == rows * self.columns,
            "operands of the product's shape"
        );
        assert!(
            residual.is_none_or(|r| r.len() == out.len()),
            "a residual of the output's shape"
        );
        let call = Call {
            rows,
            x,
            residual,
            out: SharedMut::new(out),
        };
        match &self.weights {
            Weights::Int8(weights) => self.run_int8(weights, &call),
            Weights::F32(weights) => self.run_f32(weights, &call),
        }
    }

    /// Row `r` of what is multiplied: as it is given, or made in `buffer` `[depth]`, which
    /// [`Self::makes_rows`] says.
    fn row<'a>(
        &self,
        call: &Call<'a>,
        r: usize,
        buffer: &'a mut [f32],
    ) -> (&'a [f32], Option<Range>) {
        if let Some(patches) = self.patches {
            patches.cut(call.x, r, buffer);
            return (buffer, None);
        }
        let x = &call.x[r * self.depth..(r + 1) * self.depth];
        let Some(norm) = &self.norm else {
            return (x, None);
        };
        let range = self.runtime.kernels.layer_norm(x, buffer, &norm.args());
        (buffer, Some(range))
    }

    fn makes_rows(&self) -> bool {
        self.patches.is_some() || self.norm.is_some()
    }

    fn run_int8(&self, weights: &Int8Weights, call: &Call<'_>) {
        let (rows, stride, outliers) = (call.rows, weights.packed.depth, weights.outliers.len());
        with_bytes(rows * stride, |bytes| {
            with_floats(rows * outliers, |split| {
                let mut quantised = vec![QuantisedRow::default(); rows];
                let (bytes_of, split_of) = (SharedMut::new(bytes), SharedMut::new(split));
                let quantised_of = SharedMut::new(&mut quantised);
                self.each_rows(rows, |row, buffer| {
                    // SAFETY: every row has bytes, outliers and a scale of its own.
                    let (bytes, split, quantised) = unsafe {
                        (
                            bytes_of.slice(row * stride, stride),
                            split_of.slice(row * outliers, outliers),
                            quantised_of.slice(row, 1),
                        )
                    };
                    quantised[0] = self.quantise(weights, call, row, buffer, bytes, split);
                });
                let (bytes, split) = (&*bytes, &*split);
                let panels = weights.packed.panels();
                self.runtime.pool.run(panels, &|p| {
                    self.int8_panel(weights, p, bytes, split, &quantised, call)
                });
            });
        });
    }

    /// Calls `work` for every row, some at a time, with a buffer `[depth]`.
    fn each_rows(&self, rows: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        self.runtime
            .pool
            .run(rows.div_ceil(ROWS_PER_TASK), &|task| {
                let mut buffer = vec![0.0; self.depth];
                let first = task * ROWS_PER_TASK;
                (first..rows.min(first + ROWS_PER_TASK)).for_each(|row| work(row, &mut buffer));
            });
    }

    /// Quantises row `r`; sets outliers aside.
    fn quantise(
        &self,
        weights: &Int8Weights,
        call: &Call<'_>,
        r: usize,
        buffer: &mut [f32],
        bytes: &mut [u8],
        split: &mut [f32],
    ) -> QuantisedRow {
        let kernels = self.runtime.kernels;
        let (x, range) = self.row(call, r, buffer);
        let mut quantised = if split.is_empty() {
            kernels.quantise_row(x, range.unwrap_or_else(|| kernels.range(x)), bytes)
        } else {
            let mut x = x.to_vec();
            for (value, &channel) in split.iter_mut().zip(&weights.outliers) {
                *value = std::mem::take(&mut x[channel]);
            }
            kernels.quantise_row(&x, kernels.range(&x), bytes)
        };
        // The padding meets weights of 0.
        bytes[self.depth..].fill(0);
        if weights.zeros.is_some() {
            let sum = kernels.stored_sum(&bytes[..self.depth]) as f32;
            quantised.rest = -(sum * quantised.scale + self.depth as f32 * quantised.offset);
        }
        quantised
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
        #[expect(
            clippy::large_stack_arrays,
            reason = "35 KB, of which only the tile's are touched; threads have 2 MB"
        )]
        let mut sums = Sums([const { MaybeUninit::uninit() }; SUMS]);
        let sums = sums.0.as_mut_ptr().cast::<i32>();
        let (steps, panel_bytes) = (
            packed.depth / kernels.int8.step,
            packed.depth * kernels.int8.panel,
        );
        // Each tile fetches its share of the next panel, so that memory is never asked for all of it at once.
        let prefetch_step = panel_bytes.div_ceil(steps * call.rows.div_ceil(kernels.int8.rows));
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
            unsafe { (kernels.int8.tile)(&args, sums) };
            let args = EpilogueArgs {
                sums,
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
    fn epilogue(
        &self,
        call: &Call<'_>,
        panel: usize,
        r: usize,
        rows: usize,
        first: usize,
    ) -> EpilogueArgs<'_> {
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

    fn run_f32(&self, weights: &F32Weights, call: &Call<'_>) {
        if !self.makes_rows() {
            return self.f32_panels(weights, call.x, call);
        }
        with_floats(call.rows * self.depth, |made| {
            let made_of = SharedMut::new(made);
            self.each_rows(call.rows, |row, _| {
                // SAFETY: every row is made once.
                self.row(call, row, unsafe {
                    made_of.slice(row * self.depth, self.depth)
                });
            });
            self.f32_panels(weights, made, call);
        });
    }

    fn f32_panels(&self, weights: &F32Weights, x: &[f32], call: &Call<'_>) {
        let kernels = self.runtime.kernels;
        let panel = kernels.f32_panel;
        self.runtime.pool.run(weights.panels, &|p| {
            let first = p * panel;
            let columns = &weights.bytes.as_floats()[p * self.depth * panel..];
            let next = columns.as_ptr().wrapping_add(self.depth * panel);
            // As for bytes.
            let prefetch_step =
                (panel * size_of::<f32>()).div_ceil(call.rows.div_ceil(kernels.f32_rows));
            let mut sums = [0.0f32; SUMS_F32];
            for (t, (r, count)) in tiles(call.rows, kernels.f32_rows).enumerate() {
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
                    prefetch: next.wrapping_add(t * self.depth * prefetch_step / size_of::<f32>()),
                    prefetch_step,
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
    /// Row `r`, `[C · size · size]`, of the patches of images `[B, C, H, W]`.
    fn cut(&self, images: &[f32], r: usize, row: &mut [f32]) {
        let (size, width, height) = (self.size, self.columns * self.size, self.rows * self.size);
        let (image, patch) = (
            r / (self.rows * self.columns),
            r % (self.rows * self.columns),
        );
        let (top, left) = (patch / self.columns * size, patch % self.columns * size);
        for (i, line) in row.chunks_exact_mut(size).enumerate() {
            let (channel, y) = (i / size, i % size);
            let from = ((image * self.channels + channel) * height + top + y) * width + left;
            line.copy_from_slice(&images[from..from + size]);
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
                let (least, largest) = (
                    tiles.iter().map(|t| t.1).min(),
                    tiles.iter().map(|t| t.1).max(),
                );
                assert!(
                    largest <= Some(most) && largest.zip(least).is_some_and(|(a, b)| a - b <= 1)
                );
            }
        }
    }
}
