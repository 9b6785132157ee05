//! From tract's typed graph to one that runs on the GPU.

use super::ops::{DeviceOp, Operator, Shared, Step};
use constancy_kernels::Activation;
use std::sync::Arc;
use tract_cuda::CudaTransform;
use tract_gpu::fact::{DeviceFact, DeviceTypedFactExt};
use tract_gpu::rewrite_rules::rewire_syncs::rewire_syncs;
use tract_gpu::sync::{DeviceSync, DeviceSyncKind};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::floats::FloatPrecisionTranslator;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::nn::GeluExact;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_core::transform::ModelTransform;

/// A graph that computes in `dt`, and whether it takes and gives tensors that are on the GPU, with nothing of it left
/// on the host.
pub(super) struct Transformed {
    pub(super) model: TypedModel,
    pub(super) on_device: bool,
}

/// `ours` stand in for what tract-cuda has no kernel for.
pub(super) fn transform(
    mut model: TypedModel,
    dt: DatumType,
    ours: &Option<Arc<Shared>>,
) -> TractResult<Transformed> {
    if dt == DatumType::F16 {
        FloatPrecisionTranslator::new(DatumType::F32, DatumType::F16).transform(&mut model)?;
    }
    let mut model = model.into_decluttered()?;
    Rewriter::default().with_rule_for("constancy-gelu", gelu).rewrite(ours, &mut model)?;
    CudaTransform.transform(&mut model)?;
    Rewriter::default().with_rule_for("constancy-to-device", move_to_device).rewrite(&(), &mut model)?;
    rewire_syncs(&mut model)?;
    model.optimize()?;
    let on_device = host_free(&model)?;
    Ok(match on_device {
        Some(model) => Transformed { model, on_device: true },
        None => Transformed { model, on_device: false },
    })
}

/// tract-cuda leaves the exact GELU on the host.
fn gelu(
    ours: &Option<Arc<Shared>>,
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &ElementWiseOp,
) -> TractResult<Option<TypedModelPatch>> {
    let (Some(shared), true) = (ours, op.0.is::<GeluExact>()) else { return Ok(None) };
    let step = Step::Activate { bias: None, activation: Activation::Gelu };
    let ours = DeviceOp(Arc::new(Operator { step, shared: Arc::clone(shared) }));
    Ok(Some(TypedModelPatch::replace_single_op(model, node, &node.inputs, ours)?.with_context(name)))
}

/// tract leaves operators that it does not know on the host, between copies; ours take and give device tensors.
fn move_to_device(
    _ctx: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &DeviceOp,
) -> TractResult<Option<TypedModelPatch>> {
    if model.node_input_facts(node.id)?.iter().all(|f| f.as_device_fact().is_some()) {
        return Ok(None);
    }
    let mut patch = TypedModelPatch::default();
    let mut inputs: TVec<OutletId> = tvec![];
    for (i, &input) in node.inputs.iter().enumerate() {
        let from = model.node(input.node);
        inputs.push(if is_sync(from, DeviceSyncKind::ToHost) {
            patch.tap_model(model, from.inputs[0])?
        } else {
            let host = patch.tap_model(model, input)?;
            patch.wire_node(format!("{name}.up-{i}"), DeviceSync::new(DeviceSyncKind::ToDevice), &[host])?[0]
        });
    }
    let made = patch.wire_node(format!("{name}.gpu"), op.clone(), &inputs)?;
    let down = patch.wire_node(format!("{name}.down"), DeviceSync::new(DeviceSyncKind::ToHost), &made)?;
    patch.shunt_outside(model, node.id.into(), down[0])?;
    Ok(Some(patch))
}

fn is_sync(node: &TypedNode, kind: DeviceSyncKind) -> bool {
    node.op_as::<DeviceSync>().is_some_and(|sync| sync.kind == kind)
}

/// The same graph from device tensors to device tensors; `None` where a part of it runs on the host.
fn host_free(model: &TypedModel) -> TractResult<Option<TypedModel>> {
    let mut model = model.clone();
    let source = model.inputs[0];
    let syncs: Vec<InletId> = model.node(source.node).outputs[0].successors.to_vec();
    if !syncs.iter().all(|s| is_sync(model.node(s.node), DeviceSyncKind::ToDevice)) {
        return Ok(None);
    }
    let fact = DeviceFact::from_host(model.outlet_fact(source)?.clone())?.into_exotic_fact();
    model.node_mut(source.node).op = Box::new(TypedSource::new(fact.clone()));
    model.set_outlet_fact(source, fact)?;
    for sync in syncs {
        for reader in model.node(sync.node).outputs[0].successors.to_vec() {
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
        node.op_is::<Const>() || node.outputs.iter().all(|o| o.fact.as_device_fact().is_some())
    };
    Ok(model.nodes().iter().all(on_device).then_some(model))
}
