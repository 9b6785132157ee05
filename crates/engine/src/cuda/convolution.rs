//! Convolutions on the GPU. Those with few input channels for each output channel (depthwise ones,
//! and the first one of a tower) run on a kernel of ours, pointwise ones as products.
//!
//! tract runs convolutions with cuDNN, which uses one algorithm for all of them and takes 0.4 ms
//! for each on a large GPU.

use super::blas::{Blas, Operands, Product, Shape};
use super::library::{Arg, Library, activation_code, address, int, thread_per_value};
use constancy_kernels::Activation;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tract_gpu::tensor::DeviceTensor;
use tract_onnx::prelude::{TVec, TractResult, tvec};
use tract_onnx::tract_hir::internal::{bail, ensure};

/// Number of adjacent outputs that a thread computes.
const SIDE: usize = 4;

/// A square kernel over images `[B, channels, H, W]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) channels: usize,
    pub(super) out: [usize; 3],
    /// Input channels of an output channel.
    pub(super) group_channels: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) pad: usize,
}

impl Geometry {
    /// Whether this is a pointwise convolution whose shapes suit cuBLASLt, which reads 16 bytes at
    /// a time.
    pub(super) fn is_pointwise(&self) -> bool {
        let [columns, height, width] = self.out;
        self.kernel == 1
            && self.stride == 1
            && self.group_channels == self.channels
            && [columns, self.channels, height * width]
                .iter()
                .all(|n| n % 8 == 0)
    }
}

/// A convolution, with the bias and the activation after it.
#[derive(Clone)]
pub(super) struct Convolution {
    pub(super) geometry: Geometry,
    /// `[O, group_channels, K, K]`, f32.
    pub(super) weights: DeviceTensor,
    /// `[O]`, f32.
    pub(super) bias: DeviceTensor,
    pub(super) activation: Activation,
}

/// A pointwise (1 × 1) convolution: `weights [O, C] · x [C, H · W]` for each image.
pub(super) struct Pointwise {
    /// `[O, C]`.
    pub(super) weights: DeviceTensor,
    /// One for each number of images so far.
    pub(super) products: Mutex<HashMap<usize, Arc<Product>>>,
}

impl Convolution {
    /// The same with an activation after it.
    pub(super) fn with_activation(&self, activation: Activation) -> Self {
        Self {
            activation,
            ..self.clone()
        }
    }

    /// `[B, O, H', W']`.
    pub(super) fn output_shape(&self, input: &[usize]) -> TVec<usize> {
        let [channels, height, width] = self.geometry.out;
        tvec![input.first().copied().unwrap_or(1), channels, height, width]
    }

    pub(super) fn run(
        &self,
        library: &Library,
        x: &DeviceTensor,
        output: &DeviceTensor,
    ) -> TractResult<()> {
        let g = &self.geometry;
        let &[batch, channels, height, width] = x.shape() else {
            bail!("a convolution takes images")
        };
        ensure!(
            channels == g.channels,
            "a convolution of {} channels got {channels}",
            g.channels
        );
        let [out_channels, out_height, out_width] = g.out;
        let count = u32::try_from(batch * out_channels * out_height * out_width.div_ceil(SIDE))?;
        let pointers = [
            address(x)?,
            address(&self.weights)?,
            address(&self.bias)?,
            address(output)?,
        ];
        let mut args: Vec<Arg> = pointers.map(Arg::Pointer).into();
        args.extend([channels, height, width, out_channels, out_height, out_width].map(int));
        args.extend([g.group_channels, g.kernel, g.stride, g.pad].map(int));
        args.extend([activation_code(self.activation), Arg::Count(count)]);
        library.launch(
            "conv",
            Some(output.datum_type()),
            thread_per_value(count),
            &args,
        )
    }
}

impl Pointwise {
    /// `[B, O, H, W]`.
    pub(super) fn output_shape(&self, input: &[usize]) -> TVec<usize> {
        let mut shape: TVec<usize> = input.into();
        if let Some(channels) = shape.get_mut(1) {
            *channels = self.weights.shape()[0];
        }
        shape
    }

    pub(super) fn run(
        &self,
        blas: &Blas,
        x: &DeviceTensor,
        output: &DeviceTensor,
    ) -> TractResult<()> {
        let (&[batch, channels, height, width], &[columns, depth]) =
            (x.shape(), self.weights.shape())
        else {
            bail!("a pointwise convolution takes images")
        };
        ensure!(
            channels == depth,
            "a convolution of {depth} channels got {channels}"
        );
        let shape = Shape {
            rows: height * width,
            columns,
            depth,
            images: Some(batch),
            dt: output.datum_type(),
        };
        let operands = Operands {
            x: address(x)?,
            w: address(&self.weights)?,
            bias: 0,
            residual: 0,
            y: address(output)?,
        };
        Product::of_shape(&self.products, batch, blas, shape, &operands)?.run(blas, &operands)
    }
}
