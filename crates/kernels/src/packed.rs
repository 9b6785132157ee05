//! Weights as the integer kernels read them.
//!
//! A panel holds `panel` columns: for every `group` depths of a row of the product, the columns one after the other,
//! each with its `group` weights side by side: `[depth / group][panel][group]`. Depth is padded with zeros to a
//! multiple of the kernel's step, columns to a multiple of the panel.

use super::{Bytes, Int8Kernel};

/// The most columns of a panel that is split.
const MAX_SPLIT_PANEL: usize = 8;

/// Four weights a column, of which those are not 0 that would have made a pair's sum overflow 16 bits beside their
/// neighbour; multiplied separately.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
pub struct Extra {
    pub weights: [i8; 4 * MAX_SPLIT_PANEL],
    /// Where in a row of activations they belong.
    pub offset: u32,
}

/// A matrix `[depth, columns]` of signed bytes, packed.
pub struct PackedInt8 {
    bytes: Bytes,
    panel_bytes: usize,
    extras: Vec<Extra>,
    /// Per panel, where its extras begin; one more than there are panels.
    extra_starts: Vec<usize>,
    /// Padded.
    pub depth: usize,
    /// Σw of every column, padded columns too.
    pub column_sums: Vec<i32>,
}

impl PackedInt8 {
    /// Packs for `kernel`. `read(first, columns)` fills `columns`, `[depth, panel]` row by row, with the panel of
    /// columns that begins at `first`; columns that do not exist stay 0.
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
        let mut bytes = Bytes::for_weights(panels * panel_bytes);
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
            if kernel.pair_limit > 0 {
                split(&mut rows, kernel, &mut extras);
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

    #[must_use]
    pub fn panels(&self) -> usize {
        self.extra_starts.len() - 1
    }

    /// The packed bytes of panel `p`; from `panels()` on an address that is not to be read, where other weights may lie.
    #[must_use]
    pub fn panel(&self, p: usize) -> *const i8 {
        self.bytes
            .as_ptr()
            .wrapping_add(p * self.panel_bytes)
            .cast()
    }

    #[must_use]
    pub fn extras(&self, p: usize) -> &[Extra] {
        &self.extras[self.extra_starts[p]..self.extra_starts[p + 1]]
    }

    /// Bytes that the weights take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.size() + self.extras.len() * size_of::<Extra>()
    }
}

/// `[depth, panel]` to `[depth / group][panel][group]`.
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

/// Moves one weight of each pair that could overflow 16 bits into extras.
///
/// With activations of 0 to 255 two weights of one sign may reach 128 together: 255 · 128 = 32,640. One weight alone,
/// −128 included, always fits; so does a pair of different signs.
fn split(rows: &mut [i8], kernel: &Int8Kernel, extras: &mut Vec<Extra>) {
    let panel = kernel.panel;
    for (g, group) in rows.chunks_exact_mut(4 * panel).enumerate() {
        let mut moved = None::<Extra>;
        for (c, pair) in (0..panel).flat_map(|c| [(c, 0), (c, 2)]) {
            let at = |d: usize| (pair + d) * panel + c;
            let sum = i32::from(group[at(0)]) + i32::from(group[at(1)]);
            if sum.abs() > kernel.pair_limit {
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
