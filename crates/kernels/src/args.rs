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

/// `c [rows, columns] = a [rows, depth] · b [depth, columns]`, rows `*_stride` values apart.
#[derive(Clone, Copy)]
pub struct Product {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub a: *const f32,
    pub a_stride: usize,
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
/// activation, then the residual.
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
            residual: std::ptr::null(),
            residual_stride: 0,
            out: std::ptr::null_mut(),
            out_stride: 0,
        }
    }
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

/// f32 values per cache line.
pub(super) const CACHE_LINE: usize = 16;
