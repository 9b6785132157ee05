//! The rules that replace tract's convolutions by those of [`super::convolution`].

use super::convolution::{Convolution, Geometry, Pointwise};
use super::ops::{Operator, Shared, Step};
use super::wire::{to_device, wire};
use constancy_kernels::Activation;
use std::sync::{Arc, Mutex};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::Slice;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat};
use tract_onnx::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_core::ops::nn::DataFormat;
#[allow(clippy::wildcard_imports, reason = "tract's macros and traits")]
use tract_onnx::tract_hir::internal::*;

/// Up to this number of input channels for each output channel our kernel is faster.
const MAX_CHANNELS: usize = 4;

/// What the rules make our operators with; they make none without `shared`.
#[derive(Default)]
pub(super) struct RuleContext {
    pub(super) shared: Option<Arc<Shared>>,
    /// Whether the tower runs in fp16.
    pub(super) half_precision: bool,
}

/// Replaces the convolutions that run faster here than with tract.
pub(super) fn convolution(
    context: &RuleContext,
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Conv,
) -> TractResult<Option<TypedModelPatch>> {
    let (Some(shared), Some(geometry)) = (&context.shared, geometry(model, node, op)?) else {
        return Ok(None);
    };
    let facts = model.node_input_facts(node.id)?;
    let (Some(weights), Some(bias)) = (&facts[1].konst, &facts[2].konst) else {
        return Ok(None);
    };
    let (weights, mut bias) = (values(weights)?, values(bias)?);
    if bias.len() == 1 {
        bias = vec![bias[0]; geometry.out[0]];
    }
    let Some(steps) = steps(geometry, &weights, &bias, context.half_precision)? else {
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

/// The steps that compute a convolution; `None` if tract is better at it.
fn steps(
    geometry: Geometry,
    weights: &[f32],
    bias: &[f32],
    half_precision: bool,
) -> TractResult<Option<Vec<Step>>> {
    let [channels, height, width] = geometry.out;
    let steps = if geometry.group_channels <= MAX_CHANNELS {
        let shape = [
            channels,
            geometry.group_channels,
            geometry.kernel,
            geometry.kernel,
        ];
        let weights = to_device(&shape, weights, DatumType::F32)?;
        let bias = to_device(&[channels], bias, DatumType::F32)?;
        vec![Step::Conv(Convolution {
            geometry,
            weights,
            bias,
            activation: Activation::None,
        })]
    } else if geometry.is_pointwise() {
        let dt = if half_precision {
            DatumType::F16
        } else {
            DatumType::F32
        };
        let weights = to_device(&[channels, geometry.channels], weights, dt)?;
        let bias = Some(to_device(&[channels], bias, dt)?);
        let product = Step::Pointwise(Pointwise {
            weights,
            products: Mutex::default(),
        });
        vec![
            product,
            Step::Activate {
                bias,
                run: height * width,
                activation: Activation::None,
            },
        ]
    } else {
        return Ok(None);
    };
    Ok(Some(steps))
}

/// The shapes of a convolution; `None` if our operators do not support it.
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

/// Replaces a downsampling to every n-th row by a reshape and a slice: tract runs a downsampling on
/// the host.
pub(super) fn downsample(
    _ctx: &RuleContext,
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
