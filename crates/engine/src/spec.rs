//! What the fused operators compute, before their weights are read: the rewrite of a graph makes
//! these specs, and the CPU's and the GPU's operators are made from them.

mod convolution;

use crate::onnx::{Constant, ElementType};
use constancy_kernels::Activation;
use std::collections::HashMap;

pub(crate) use convolution::{ConvolutionSpec, DepthwiseSpec, FinishSpec, PoolSpec, Window};

/// The fused nodes of a graph, by the name of their output.
pub(crate) type Specs = HashMap<String, Spec>;

/// What a fused node computes; its weights are still in the file.
#[derive(Clone)]
pub(crate) enum Spec {
    Linear(LinearSpec),
    Attention(AttentionSpec),
    Norm(NormSpec),
    Round(Grid),
    /// A convolution of images `[B, C, H, W]`, as files have them, until its layout is chosen: it does not run.
    Convolution(ConvolutionSpec),
    Depthwise(DepthwiseSpec),
    Pool(PoolSpec),
    Finish(FinishSpec),
}

impl Spec {
    pub(crate) fn linear(&self) -> Option<&LinearSpec> {
        match self {
            Self::Linear(linear) => Some(linear),
            _ => None,
        }
    }
}

/// `y = activation(round(norm(x)) · W + b) + residual`, or `activation(… + residual)`.
#[derive(Clone)]
pub(crate) struct LinearSpec {
    /// Matrices that share their input; their columns are concatenated.
    pub(crate) parts: Vec<WeightSpec>,
    pub(crate) depth: usize,
    /// The columns of all parts together.
    pub(crate) columns: usize,
    pub(crate) norm: Option<NormSpec>,
    /// What the file's static quantisation rounds the (normalised) input to.
    pub(crate) grid: Option<Grid>,
    pub(crate) activation: Activation,
    /// The node has a second input, which is added to the product.
    pub(crate) residual: bool,
    /// It is added before the activation.
    pub(crate) residual_first: bool,
    /// The input is an image, and its patches are the rows.
    pub(crate) patches: Option<Patches>,
    /// The input is an image `[B, H, W, C]`, and its windows are the rows: a convolution.
    pub(crate) window: Option<Window>,
}

impl LinearSpec {
    /// One matrix, without normalisation, activation or residual.
    pub(crate) fn plain(weight: WeightSpec) -> Self {
        let (depth, columns) = (weight.depth(), weight.columns());
        Self {
            parts: vec![weight],
            depth,
            columns,
            norm: None,
            grid: None,
            activation: Activation::None,
            residual: false,
            residual_first: false,
            patches: None,
            window: None,
        }
    }

    /// The matrices, each with its first column.
    pub(crate) fn parts_with_starts(&self) -> impl Iterator<Item = (&WeightSpec, usize)> {
        self.parts.iter().scan(0, |start, part| {
            let here = *start;
            *start += part.columns();
            Some((part, here))
        })
    }

    /// The bias of every column, padded with zeros to `len`; zeros where a matrix has none.
    pub(crate) fn bias(&self, len: usize) -> Vec<f32> {
        let mut bias = vec![0.0; len];
        for (part, start) in self.parts_with_starts() {
            bias[start..start + part.bias.len()].copy_from_slice(&part.bias);
        }
        bias
    }
}

/// One matrix, `w = (q − zero) · scale`.
#[derive(Clone)]
pub(crate) struct WeightSpec {
    /// `[depth, columns]`, or `[columns, depth]` where `transposed`.
    pub(crate) data: Constant,
    pub(crate) transposed: bool,
    /// One, or one per column; empty for 1.
    pub(crate) scales: Vec<f32>,
    /// One, or one per column; empty for 0.
    pub(crate) zeros: Vec<i32>,
    /// `[columns]`, or empty.
    pub(crate) bias: Vec<f32>,
}

impl WeightSpec {
    /// `[depth, columns]`, without scales, zero points and bias.
    pub(crate) fn new(data: Constant) -> Self {
        Self {
            data,
            transposed: false,
            scales: vec![],
            zeros: vec![],
            bias: vec![],
        }
    }

    pub(crate) fn is_int8(&self) -> bool {
        matches!(self.data.element, ElementType::I8 | ElementType::U8)
    }

    pub(crate) fn columns(&self) -> usize {
        self.data.shape[usize::from(!self.transposed)]
    }

    pub(crate) fn depth(&self) -> usize {
        self.data.shape[usize::from(self.transposed)]
    }
}

/// An image `[B, channels, rows · size, columns · size]`, cut into squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patches {
    pub(crate) channels: usize,
    /// Edge of a square, pixels.
    pub(crate) size: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// Layer normalisation over the last axis: `(x − mean) / √(variance + epsilon) · gain + shift`.
#[derive(Clone)]
pub(crate) struct NormSpec {
    /// Name of its output in the file: identifies the normalisation.
    pub(crate) name: String,
    pub(crate) gain: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    pub(crate) epsilon: f32,
}

/// Attention over three inputs `[B, S, ·]`, each with its heads side by side from a first column
/// on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttentionSpec {
    pub(crate) heads: usize,
    /// Columns of one head.
    pub(crate) depth: usize,
    /// Factor of the scores before softmax.
    pub(crate) scale: f32,
    /// First columns of q, k and v.
    pub(crate) offsets: [usize; 3],
}

/// The values that a static quantisation leaves: `(round(x / scale + zero) clamped − zero) · scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grid {
    pub(crate) scale: f32,
    /// Least and largest value in steps of `scale`, whole numbers: the bounds of the integer type
    /// less the zero point.
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Grid {
    /// Steps of `scale` that are nearest to `x`; halves go to the even one.
    #[inline]
    pub(crate) fn steps(&self, x: f32) -> f32 {
        // Adding 1.5 · 2²³ leaves no bits for fractions, which rounds without a call. The clamped
        // value is far below it; clamping to whole numbers first gives the same result.
        const ROUND: f32 = 12_582_912.0;
        ((x / self.scale).clamp(self.low, self.high) + ROUND) - ROUND
    }

    /// The value of the grid that is nearest to `x`.
    #[inline]
    pub(crate) fn round(&self, x: f32) -> f32 {
        self.steps(x) * self.scale
    }

    /// Whether its values are those of an 8-bit integer.
    pub(crate) fn is_8_bit(&self) -> bool {
        self.high - self.low <= 255.0
    }
}
