//! Operands and results of the kernels that compute in f32.

/// The function applied to a product's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    #[default]
    None,
    Relu,
    /// x · sigmoid(1.702 x), the activation of OpenAI's CLIP.
    QuickGelu,
    /// The exact GELU, with erf.
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
    /// x · sigmoid(x), also called Swish.
    Silu,
    Sigmoid,
    /// x clamped to 0..=6.
    Relu6,
    /// x · clamp(x + 3, 0, 6) / 6.
    HardSwish,
}

/// A layer normalisation's parameters, each `[D]`.
#[derive(Debug, Clone)]
pub struct NormArgs<'a> {
    pub gain: &'a [f32],
    pub shift: &'a [f32],
    pub epsilon: f32,
}

/// How one row of activations was quantised: `x ≈ q · scale + offset`, where q is the stored byte.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuantisedRow {
    pub scale: f32,
    pub offset: f32,
    /// `−Σx` over the quantised row, the factor of the weights' zero points; 0 for weights without them.
    pub neg_sum: f32,
}

/// The smallest interval that holds a row's values and 0.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub low: f32,
    pub high: f32,
}

/// `c [rows, columns] = a [rows, segments · depth] · b [segments · depth, columns]`, rows `*_stride` values apart. `b` and `c` reach
/// up to whole panels of columns.
#[derive(Clone, Copy)]
pub struct Product {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    /// Pieces of `depth` values that a row of `a` consists of, as the lines of a convolution's window; usually 1.
    pub segments: usize,
    pub a: *const f32,
    pub a_stride: usize,
    /// Distance of a row's pieces.
    pub a_segment: usize,
    pub b: *const f32,
    pub b_stride: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// The data to prefetch, or null.
    pub prefetch: *const f32,
    /// Bytes to prefetch for each row of b.
    pub prefetch_step: usize,
}

/// Turns a tile of i32 sums into f32:
/// `y = (Σqw · row scale + row offset · Σw + neg_sum · weight zero) · column scale + bias + outliers`, then the
/// activation, then the residual, or the other way round.
pub struct EpilogueArgs<'a> {
    pub rows: usize,
    /// Columns that are stored; the tables and `sums` reach up to `panel`.
    pub columns: usize,
    pub panel: usize,
    /// `[rows, panel]`.
    pub sums: *const i32,
    /// `[rows]`; empty for a product in f32.
    pub quantised: &'a [QuantisedRow],
    /// Weight scale per column.
    pub scales: *const f32,
    /// Σw times the scale, per column.
    pub column_sums: *const f32,
    /// Zero point times the scale, per column.
    pub weight_zeros: Option<*const f32>,
    /// Per column.
    pub bias: *const f32,
    /// Values `[rows, outliers]` of the channels that the integer product leaves out.
    pub outlier_rows: *const f32,
    /// Number of those channels.
    pub outliers: usize,
    /// Their weights, `[outliers, outlier_stride]`.
    pub outlier_weights: *const f32,
    pub outlier_stride: usize,
    pub activation: Activation,
    /// Whether the residual is added before the activation.
    pub residual_first: bool,
    /// Null if there is none.
    pub residual: *const f32,
    pub residual_stride: usize,
    pub out: *mut f32,
    pub out_stride: usize,
}

impl Default for EpilogueArgs<'_> {
    fn default() -> Self {
        Self {
            rows: 0,
            columns: 0,
            panel: 0,
            sums: std::ptr::null(),
            quantised: &[],
            scales: std::ptr::null(),
            column_sums: std::ptr::null(),
            bias: std::ptr::null(),
            weight_zeros: None,
            outlier_rows: std::ptr::null(),
            outliers: 0,
            outlier_weights: std::ptr::null(),
            outlier_stride: 0,
            activation: Activation::None,
            residual_first: false,
            residual: std::ptr::null(),
            residual_stride: 0,
            out: std::ptr::null_mut(),
            out_stride: 0,
        }
    }
}

/// One line of a depthwise convolution over channels that lie side by side, for one block of channels:
/// `out[x][c·m + j] = bias + Σ input[y][x·stride + k][c] · weights[j][y][k][c]`, for m filters per channel.
#[derive(Clone, Copy)]
pub struct DepthwiseArgs {
    /// Pixels of the line.
    pub pixels: usize,
    /// Channels of the block that are computed, up to [`DEPTHWISE_BLOCK`].
    pub channels: usize,
    /// Filters per channel.
    pub filters: usize,
    /// Lines and columns of the window.
    pub window: (usize, usize),
    pub stride: usize,
    /// The first channel of the window's first value. The block's padding is read as well.
    pub input: *const f32,
    /// Distance of pixels, and of lines.
    pub pixel_stride: usize,
    pub line_stride: usize,
    /// `[filters][window][block]`, padded with zeros.
    pub weights: *const f32,
    /// `[filters][block]`, padded with zeros.
    pub bias: *const f32,
    pub out: *mut f32,
    pub out_stride: usize,
}

/// The largest value of each window of a line, for pixels whose channels lie side by side.
#[derive(Clone, Copy)]
pub struct PoolArgs {
    /// Pixels of the line.
    pub pixels: usize,
    pub channels: usize,
    /// Lines and columns of the window.
    pub window: (usize, usize),
    pub stride: usize,
    /// The window's first value.
    pub input: *const f32,
    /// Distance of pixels, and of lines.
    pub pixel_stride: usize,
    pub line_stride: usize,
    /// Pixels are `channels` values apart.
    pub out: *mut f32,
}

/// `y = activation(x · scale) + residual`, or `activation(x · scale + residual)`, for rows of channels.
#[derive(Clone, Copy)]
pub struct FinishArgs {
    pub rows: usize,
    pub columns: usize,
    pub x: *const f32,
    /// A factor per column, or null.
    pub scales: *const f32,
    /// Null if there is none.
    pub residual: *const f32,
    pub residual_first: bool,
    pub activation: Activation,
    /// May be `x`. Rows of all operands are `stride` values apart.
    pub out: *mut f32,
    pub stride: usize,
}

/// The pixels of one tile of a 3 × 3 convolution by Winograd's algorithm: `[edge + 2, edge + 2]` pixels become as many
/// positions, `position_stride` values apart, each with all channels.
#[derive(Clone, Copy)]
pub struct WinogradInput {
    /// Outputs along an edge of a tile: 2 or 4.
    pub edge: usize,
    pub channels: usize,
    pub input: *const f32,
    pub pixel_stride: usize,
    pub line_stride: usize,
    pub out: *mut f32,
    pub position_stride: usize,
}

/// The sums of products of one tile, one for each of its positions and columns, as `[lines, pixels]` outputs plus `bias`.
#[derive(Clone, Copy)]
pub struct WinogradOutput {
    /// Outputs along an edge of a tile: 2 or 4.
    pub edge: usize,
    /// Sums and bias reach up to a whole vector of them.
    pub columns: usize,
    pub sums: *const f32,
    pub position_stride: usize,
    pub bias: *const f32,
    /// Outputs that are stored, up to `edge`.
    pub lines: usize,
    pub pixels: usize,
    pub out: *mut f32,
    pub pixel_stride: usize,
    pub line_stride: usize,
}

/// One attention head: `out [queries, depth] = softmax(scale · q kᵀ) v`, q `[queries, depth]`, k and v
/// `[keys, depth]`, rows `*_stride` values apart.
pub struct AttentionArgs {
    pub queries: usize,
    pub keys: usize,
    pub depth: usize,
    pub scale: f32,
    pub q: *const f32,
    pub q_stride: usize,
    pub k: *const f32,
    pub k_stride: usize,
    pub v: *const f32,
    pub v_stride: usize,
    pub out: *mut f32,
    pub out_stride: usize,
    /// Room for [`Kernels::attention_scratch`](crate::Kernels::attention_scratch) values.
    pub scratch: *mut f32,
}

/// Channels that a call of the depthwise convolution computes at most: a cache line, and the most lanes of any set.
pub const DEPTHWISE_BLOCK: usize = CACHE_LINE;

/// f32 values per cache line.
pub(super) const CACHE_LINE: usize = 16;
