//! One instruction set's kernels, as the operators call them.

use super::args::{
    AttentionArgs, CACHE_LINE, DepthwiseArgs, EpilogueArgs, FinishArgs, NormArgs, PoolArgs,
    Product, QuantisedRow, Range, WinogradInput, WinogradOutput,
};
use super::int8::Int8Kernel;
use super::isa::Isa;

/// The kernels of one instruction set.
///
/// Values exist only for sets that this machine can run: [`Kernels::best`] chooses one.
///
/// ```
/// use constancy_kernels::{Kernels, NormArgs};
///
/// let kernels = Kernels::best();
/// let norm = NormArgs { gain: &[1.0; 4], shift: &[0.0; 4], epsilon: 0.0 };
/// let mut y = [0.0; 4];
/// let range = kernels.layer_norm(&[1.0, 3.0, 1.0, 3.0], &mut y, &norm);
/// assert_eq!(y, [-1.0, 1.0, -1.0, 1.0]);
///
/// // Stored bytes approximate the values: `y ≈ q · scale + offset`.
/// let mut bytes = [0; 4];
/// let row = kernels.quantise_row(&y, range, &mut bytes);
/// assert!((row.scale - 2.0 / 255.0).abs() < 1e-4);
/// ```
pub struct Kernels {
    pub isa: Isa,
    pub int8: Int8Kernel,
    /// Columns of a tile of the f32 product.
    pub f32_panel: usize,
    /// Most rows of a tile of the f32 product.
    pub f32_rows: usize,
    pub(super) layer_norm: unsafe fn(*const f32, *mut f32, usize, &NormArgs<'_>) -> Range,
    pub(super) range: unsafe fn(*const f32, usize) -> Range,
    pub(super) quantise_row: unsafe fn(*const f32, *mut u8, usize, Range, u8) -> QuantisedRow,
    /// Finishes a tile of the int8 product.
    pub epilogue: unsafe fn(&EpilogueArgs<'_>),
    /// Adds bias, activation and residual to a tile of the f32 product.
    pub epilogue_f32: unsafe fn(*const f32, &EpilogueArgs<'_>),
    /// The f32 product of up to [`Self::f32_rows`] rows.
    pub product: unsafe fn(&Product),
    /// One line of a depthwise convolution.
    pub depthwise: unsafe fn(&DepthwiseArgs),
    /// The two transforms of a 3 × 3 convolution in tiles.
    pub winograd_input: unsafe fn(&WinogradInput),
    pub winograd_output: unsafe fn(&WinogradOutput),
    /// Scale, activation and residual of pixels.
    pub finish: unsafe fn(&FinishArgs),
    /// One line of a maximum over windows.
    pub max_pool: unsafe fn(&PoolArgs),
    pub(super) mean: unsafe fn(*const f32, usize, usize, usize, *mut f32),
    /// Most rows of queries that attention processes at a time.
    pub(super) attention_rows: usize,
    /// Attention in f32.
    pub attention: unsafe fn(&AttentionArgs),
    /// Attention with bfloat16 products (relative error 2^−9 of an operand) where that is faster, for towers with int8
    /// products; elsewhere the same as `attention`.
    pub low_precision_attention: unsafe fn(&AttentionArgs),
}

impl Kernels {
    /// Normalises the row `x` into `to`, both of the same length; returns the range of `to`.
    pub fn layer_norm(&self, x: &[f32], to: &mut [f32], norm: &NormArgs<'_>) -> Range {
        let len = x.len();
        assert!(
            to.len() == len && norm.gain.len() == len && norm.shift.len() == len,
            "one length"
        );
        // SAFETY: all four hold `len` values, and a `Kernels` exists only if the machine can run it.
        unsafe { (self.layer_norm)(x.as_ptr(), to.as_mut_ptr(), len, norm) }
    }

    /// The range of a row.
    #[must_use]
    pub fn range(&self, x: &[f32]) -> Range {
        // SAFETY: the pointer and length are a slice's; the set is available.
        unsafe { (self.range)(x.as_ptr(), x.len()) }
    }

    /// Quantises the row `x`, whose values lie in `range`, into the bytes that the int8 product reads. `to` is at least
    /// as long as `x`.
    pub fn quantise_row(&self, x: &[f32], range: Range, to: &mut [u8]) -> QuantisedRow {
        assert!(to.len() >= x.len(), "room for the row");
        let flip = self.int8.flip;
        // SAFETY: both hold `x.len()` values; the set is available.
        unsafe { (self.quantise_row)(x.as_ptr(), to.as_mut_ptr(), x.len(), range, flip) }
    }

    /// The mean of the rows of `x`, each `stride` values apart, over the first `out.len()` columns.
    pub fn mean(&self, x: &[f32], stride: usize, out: &mut [f32]) {
        assert!(
            out.len() <= stride && x.len().is_multiple_of(stride) && !x.is_empty(),
            "whole rows"
        );
        let rows = x.len() / stride;
        // SAFETY: `x` holds `rows` rows, `out` its columns; the set is available.
        unsafe { (self.mean)(x.as_ptr(), rows, out.len(), stride, out.as_mut_ptr()) }
    }

    /// Sum of stored activations; weights with zero points need it.
    #[must_use]
    pub fn stored_sum(&self, bytes: &[u8]) -> i32 {
        let value = |&b: &u8| {
            if self.int8.flip == 0 {
                i32::from(b)
            } else {
                i32::from(b.cast_signed())
            }
        };
        bytes.iter().map(value).sum()
    }

    /// Scratch, in f32 values, that one head of attention needs.
    #[must_use]
    pub fn attention_scratch(&self, keys: usize, depth: usize) -> usize {
        let (padded, wide) = (
            keys.next_multiple_of(self.f32_panel),
            depth.next_multiple_of(self.f32_panel),
        );
        CACHE_LINE + padded * depth + padded * wide + 2 * self.attention_rows * (padded + wide)
    }
}
