//! What the operators of convolution towers compute.

use super::WeightSpec;
use crate::onnx::Constant;
use constancy_kernels::Activation;

/// Windows over images `[B, height, width, channels]`: the value at `(y, x)` of the output is computed from the
/// `size` pixels that begin at `(y, x) · stride − pad`; pixels outside the image are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Lines and columns of a window.
    pub(crate) size: (usize, usize),
    pub(crate) stride: usize,
    /// Lines above and columns left of the image in the first window.
    pub(crate) pad: (usize, usize),
    /// Lines and columns of the output.
    pub(crate) out: (usize, usize),
    /// The images are `[B, channels, height, width]`: a tower's input, whose few channels are put side by side on the way.
    pub(crate) planar: bool,
}

impl Window {
    /// Windows of one pixel each.
    pub(crate) fn of_pixels(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
            size: (1, 1),
            stride: 1,
            pad: (0, 0),
            out: (height, width),
            planar: false,
        }
    }

    /// Lines and columns of the part of the padded image that the windows cover.
    pub(crate) fn covered(&self) -> (usize, usize) {
        let along = |out: usize, size: usize| (out.max(1) - 1) * self.stride + size;
        (
            along(self.out.0, self.size.0),
            along(self.out.1, self.size.1),
        )
    }

    /// Whether all windows lie within the image.
    pub(crate) fn is_inside(&self) -> bool {
        let (height, width) = self.covered();
        self.pad == (0, 0) && height <= self.height && width <= self.width
    }
}

/// A convolution of an image `[B, C, H, W]`, with what follows it.
#[derive(Clone)]
pub(crate) struct ConvolutionSpec {
    /// `[columns, C / groups, lines, columns of the window]`, floats or int8.
    pub(crate) weights: Constant,
    /// A factor of the weights of each column, or empty.
    pub(crate) scales: Vec<f32>,
    /// `[columns]`.
    pub(crate) bias: Vec<f32>,
    pub(crate) groups: usize,
    pub(crate) window: Window,
    pub(crate) activation: Activation,
    pub(crate) residual: bool,
    pub(crate) residual_first: bool,
}

impl ConvolutionSpec {
    pub(crate) fn columns(&self) -> usize {
        self.bias.len()
    }

    /// Whether nothing follows that is not linear.
    pub(crate) fn is_linear(&self) -> bool {
        self.activation == Activation::None && !self.residual
    }

    /// The weights with their factors.
    pub(crate) fn scaled_weights(&self) -> Vec<f32> {
        let mut weights = self.weights.floats();
        let filter = weights.len() / self.columns().max(1);
        for (filter, scale) in weights.chunks_exact_mut(filter.max(1)).zip(&self.scales) {
            for weight in filter {
                *weight *= scale;
            }
        }
        weights
    }

    /// The weights as a matrix whose rows are the window's values, channels last.
    pub(crate) fn matrix(&self) -> WeightSpec {
        let &[columns, channels, lines, across] = self.weights.shape.as_slice() else {
            return WeightSpec::new(self.weights.clone());
        };
        let pixels = lines * across;
        let data = if pixels == 1 {
            Constant {
                shape: vec![columns, channels],
                ..self.weights.clone()
            }
        } else {
            let size = self.weights.element.size();
            let from = self.weights.data.bytes();
            let mut bytes = Vec::with_capacity(from.len());
            for filter in from.chunks_exact(channels * pixels * size) {
                for p in 0..pixels {
                    for c in 0..channels {
                        let at = (c * pixels + p) * size;
                        bytes.extend_from_slice(&filter[at..at + size]);
                    }
                }
            }
            self.weights.data.release();
            Constant::owned(
                vec![columns, pixels * channels],
                self.weights.element,
                bytes,
            )
        };
        WeightSpec {
            transposed: true,
            scales: self.scales.clone(),
            bias: self.bias.clone(),
            ..WeightSpec::new(data)
        }
    }
}

/// A convolution of each channel of an image `[B, H, W, C]` by itself, with `filters` results per channel.
#[derive(Clone)]
pub(crate) struct DepthwiseSpec {
    /// `[C · filters, 1, lines, columns of the window]` with their factors.
    pub(crate) weights: Vec<f32>,
    /// `[C · filters]`.
    pub(crate) bias: Vec<f32>,
    pub(crate) filters: usize,
    pub(crate) window: Window,
    pub(crate) activation: Activation,
    pub(crate) residual: bool,
    pub(crate) residual_first: bool,
}

/// What a window of an image `[B, H, W, C]` becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PoolSpec {
    Max(Window),
    /// The mean of all pixels.
    Mean(Window),
}

impl PoolSpec {
    pub(crate) fn window(&self) -> &Window {
        match self {
            Self::Max(window) | Self::Mean(window) => window,
        }
    }
}

/// An image `[B, H, W, C]` times its factors, if it has some, then activated, with the residual after or before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FinishSpec {
    /// The second input has a factor per image and channel.
    pub(crate) scaled: bool,
    pub(crate) activation: Activation,
    /// The last input is added.
    pub(crate) residual: bool,
    pub(crate) residual_first: bool,
}

impl FinishSpec {
    /// Leaves the image as it is.
    pub(crate) const NOTHING: Self = Self {
        scaled: false,
        activation: Activation::None,
        residual: false,
        residual_first: false,
    };
}
