//! Products in int8. Every row is quantised with its own scale and zero point; the weights have a
//! scale per column.

use super::{Call, Linear, tiles};
use crate::ops::scratch::{with_bytes, with_floats};
use crate::ops::weights::Int8Weights;
use crate::spec::Grid;
use constancy_kernels::{EpilogueArgs, Int8Args, QuantisedRow, SharedMut};
use std::mem::MaybeUninit;

/// The largest tile of sums of any instruction set is 272 rows of 32 columns.
const SUMS: usize = 272 * 32;

/// Memory for a tile, aligned to cache lines.
#[repr(align(64))]
struct Sums([MaybeUninit<i32>; SUMS]);

impl Linear {
    pub(super) fn run_int8(&self, weights: &Int8Weights, call: &Call<'_>) {
        let (rows, stride, outliers) = (call.rows, weights.packed.depth, weights.outliers.len());
        with_bytes(rows * stride, |bytes| {
            with_floats(rows * outliers, |split| {
                let mut quantised = vec![QuantisedRow::default(); rows];
                let (bytes_of, split_of) = (SharedMut::new(bytes), SharedMut::new(split));
                let quantised_of = SharedMut::new(&mut quantised);
                self.for_each_row(rows, |row, buffer| {
                    // SAFETY: every row has its own bytes, outliers and scale.
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
                    self.int8_panel(weights, p, bytes, split, &quantised, call);
                });
            });
        });
    }

    /// Quantises row `r` to `bytes`; moves its outliers to `split`.
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
        let mut quantised = if let Some(grid) = &self.grid {
            quantise_on_grid(grid, x, bytes, kernels.int8.flip)
        } else if split.is_empty() {
            kernels.quantise_row(x, range.unwrap_or_else(|| kernels.range(x)), bytes)
        } else {
            let mut x = x.to_vec();
            for (value, &channel) in split.iter_mut().zip(&weights.outliers) {
                *value = std::mem::take(&mut x[channel]);
            }
            kernels.quantise_row(&x, kernels.range(&x), bytes)
        };
        // The padding is multiplied with weights of 0.
        bytes[self.depth..].fill(0);
        if weights.zeros.is_some() {
            let sum = kernels.stored_sum(&bytes[..self.depth]) as f32;
            quantised.neg_sum = -(sum * quantised.scale + self.depth as f32 * quantised.offset);
        }
        quantised
    }

    /// Computes the panel `p` of columns for all rows.
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
            reason = "35 KB of a stack of 2 MB, and only the tile's part is touched"
        )]
        let mut sums = Sums([const { MaybeUninit::uninit() }; SUMS]);
        let sums = sums.0.as_mut_ptr().cast::<i32>();
        let (steps, panel_bytes) = (
            packed.depth / kernels.int8.step,
            packed.depth * kernels.int8.panel,
        );
        // Each tile prefetches its share of the next panel, which spreads the reads evenly.
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
            // SAFETY: `bytes` holds `count` rows of `depth` bytes from row `r` on, and `sums` has
            // room for `[rows, panel]`.
            unsafe { (kernels.int8.tile)(&args, sums) };
            let args = EpilogueArgs {
                sums,
                quantised: &quantised[r..r + count],
                scales: weights.scales[first..].as_ptr(),
                column_sums: weights.sums[first..].as_ptr(),
                weight_zeros: weights.zeros.as_ref().map(|z| z[first..].as_ptr()),
                outlier_rows: split[r * outliers..].as_ptr(),
                outliers,
                outlier_weights: weights.outlier_weights.as_ptr().wrapping_add(first),
                outlier_stride: weights.scales.len(),
                ..self.epilogue(call, kernels.int8.panel, r, count, first)
            };
            // SAFETY: the tables hold whole panels, and no other task writes these columns.
            unsafe { (kernels.epilogue)(&args) };
        }
    }
}

/// Quantises the row `x` to the steps of `grid`, shifted so that the row's smallest value becomes the
/// smallest that the kernels take. They take 256 levels, or 255 where they store bytes xor `flip`:
/// there, a row that reaches both ends of the grid loses the last step at the upper one.
fn quantise_on_grid(grid: &Grid, x: &[f32], bytes: &mut [u8], flip: u8) -> QuantisedRow {
    let least = x.iter().fold(f32::INFINITY, |least, &v| least.min(v));
    // Infinite only for rows without a number in them.
    let least = grid.steps(if least.is_finite() { least } else { 0.0 });
    let bottom = f32::from(u8::from(flip != 0));
    let mut finite = true;
    for (byte, &value) in bytes.iter_mut().zip(x) {
        finite &= value.is_finite();
        let level = grid.steps(value) - least + bottom;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number from 0 to 256; `as` saturates"
        )]
        let level = level as u8;
        *byte = level ^ flip;
    }
    QuantisedRow {
        // A row with a value that is no number has a product that is none.
        scale: if finite { grid.scale } else { f32::NAN },
        offset: (f32::from(flip) - bottom + least) * grid.scale,
        neg_sum: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::quantise_on_grid;
    use crate::spec::Grid;

    #[test]
    fn a_row_is_quantised_to_the_steps_of_the_file() {
        // Zero point 100 of an unsigned byte.
        let grid = Grid {
            scale: 0.25,
            low: -100.0,
            high: 155.0,
        };
        let x = [0.0, 0.3, -30.0, 0.375, 38.0, -0.125];
        for flip in [0, 0x80] {
            let mut bytes = [0; 6];
            let row = quantise_on_grid(&grid, &x, &mut bytes, flip);
            let stored = |b: u8| match flip {
                0 => f32::from(b),
                _ => f32::from(b.cast_signed()),
            };
            let back = bytes.map(|b| stored(b) * row.scale + row.offset);
            let right = [0.0, 0.25, -25.0, 0.5, 38.0, 0.0];
            for ((back, x), right) in back.into_iter().zip(x).zip(right) {
                assert!((back - right).abs() < 1e-6, "{flip}: {back} for {x}");
                assert!((grid.round(x) - right).abs() < 1e-6, "{x}");
            }
        }
        let row = quantise_on_grid(&grid, &[1.0, f32::NAN], &mut [0; 2], 0);
        assert!(row.scale.is_nan());
    }
}
