//! What the kernels of the int8 product have in common: their operands, and how each wants its data laid out.

/// The most columns of a panel whose weights may move into [`Extra`]s.
pub(super) const MAX_SPLIT_PANEL: usize = 8;

/// Four weights per column, all 0 but those that were moved out of the panel: next to their
/// neighbour, the sum of a pair of products would overflow 16 bits. They are multiplied separately.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Extra {
    pub weights: [i8; 4 * MAX_SPLIT_PANEL],
    /// The depth of the first weight.
    pub offset: u32,
}

/// Computes a tile of the int8 product: `sums [rows, panel] = a [rows, depth] · w [depth, panel]`.
pub type Int8Tile = unsafe fn(&Int8Args, *mut i32);

/// Operands of an [`Int8Tile`].
pub struct Int8Args {
    pub rows: usize,
    pub a: *const u8,
    /// Bytes from row to row, at least the padded depth.
    pub a_stride: usize,
    pub weights: *const i8,
    /// Padded depth; a multiple of the kernel's step.
    pub depth: usize,
    /// Weights moved out of the panel so that sums of pairs fit 16 bits.
    pub extras: *const Extra,
    pub extra_count: usize,
    /// The data to prefetch; any address.
    pub prefetch: *const i8,
    /// Bytes to prefetch for each step of the depth.
    pub prefetch_step: usize,
}

/// How an instruction set computes the int8 product.
pub struct Int8Kernel {
    /// Columns of a panel.
    pub panel: usize,
    /// Most rows of a tile.
    pub rows: usize,
    /// Depth is padded to a multiple of this.
    pub step: usize,
    /// Consecutive depths of a column that lie side by side in a panel.
    pub group: usize,
    /// Stored activations are xor this: 0 for unsigned, 0x80 for signed.
    pub flip: u8,
    /// Whether sums of two neighbouring products must fit 16 bits, so that weights move into [`Extra`]s.
    pub splits_pairs: bool,
    pub tile: Int8Tile,
}

/// The largest quantised activation.
pub(super) const MAX_LEVEL: u8 = 255;

/// The least quantised activation of a kernel with this `flip`.
///
/// Signed activations avoid −128: the sum of two products −128 · −128 would overflow the 16 bits in
/// which plain NEON adds them. The other ARM kernels also avoid it, so that all kernels of a
/// machine quantise to the same bytes.
pub(super) fn min_level(flip: u8) -> u8 {
    u8::from(flip != 0)
}
