//! Makes operators on the GPU from the specs of fused nodes, and nodes of the typed graph from the
//! operators.

use super::ops::{DeviceOp, Linear, Operator, Shared, Step};
use crate::ops::dense_weights;
use crate::spec::{LinearSpec, NormSpec, Spec, Specs};
use constancy_kernels::Activation;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tract_gpu::tensor::{DeviceTensor, IntoDevice};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::bail;

/// The steps of each fused node, by the name of its output.
pub(super) type Wired = HashMap<String, Vec<Arc<Operator>>>;

/// Why a statically quantised tower is left to the CPU.
const STATIC: &str = "static quantisation (QuantizeLinear) runs on the CPU only";

/// Makes the steps of every spec, and copies its weights to the GPU in `dt`.
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
            Spec::Round(_) => bail!(STATIC),
            Spec::Convolution(_) | Spec::Depthwise(_) | Spec::Pool(_) | Spec::Finish(_) => {
                bail!("convolutions have operators of their own on the GPU")
            }
            Spec::Linear(spec) if spec.grid.is_some() => bail!(STATIC),
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
    let weights = to_device(&[spec.columns, spec.depth], &dense_weights(spec), dt)?;
    let activates = spec.activation != Activation::None;
    let has_bias = activates || bias.iter().any(|&b| b != 0.0);
    let mut bias = if has_bias {
        Some(to_device(&[spec.columns], &bias, dt)?)
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
    let vector = |values: &[f32]| to_device(&[values.len()], values, DatumType::F32);
    Ok(Step::Norm {
        gain: vector(&spec.gain)?,
        shift: vector(&spec.shift)?,
        epsilon: spec.epsilon,
    })
}

/// Copies values to the GPU as a tensor of `dt`.
pub(super) fn to_device(
    shape: &[usize],
    values: &[f32],
    dt: DatumType,
) -> TractResult<DeviceTensor> {
    let tensor = Tensor::from_shape(shape, values)?
        .cast_to_dt(dt)?
        .into_owned();
    let tensor = tensor.into_device()?;
    // The copy is asynchronous and reads the host's memory, which is freed below.
    tract_cuda::with_cuda_stream(|stream| Ok(stream.synchronize()?))?;
    Ok(tensor)
}

/// Adds the steps of a fused node to a typed graph. The last step takes the second input, the
/// residual.
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
