//! [`FusedOp`]: an operator in tract's typed graph, which is the graph that runs.

use super::operator::Operator;
use std::sync::Arc;
use tract_onnx::prelude::*;
#[allow(clippy::wildcard_imports, reason = "tract's macros and traits")]
use tract_onnx::tract_hir::internal::*;

/// A fused operator in tract's typed graph.
#[derive(Clone)]
pub(crate) struct FusedOp(pub(crate) Arc<Operator>);

impl std::fmt::Debug for FusedOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "fused {}", self.0.kind())
    }
}

impl PartialEq for FusedOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for FusedOp {}

impl Op for FusedOp {
    fn name(&self) -> StaticName {
        format!("Fused{}", self.0.kind()).into()
    }

    op_as_typed_op!();
}

impl EvalOp for FusedOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(self.0.eval(&inputs)?.into_tvalue()))
    }
}

impl TypedOp for FusedOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = inputs[0]
            .shape
            .as_concrete()
            .context("fused operators need concrete shapes")?;
        Ok(tvec!(f32::fact(self.0.output_shape(shape))))
    }

    as_op!();
}
