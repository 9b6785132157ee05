//! Products in f32.

use super::{Call, Linear, tiles};
use crate::ops::scratch::with_floats;
use crate::ops::weights::F32Weights;
use constancy_kernels::{Product, SharedMut};

/// The largest tile of sums of any instruction set is 12 rows of 32 columns.
const SUMS: usize = 12 * 32;

impl Linear {
    pub(super) fn run_f32(&self, weights: &F32Weights, call: &Call<'_>) {
        if !self.prepares_rows() && self.grid.is_none() {
            return self.f32_panels(weights, call.x, call);
        }
        with_floats(call.rows * self.depth, |prepared| {
            let rows = SharedMut::new(prepared);
            self.for_each_row(call.rows, |row, _| {
                // SAFETY: every row is prepared by one task.
                let buffer = unsafe { rows.slice(row * self.depth, self.depth) };
                self.float_row(call, row, buffer);
            });
            self.f32_panels(weights, prepared, call);
        });
    }

    /// Row `r` of the left operand, in `buffer`.
    fn float_row(&self, call: &Call<'_>, r: usize, buffer: &mut [f32]) {
        if !self.prepares_rows() {
            buffer.copy_from_slice(&call.x[r * self.depth..(r + 1) * self.depth]);
        }
        self.row(call, r, buffer);
        if let Some(grid) = &self.grid {
            for value in buffer {
                *value = grid.round(*value);
            }
        }
    }

    /// Computes all panels of columns for the rows `x`.
    fn f32_panels(&self, weights: &F32Weights, x: &[f32], call: &Call<'_>) {
        let kernels = self.runtime.kernels;
        let panel = kernels.f32_panel;
        self.runtime.pool.run(weights.panels, &|p| {
            let first = p * panel;
            let columns = &weights.bytes.as_floats()[p * self.depth * panel..];
            let next = columns.as_ptr().wrapping_add(self.depth * panel);
            // As with int8, each tile prefetches its share of the next panel.
            let prefetch_step =
                (panel * size_of::<f32>()).div_ceil(call.rows.div_ceil(kernels.f32_rows));
            let mut sums = [0.0f32; SUMS];
            for (t, (r, count)) in tiles(call.rows, kernels.f32_rows).enumerate() {
                let product = Product {
                    rows: count,
                    columns: panel,
                    depth: self.depth,
                    segments: 1,
                    a: x[r * self.depth..].as_ptr(),
                    a_stride: self.depth,
                    a_segment: 0,
                    b: columns.as_ptr(),
                    b_stride: panel,
                    c: sums.as_mut_ptr(),
                    c_stride: panel,
                    prefetch: next.wrapping_add(t * self.depth * prefetch_step / size_of::<f32>()),
                    prefetch_step,
                };
                // SAFETY: `x` holds `count` rows of `depth` values from row `r` on, the panel is
                // `[depth, panel]`, and `sums` has room for `[rows, panel]`.
                unsafe { (kernels.product)(&product) };
                let args = self.epilogue(call, panel, r, count, first);
                // SAFETY: the bias holds whole panels, and no other task writes these columns.
                unsafe { (kernels.epilogue_f32)(sums.as_ptr(), &args) };
            }
        });
    }
}
