//! From tract's typed graph to one that runs on the GPU.

use super::convolution_rules::{RuleContext, convolution, downsample};
use super::ops::{DeviceOp, Operator, Shared, Step};
use constancy_kernels::Activation;
use std::collections::BTreeSet;
use std::sync::Arc;
use tract_cuda::CudaTransform;
use tract_cuda::ops::CudaFusedAxisOp;
use tract_gpu::fact::{DeviceFact, DeviceTypedFactExt};
use tract_gpu::ops::change_axes::GpuAxisOp;
use tract_gpu::rewrite_rules::rewire_syncs::rewire_syncs;
use tract_gpu::sync::{DeviceSync, DeviceSyncKind};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::floats::FloatPrecisionTranslator;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::nn::GeluExact;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_core::optim::Optimizer;
use tract_onnx::tract_core::transform::ModelTransform;

/// A graph that runs on the GPU.
pub(super) struct Transformed {
    pub(super) model: TypedModel,
    /// Whether its input and output are tensors in the GPU's memory, and no operator runs on the
    /// host.
    pub(super) on_device: bool,
}

/// Translates a graph to one that computes in `dt` on the GPU. With `shared`, operators of ours
/// replace those for which tract-cuda has no kernel or a slow one.
pub(super) fn transform(
    mut model: TypedModel,
    dt: DatumType,
    shared: Option<Arc<Shared>>,
) -> TractResult<Transformed> {
    let context = RuleContext {
        shared,
        half_precision: dt == DatumType::F16,
    };
    // Convolutions are replaced before tract turns the pointwise ones into other operators. Their
    // weights become constants only by this propagation.
    Optimizer::prop_consts().optimize(&mut model)?;
    Rewriter::default()
        .with_rule_for("constancy-convolution", convolution)
        .rewrite(&context, &mut model)?;
    if dt == DatumType::F16 {
        FloatPrecisionTranslator::new(DatumType::F32, DatumType::F16).transform(&mut model)?;
    }
    let mut model = model.into_decluttered()?;
    Rewriter::default()
        .with_rule_for("constancy-gelu", gelu)
        .with_rule_for("constancy-downsample", downsample)
        .rewrite(&context, &mut model)?;
    CudaTransform.transform(&mut model)?;
    Rewriter::default()
        .with_rule_for("constancy-to-device", move_to_device)
        .rewrite(&context, &mut model)?;
    rewire_syncs(&mut model)?;
    model.optimize()?;
    for node in model.nodes() {
        log::trace!(
            "{} {} {:?} {:?}",
            node.name,
            node.op.name(),
            node.inputs,
            node.outputs[0].fact
        );
    }
    let on_device = without_host(&model)?;
    if on_device.is_none() {
        log::info!(
            "the GPU waits for operators on the host: {}",
            on_host(&model)
        );
    }
    Ok(match on_device {
        Some(model) => Transformed {
            model,
            on_device: true,
        },
        None => Transformed {
            model,
            on_device: false,
        },
    })
}

/// The kinds of operators that run on the host.
fn on_host(model: &TypedModel) -> String {
    let stays = |node: &&TypedNode| {
        !node.op_is::<Const>()
            && !node.op_is::<TypedSource>()
            && !node.op_is::<DeviceSync>()
            && node
                .outputs
                .iter()
                .any(|o| o.fact.as_device_fact().is_none())
    };
    let kinds: BTreeSet<String> = model
        .nodes()
        .iter()
        .filter(stays)
        .map(|n| n.op.name().to_string())
        .collect();
    kinds.into_iter().collect::<Vec<_>>().join(", ")
}

/// Replaces the exact GELU, which tract-cuda runs on the host. A convolution before it includes it.
fn gelu(
    context: &RuleContext,
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &ElementWiseOp,
) -> TractResult<Option<TypedModelPatch>> {
    let (Some(shared), true) = (&context.shared, op.0.is::<GeluExact>()) else {
        return Ok(None);
    };
    let made = |step| {
        DeviceOp(Arc::new(Operator {
            step,
            shared: Arc::clone(shared),
        }))
    };
    let before = model.node(node.inputs[0].node);
    if let (Some(DeviceOp(before_op)), 1) = (
        before.op_as::<DeviceOp>(),
        before.outputs[0].successors.len(),
    ) && let Some(step) = before_op.step.with_activation(Activation::Gelu)
    {
        let mut patch = TypedModelPatch::default();
        let x = before
            .inputs
            .iter()
            .map(|&i| patch.tap_model(model, i))
            .collect::<TractResult<TVec<_>>>()?;
        let y = patch.wire_node(name, made(step), &x)?;
        patch.shunt_outside(model, node.id.into(), y[0])?;
        return Ok(Some(patch));
    }
    let step = Step::Activate {
        bias: None,
        run: 1,
        activation: Activation::Gelu,
    };
    Ok(Some(
        TypedModelPatch::replace_single_op(model, node, &node.inputs, made(step))?
            .with_context(name),
    ))
}

/// Moves our operators to the GPU. tract leaves operators that it does not know on the host,
/// between copies, but ours take and return tensors in the GPU's memory.
fn move_to_device(
    _ctx: &RuleContext,
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &DeviceOp,
) -> TractResult<Option<TypedModelPatch>> {
    if model
        .node_input_facts(node.id)?
        .iter()
        .all(|f| f.as_device_fact().is_some())
    {
        return Ok(None);
    }
    let mut patch = TypedModelPatch::default();
    let mut inputs: TVec<OutletId> = tvec![];
    for (i, &input) in node.inputs.iter().enumerate() {
        let from = model.node(input.node);
        inputs.push(if let Some(axis_ops) = axis_ops_before_copy(from) {
            let mut on_device = patch.tap_model(model, from.inputs[0])?;
            for (n, axis_op) in axis_ops.iter().enumerate() {
                on_device = patch.wire_node(
                    format!("{name}.axes-{i}-{n}"),
                    axis_op.clone(),
                    &[on_device],
                )?[0];
            }
            on_device
        } else {
            let host = patch.tap_model(model, input)?;
            patch.wire_node(
                format!("{name}.up-{i}"),
                DeviceSync::new(DeviceSyncKind::ToDevice),
                &[host],
            )?[0]
        });
    }
    let made = patch.wire_node(format!("{name}.gpu"), op.clone(), &inputs)?;
    let down = patch.wire_node(
        format!("{name}.down"),
        DeviceSync::new(DeviceSyncKind::ToHost),
        &made,
    )?;
    patch.shunt_outside(model, node.id.into(), down[0])?;
    Ok(Some(patch))
}

/// The axis operations on the GPU before `node` copies a tensor to the host; `None` if it does not
/// copy one.
fn axis_ops_before_copy(node: &TypedNode) -> Option<&[GpuAxisOp]> {
    if is_sync(node, DeviceSyncKind::ToHost) {
        return Some(&[]);
    }
    let fused = node.op_as::<CudaFusedAxisOp>()?;
    let sync = fused.op.downcast_ref::<DeviceSync>()?;
    (sync.kind == DeviceSyncKind::ToHost)
        .then(|| fused.grouped_axis_ops.first().map_or(&[][..], |ops| ops))
}

fn is_sync(node: &TypedNode, kind: DeviceSyncKind) -> bool {
    node.op_as::<DeviceSync>()
        .is_some_and(|sync| sync.kind == kind)
}

/// The same graph with input and output in the GPU's memory; `None` if a part of it runs on the
/// host.
fn without_host(model: &TypedModel) -> TractResult<Option<TypedModel>> {
    let mut model = model.clone();
    let source = model.inputs[0];
    let syncs: Vec<InletId> = model.node(source.node).outputs[0].successors.to_vec();
    if !syncs
        .iter()
        .all(|s| is_sync(model.node(s.node), DeviceSyncKind::ToDevice))
    {
        return Ok(None);
    }
    let fact = DeviceFact::from_host(model.outlet_fact(source)?.clone())?.into_exotic_fact();
    model.node_mut(source.node).op = Box::new(TypedSource::new(fact.clone()));
    model.set_outlet_fact(source, fact)?;
    for sync in syncs {
        for reader in model.node(sync.node).outputs[0].successors.clone() {
            model.add_edge(source, reader)?;
        }
    }
    let mut outputs = Vec::new();
    for output in model.outputs.clone() {
        let node = model.node(output.node);
        if !is_sync(node, DeviceSyncKind::ToHost) {
            return Ok(None);
        }
        outputs.push(node.inputs[0]);
    }
    model.select_output_outlets(&outputs)?;
    model.compact()?;
    let on_device = |node: &TypedNode| {
        node.op_is::<Const>()
            || node
                .outputs
                .iter()
                .all(|o| o.fact.as_device_fact().is_some())
    };
    Ok(model.nodes().iter().all(on_device).then_some(model))
}
