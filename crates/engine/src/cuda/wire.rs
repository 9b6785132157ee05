//! From the specs of fused nodes to operators on the GPU, and from these to nodes of the typed graph.

use super::ops::{DeviceOp, Linear, Operator, Shared, Step};
use crate::ops::dense;
use crate::rewrite::{LinearSpec, NormSpec, Spec, Specs};
use constancy_kernels::Activation;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tract_gpu::tensor::{DeviceTensor, IntoDevice};
use tract_onnx::prelude::*;

/// The steps of each fused node, by the value that it makes.
pub(super) type Wired = HashMap<String, Vec<Arc<Operator>>>;

/// Puts every spec on the GPU, its weights in `dt`.
pub(super) fn upload(specs: &Specs, dt: DatumType, shared: &Arc<Shared>) -> TractResult<Wired> {
    let operator = |step| {
        Arc::new(Operator {
            step,
            shared: Arc::clone(shared),
        })
    };
    let mut wired = Wired::new();
    for (name, spec) in specs {
        let steps = match spec {
            Spec::Linear(spec) => linear(spec, dt)?,
            Spec::Attention(spec) => vec![Step::Attention(spec.clone())],
            Spec::Norm(spec) => vec![norm(spec)?],
        };
        wired.insert(name.clone(), steps.into_iter().map(operator).collect());
    }
    Ok(wired)
}

fn linear(spec: &LinearSpec, dt: DatumType) -> TractResult<Vec<Step>> {
    let mut steps: Vec<Step> = spec.patches.map(Step::Patches).into_iter().collect();
    if let Some(spec) = &spec.norm {
        steps.push(norm(spec)?);
    }
    let bias = spec.bias(spec.columns);
    let weights = device(&[spec.columns, spec.depth], &dense(spec), dt)?;
    let activates = spec.activation != Activation::None;
    let has_bias = activates || bias.iter().any(|&b| b != 0.0);
    let mut bias = if has_bias {
        Some(device(&[spec.columns], &bias, dt)?)
    } else {
        None
    };
    let after = activates.then(|| bias.take()).flatten();
    steps.push(Step::Linear(Linear {
        weights,
        bias,
        products: Mutex::default(),
    }));
    steps.extend(after.map(|bias| Step::Activate {
        bias: Some(bias),
        run: 1,
        activation: spec.activation,
    }));
    Ok(steps)
}

fn norm(spec: &NormSpec) -> TractResult<Step> {
    let vector = |values: &[f32]| device(&[values.len()], values, DatumType::F32);
    Ok(Step::Norm {
        gain: vector(&spec.gain)?,
        shift: vector(&spec.shift)?,
        epsilon: spec.epsilon,
    })
}

pub(super) fn device(shape: &[usize], values: &[f32], dt: DatumType) -> TractResult<DeviceTensor> {
    let tensor = Tensor::from_shape(shape, values)?
        .cast_to_dt(dt)?
        .into_owned();
    let tensor = tensor.into_device()?;
    // The copy is asynchronous, and reads the host's memory.
    tract_cuda::with_cuda_stream(|stream| Ok(stream.synchronize()?))?;
    Ok(tensor)
}

/// Wires a fused node's steps; a second input of a product is added by the last of them.
pub(super) fn wire(
    steps: &[Arc<Operator>],
    prefix: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let mut from: TVec<OutletId> = inputs.into();
    for (i, step) in steps.iter().enumerate() {
        let last = i + 1 == steps.len();
        let name = if last {
            prefix.to_owned()
        } else {
            format!("{prefix}.{}", step.kind())
        };
        let taken = if last { &from[..] } else { &from[..1] };
        let made = model.wire_node(name, DeviceOp(Arc::clone(step)), taken)?;
        from[0] = made[0];
    }
    from.truncate(1);
    Ok(from)
}
