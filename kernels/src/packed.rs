//! Weights as the integer kernels read them.
//!
//! A panel holds `panel` columns: for every `group` depths of a row of the product, the columns one after the other,
//! each with its `group` weights side by side: `[depth / group][panel][group]`. Depth is padded with zeros to a
//! multiple of the kernel's step, columns to a multiple of the panel.

use super::Int8Kernel;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Cache lines, and what the widest loads like.
const ALIGNMENT: usize = 64;
/// The most columns of a panel that is split.
const MAX_SPLIT_PANEL: usize = 8;

/// Zeroed bytes that begin at a cache line.
pub struct Bytes {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain bytes that this value owns.
unsafe impl Send for Bytes {}
// SAFETY: shared references only read.
unsafe impl Sync for Bytes {}

impl Bytes {
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let layout = Layout::from_size_align(len.max(1), ALIGNMENT).unwrap_or(Layout::new::<u8>());
        // SAFETY: the layout's size is at least 1.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, layout }
    }

    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: `start` holds `size` initialised bytes that this value owns.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }

    #[must_use]
    pub fn as_floats(&self) -> &[f32] {
        // SAFETY: aligned to cache lines, initialised, and every bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.layout.size() / 4) }
    }

    pub fn as_mut_floats(&mut self) -> &mut [f32] {
        // SAFETY: as above, and owned.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.layout.size() / 4) }
    }

    #[must_use]
    pub fn size(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `zeroed`.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Four weights a column that would have made a 16-bit lane overflow, multiplied apart.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
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
    pub fn new(kernel: &Int8Kernel, depth: usize, columns: usize, mut read: impl FnMut(usize, &mut [i8])) -> Self {
        let padded = depth.next_multiple_of(kernel.step);
        let panels = columns.div_ceil(kernel.panel);
        let panel_bytes = padded * kernel.panel;
        let mut bytes = Bytes::zeroed(panels * panel_bytes);
        let mut extras = Vec::new();
        let mut extra_starts = Vec::with_capacity(panels + 1);
        let mut column_sums = Vec::with_capacity(panels * kernel.panel);
        let mut rows = vec![0i8; padded * kernel.panel];
        for (p, out) in bytes.as_mut_slice().chunks_exact_mut(panel_bytes.max(1)).enumerate().take(panels) {
            rows.fill(0);
            read(p * kernel.panel, &mut rows[..depth * kernel.panel]);
            let mut sums = vec![0i32; kernel.panel];
            for row in rows.chunks_exact(kernel.panel) {
                sums.iter_mut().zip(row).for_each(|(sum, &w)| *sum += i32::from(w));
            }
            column_sums.extend(sums);
            extra_starts.push(extras.len());
            if kernel.lane_limit > 0 {
                split(&mut rows, kernel, &mut extras);
            }
            interleave(&rows, kernel, out);
        }
        extra_starts.push(extras.len());
        Self { bytes, panel_bytes, extras, extra_starts, depth: padded, column_sums }
    }

    #[must_use]
    pub fn panels(&self) -> usize {
        self.extra_starts.len() - 1
    }

    /// The packed bytes of panel `p`.
    #[must_use]
    pub fn panel(&self, p: usize) -> *const i8 {
        // SAFETY: `p` is below `panels()`, or at it for an address that is never read.
        unsafe { self.bytes.as_ptr().add((p * self.panel_bytes).min(self.bytes.size())).cast() }
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

/// Moves weights into extras until no 16-bit lane can overflow.
///
/// In a step of three groups of four depths, a lane sums the products of depths (0, 1), (4, 5), (8, 9), the next one
/// those of (2, 3), (6, 7), (10, 11). With activations of 0 to 127 the sums of positive and of negative weights may
/// each reach 258: 127 · 258 = 32,766.
fn split(rows: &mut [i8], kernel: &Int8Kernel, extras: &mut Vec<Extra>) {
    let panel = kernel.panel;
    for (s, step) in rows.chunks_exact_mut(kernel.step * panel).enumerate() {
        let mut moved = [None::<Extra>; 4];
        for c in 0..panel {
            for lane in [0, 2] {
                while let Some(g) = overflowing_group(step, kernel, c, lane) {
                    let offset = u32::try_from(s * kernel.step + g * 4).unwrap_or(u32::MAX);
                    let extra = moved[g].get_or_insert(Extra { weights: [0; 4 * MAX_SPLIT_PANEL], offset });
                    for d in [lane, lane + 1] {
                        let w = &mut step[(g * 4 + d) * panel + c];
                        extra.weights[c * 4 + d] = std::mem::take(w);
                    }
                }
            }
        }
        extras.extend(moved.into_iter().flatten());
    }
}

/// The group whose pair weighs most in a lane that could overflow.
fn overflowing_group(step: &[i8], kernel: &Int8Kernel, column: usize, lane: usize) -> Option<usize> {
    let groups = kernel.step / 4;
    let pair = |g: usize| [lane, lane + 1].map(|d| i32::from(step[(g * 4 + d) * kernel.panel + column]));
    let sum = |sign: i32| (0..groups).flat_map(pair).map(|w| (w * sign).max(0)).sum::<i32>();
    if sum(1) <= kernel.lane_limit && sum(-1) <= kernel.lane_limit {
        return None;
    }
    (0..groups).max_by_key(|&g| pair(g).iter().map(|w| w.abs()).sum::<i32>())
}
