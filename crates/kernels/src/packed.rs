//! Weights in the layout that the int8 kernels read.
//!
//! A panel holds `panel` columns as `[depth / group][panel][group]`: for each group of depths all columns in order, and
//! a column's `group` weights side by side. Depth is padded with zeros to a multiple of the kernel's step, columns to a
//! multiple of the panel.

use super::int8::{Extra, Int8Kernel, MAX_LEVEL, MAX_SPLIT_PANEL};
use super::memory::AlignedBytes;

/// A packed matrix `[depth, columns]` of int8 weights.
///
/// ```
/// use constancy_kernels::{Kernels, PackedInt8};
///
/// // Weights [2, 3]; `read` copies the columns of one panel, row by row.
/// let weights = [[1, 2, 3], [-4, 5, 6]];
/// let kernel = &Kernels::best().int8;
/// let packed = PackedInt8::new(kernel, 2, 3, |first, to| {
///     for (row, to) in weights.iter().zip(to.chunks_exact_mut(kernel.panel)) {
///         let columns = &row[first..];
///         to[..columns.len()].copy_from_slice(columns);
///     }
/// });
/// assert_eq!(packed.panels(), 1);
/// assert_eq!(packed.column_sums[..3], [-3, 7, 9]);
/// ```
pub struct PackedInt8 {
    bytes: AlignedBytes,
    panel_bytes: usize,
    extras: Vec<Extra>,
    /// Where each panel's extras begin, and where the last panel's end.
    extra_starts: Vec<usize>,
    /// Padded depth.
    pub depth: usize,
    /// Σw of every column, including the padding.
    pub column_sums: Vec<i32>,
}

impl PackedInt8 {
    /// Packs for `kernel`. `read(first, to)` fills `to`, `[depth, panel]` in row-major order, with the columns from
    /// `first` on, and leaves the columns past the matrix's last one at 0.
    #[must_use]
    pub fn new(
        kernel: &Int8Kernel,
        depth: usize,
        columns: usize,
        mut read: impl FnMut(usize, &mut [i8]),
    ) -> Self {
        let padded = depth.next_multiple_of(kernel.step);
        let panels = columns.div_ceil(kernel.panel);
        let panel_bytes = padded * kernel.panel;
        let mut bytes = AlignedBytes::for_weights(panels * panel_bytes);
        let mut extras = Vec::new();
        let mut extra_starts = Vec::with_capacity(panels + 1);
        let mut column_sums = Vec::with_capacity(panels * kernel.panel);
        let mut rows = vec![0i8; padded * kernel.panel];
        for (p, out) in bytes
            .as_mut_slice()
            .chunks_exact_mut(panel_bytes.max(1))
            .enumerate()
            .take(panels)
        {
            rows.fill(0);
            read(p * kernel.panel, &mut rows[..depth * kernel.panel]);
            let mut sums = vec![0i32; kernel.panel];
            for row in rows.chunks_exact(kernel.panel) {
                sums.iter_mut()
                    .zip(row)
                    .for_each(|(sum, &w)| *sum += i32::from(w));
            }
            column_sums.extend(sums);
            extra_starts.push(extras.len());
            if kernel.splits_pairs {
                split_pairs(&mut rows, kernel, &mut extras);
            }
            interleave(&rows, kernel, out);
        }
        extra_starts.push(extras.len());
        Self {
            bytes,
            panel_bytes,
            extras,
            extra_starts,
            depth: padded,
            column_sums,
        }
    }

    /// Number of panels.
    #[must_use]
    pub fn panels(&self) -> usize {
        self.extra_starts.len() - 1
    }

    /// The packed bytes of panel `p`. From `p = panels()` on, the address is good for prefetching only: other weights may
    /// lie there.
    #[must_use]
    pub fn panel(&self, p: usize) -> *const i8 {
        self.bytes
            .as_ptr()
            .wrapping_add(p * self.panel_bytes)
            .cast()
    }

    /// The weights that were moved out of panel `p`.
    #[must_use]
    pub fn extras(&self, p: usize) -> &[Extra] {
        &self.extras[self.extra_starts[p]..self.extra_starts[p + 1]]
    }

    /// Memory that the weights occupy, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.size() + self.extras.len() * size_of::<Extra>()
    }
}

/// Reorders `[depth, panel]` to `[depth / group][panel][group]`.
fn interleave(rows: &[i8], kernel: &Int8Kernel, out: &mut [u8]) {
    let block = kernel.panel * kernel.group;
    for (from, to) in rows.chunks_exact(block).zip(out.chunks_exact_mut(block)) {
        for (g, row) in from.chunks_exact(kernel.panel).enumerate() {
            for (c, &w) in row.iter().enumerate() {
                to[c * kernel.group + g] = w.cast_unsigned();
            }
        }
    }
}

/// The largest sum of two weights of one sign whose products fit 16 bits with any activations.
const PAIR_LIMIT: i32 = i16::MAX as i32 / MAX_LEVEL as i32;

/// Moves one weight of each pair that could overflow 16 bits into extras.
///
/// With activations of 0 to 255 the sum of two weights of one sign may reach 128: 255 · 128 =
/// 32,640. A single weight, even −128, always fits, and so does a pair of different signs.
fn split_pairs(rows: &mut [i8], kernel: &Int8Kernel, extras: &mut Vec<Extra>) {
    let panel = kernel.panel;
    for (g, group) in rows.chunks_exact_mut(4 * panel).enumerate() {
        let mut moved = None::<Extra>;
        for (c, pair) in (0..panel).flat_map(|c| [(c, 0), (c, 2)]) {
            let at = |d: usize| (pair + d) * panel + c;
            let sum = i32::from(group[at(0)]) + i32::from(group[at(1)]);
            if sum.abs() > PAIR_LIMIT {
                let offset = u32::try_from(g * 4).unwrap_or(u32::MAX);
                let extra = moved.get_or_insert(Extra {
                    weights: [0; 4 * MAX_SPLIT_PANEL],
                    offset,
                });
                extra.weights[c * 4 + pair] = std::mem::take(&mut group[at(0)]);
            }
        }
        extras.extend(moved);
    }
}
