//! Products in f32.

use super::{Call, Linear, tiles};
use crate::ops::scratch::with_floats;
use crate::ops::weights::F32Weights;
use crate::ops::window::{Source, with_source};
use crate::spec::Window;
use constancy_kernels::{Product, SharedMut};

/// The largest tile of sums of any instruction set is 12 rows of 32 columns.
const SUMS: usize = 12 * 32;
/// Values that stay in a core's own cache while it reads others: half of 512 KB.
const CACHED: usize = 64 << 10;
/// Values of the rows that are multiplied with one panel after the other.
const BLOCK: usize = 24 << 10;

/// The rows of a product, in lines: within one, rows are `row` values apart. A row has `segments` pieces of `depth` values,
/// `segment` values apart.
struct Rows<'a> {
    lines: usize,
    per_line: usize,
    row: usize,
    segments: usize,
    depth: usize,
    segment: usize,
    /// The first value of a line.
    line: &'a (dyn Fn(usize) -> *const f32 + Sync),
}

impl Linear {
    pub(super) fn run_f32(&self, weights: &F32Weights, call: &Call<'_>) {
        if let Some(window) = &self.window {
            return with_source(window, &self.runtime.pool, call.x, 0.0, |source| {
                self.convolve(weights, window, source, call);
            });
        }
        if !self.prepares_rows() && self.grid.is_none() {
            return self.multiply(weights, call.x, call);
        }
        with_floats(call.rows * self.depth, |prepared| {
            let rows = SharedMut::new(prepared);
            self.for_each_row(call.rows, |row, _| {
                // SAFETY: every row is prepared by one task.
                let buffer = unsafe { rows.slice(row * self.depth, self.depth) };
                self.float_row(call, row, buffer);
            });
            self.multiply(weights, prepared, call);
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

    /// The product of the rows `x`.
    fn multiply(&self, weights: &F32Weights, x: &[f32], call: &Call<'_>) {
        // A line that stays in the cache, unless reading the weights once per line costs more than reading the rows once
        // per panel.
        let height = (BLOCK / self.depth.max(1)).next_multiple_of(self.runtime.kernels.f32_rows);
        let lines = call.rows.div_ceil(height.max(1));
        let reread_weights = lines * weights.panels * self.depth * self.runtime.kernels.f32_panel;
        let whole = x.len() <= CACHED || reread_weights > weights.panels * x.len();
        let per_line = if whole { call.rows } else { height };
        let rows = Rows {
            lines: call.rows.div_ceil(per_line.max(1)),
            per_line,
            row: self.depth,
            segments: 1,
            depth: self.depth,
            segment: 0,
            line: &|line| x[line * per_line * self.depth..].as_ptr(),
        };
        self.panels(weights, &rows, 1, call);
    }

    /// The product of the windows of images.
    fn convolve(
        &self,
        weights: &F32Weights,
        window: &Window,
        source: &Source<'_>,
        call: &Call<'_>,
    ) {
        let (lines, per_line) = window.out;
        let line_values = window.size.0 * source.line;
        let rows = Rows {
            lines: call.rows / per_line.max(1),
            per_line,
            row: window.stride * source.pixel,
            segments: window.size.0,
            depth: window.size.1 * source.pixel,
            segment: source.line,
            line: &|line| source.at(line / lines, line % lines),
        };
        self.panels(weights, &rows, BLOCK.div_ceil(line_values.max(1)), call);
    }

    /// Computes all panels of columns, for `lines_per_task` lines at a time.
    fn panels(
        &self,
        weights: &F32Weights,
        rows: &Rows<'_>,
        lines_per_task: usize,
        call: &Call<'_>,
    ) {
        let blocks = rows.lines.div_ceil(lines_per_task);
        self.runtime.pool.run(blocks * weights.panels, &|task| {
            let (block, p) = (task / weights.panels, task % weights.panels);
            let first = block * lines_per_task;
            let lines = first..rows.lines.min(first + lines_per_task);
            self.panel(weights, rows, lines, p, call);
        });
    }

    /// Computes panel `p` for some lines of rows.
    fn panel(
        &self,
        weights: &F32Weights,
        rows: &Rows<'_>,
        lines: std::ops::Range<usize>,
        p: usize,
        call: &Call<'_>,
    ) {
        let kernels = self.runtime.kernels;
        let panel = kernels.f32_panel;
        let columns = &weights.bytes.as_floats()[p * self.depth * panel..];
        // As with int8, each tile prefetches its share of the next panel.
        let next = columns.as_ptr().wrapping_add(self.depth * panel);
        let in_lines = lines.len() * rows.per_line.div_ceil(kernels.f32_rows);
        let prefetch_step = (panel * size_of::<f32>()).div_ceil(in_lines.max(1));
        let mut sums = [0.0f32; SUMS];
        let mut done = 0;
        for line in lines {
            let start = line * rows.per_line;
            let from = (rows.line)(line);
            for (r, count) in tiles(rows.per_line.min(call.rows - start), kernels.f32_rows) {
                let product = Product {
                    rows: count,
                    columns: panel.min(self.columns - p * panel),
                    depth: rows.depth,
                    segments: rows.segments,
                    a: from.wrapping_add(r * rows.row),
                    a_stride: rows.row,
                    a_segment: rows.segment,
                    b: columns.as_ptr(),
                    b_stride: panel,
                    c: sums.as_mut_ptr(),
                    c_stride: panel,
                    prefetch: next.wrapping_byte_add(done * self.depth * prefetch_step),
                    prefetch_step,
                };
                // SAFETY: the line holds `count` rows from row `r` on, the panel is `[depth, panel]`, and `sums` has room
                // for `[rows, panel]`.
                unsafe { (kernels.product)(&product) };
                let args = self.epilogue(call, panel, start + r, count, p * panel);
                // SAFETY: the bias holds whole panels, and no other task writes these rows and columns.
                unsafe { (kernels.epilogue_f32)(sums.as_ptr(), &args) };
                done += 1;
            }
        }
    }
}
