//! Convolutions on the GPU: those of few input channels for each output (depthwise ones, an image's first) by a kernel
//! of ours, those of one pixel as products.
//!
//! cuDNN, by which tract runs them, takes the same algorithm for all, and 0.4 ms for each on a large GPU.

use super::blas::{Blas, Operands, Product, Shape};
use super::library::{Arg, Library, address, int, one_each};
use super::ops::{Operator, Shared, Step, code};
use super::wire::{device, wire};
use constancy_kernels::Activation;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tract_gpu::tensor::DeviceTensor;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::Slice;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_core::ops::nn::DataFormat;
#[allow(clippy::wildcard_imports, reason = "tract's macros and traits")]
use tract_onnx::tract_hir::internal::*;

/// Input channels of an output channel up to which our kernel is the better one.
const MOST_CHANNELS: usize = 4;
/// Outputs beside each other that a thread makes.
const SIDE: usize = 4;

/// What rules make operators of ours with, if there are to be any.
#[derive(Default)]
pub(super) struct Ours {
    pub(super) shared: Option<Arc<Shared>>,
    /// Whether the tower is in halves.
    pub(super) halves: bool,
}

/// A square kernel over images `[B, channels, H, W]`.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    channels: usize,
    out: [usize; 3],
    /// Input channels of an output channel.
    group_channels: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
}

/// A convolution and what follows it.
#[derive(Clone)]
pub(super) struct Convolution {
    geometry: Geometry,
    /// `[O, group_channels, K, K]`, f32.
    weights: DeviceTensor,
    /// `[O]`, f32.
    bias: DeviceTensor,
    pub(super) activation: Activation,
}

/// A convolution of one pixel: each image's `[O, H · W] = weights [O, C] · [C, H · W]`.
pub(super) struct Mix {
    weights: DeviceTensor,
    /// One for each number of images that was met.
    products: Mutex<HashMap<usize, Arc<Product>>>,
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
        args.extend([code(self.activation), Arg::Count(count)]);
        library.launch("conv", Some(output.datum_type()), one_each(count), &args)
    }
}

impl Mix {
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
            bail!("a convolution of one pixel takes images")
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

/// Replaces the convolutions that are better here than in tract's hands.
pub(super) fn convolution(
    ours: &Ours,
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Conv,
) -> TractResult<Option<TypedModelPatch>> {
    let (Some(shared), Some(geometry)) = (&ours.shared, geometry(model, node, op)?) else {
        return Ok(None);
    };
    let facts = model.node_input_facts(node.id)?;
    let (Some(weights), Some(bias)) = (&facts[1].konst, &facts[2].konst) else {
        return Ok(None);
    };
    let (weights, mut bias) = (values(weights)?, values(bias)?);
    let [channels, height, width] = geometry.out;
    if bias.len() == 1 {
        bias = vec![bias[0]; channels];
    }
    let steps = if geometry.group_channels <= MOST_CHANNELS {
        let shape = [
            channels,
            geometry.group_channels,
            geometry.kernel,
            geometry.kernel,
        ];
        let weights = device(&shape, &weights, DatumType::F32)?;
        let bias = device(&[channels], &bias, DatumType::F32)?;
        vec![Step::Conv(Convolution {
            geometry,
            weights,
            bias,
            activation: Activation::None,
        })]
    } else if geometry.is_mix() {
        let dt = if ours.halves {
            DatumType::F16
        } else {
            DatumType::F32
        };
        let weights = device(&[channels, geometry.channels], &weights, dt)?;
        let bias = Some(device(&[channels], &bias, dt)?);
        let mix = Step::Mix(Mix {
            weights,
            products: Mutex::default(),
        });
        vec![
            mix,
            Step::Activate {
                bias,
                run: height * width,
                activation: Activation::None,
            },
        ]
    } else {
        return Ok(None);
    };
    let steps: Vec<Arc<Operator>> = steps
        .into_iter()
        .map(|step| {
            Arc::new(Operator {
                step,
                shared: Arc::clone(shared),
            })
        })
        .collect();
    let mut patch = TypedModelPatch::default();
    let x = patch.tap_model(model, node.inputs[0])?;
    let made = wire(&steps, name, &mut patch, &[x])?;
    patch.shunt_outside(model, node.id.into(), made[0])?;
    Ok(Some(patch))
}

impl Geometry {
    /// Whether it is a product, of which cuBLASLt reads sixteen bytes at a time.
    fn is_mix(&self) -> bool {
        let [columns, height, width] = self.out;
        self.kernel == 1
            && self.stride == 1
            && self.group_channels == self.channels
            && [columns, self.channels, height * width]
                .iter()
                .all(|n| n % 8 == 0)
    }
}

/// `None` for what our operators do not do.
fn geometry(model: &TypedModel, node: &TypedNode, op: &Conv) -> TractResult<Option<Geometry>> {
    let spec = &op.pool_spec;
    let fact = model.outlet_fact(node.inputs[0])?;
    let (Some(&[_, channels, height, width]), &[kernel, other]) =
        (fact.shape.as_concrete(), &*spec.kernel_shape)
    else {
        return Ok(None);
    };
    let plain = spec.data_format == DataFormat::NCHW
        && op.kernel_fmt == KernelFormat::OIHW
        && op.q_params.is_none()
        && spec.dilations().iter().all(|&d| d == 1);
    let padding = spec.computed_padding(&[height, width]);
    let (pad, stride) = (padding[0].pad_before, spec.stride(0));
    if !plain || kernel != other || stride != spec.stride(1) || pad != padding[1].pad_before {
        return Ok(None);
    }
    let &[_, _, out_height, out_width] = &*spec.output_shape(&[1, channels, height, width])?.shape
    else {
        return Ok(None);
    };
    let out = [op.output_channels(), out_height, out_width];
    Ok(Some(Geometry {
        channels,
        out,
        group_channels: channels / op.group,
        kernel,
        stride,
        pad,
    }))
}

fn values(tensor: &Tensor) -> TractResult<Vec<f32>> {
    let floats = tensor.cast_to::<f32>()?;
    Ok(floats.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

/// Every n-th row as one of n: tract leaves the former on the host.
pub(super) fn downsample(
    _ctx: &Ours,
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Downsample,
) -> TractResult<Option<TypedModelPatch>> {
    let fact = model.outlet_fact(node.inputs[0])?;
    let (Some(shape), Ok(stride)) = (fact.shape.as_concrete(), usize::try_from(op.stride)) else {
        return Ok(None);
    };
    let (axis, length) = (op.axis, shape[op.axis]);
    if stride == 0 || length % stride != 0 || op.modulo >= stride {
        return Ok(None);
    }
    let mut patch = TypedModelPatch::default();
    let x = patch.tap_model(model, node.inputs[0])?;
    let split = AxisOp::Reshape(
        axis,
        tvec![length.to_dim()],
        tvec![(length / stride).to_dim(), stride.to_dim()],
    );
    let x = patch.wire_node(format!("{name}.split"), split, &[x])?;
    let x = patch.wire_node(
        format!("{name}.slice"),
        Slice::new(axis + 1, op.modulo, op.modulo + 1),
        &x,
    )?;
    let x = patch.wire_node(name, AxisOp::Rm(axis + 1), &x)?;
    patch.shunt_outside(model, node.id.into(), x[0])?;
    Ok(Some(patch))
}
