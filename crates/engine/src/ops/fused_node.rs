//! [`FusedNode`]: an operator in tract's inference graph, whose shapes are still to be derived.

use super::fused_op::FusedOp;
use super::operator::Operator;
use crate::spec::Spec;
use std::sync::Arc;
use tract_onnx::prelude::*;
#[allow(clippy::wildcard_imports, reason = "tract's macros and traits")]
use tract_onnx::tract_hir::internal::*;

/// A fused operator in a graph that is still to be analysed: it gives the shape of its output, and
/// adds its operators to the typed graph once its weights are packed.
#[derive(Clone)]
pub(crate) struct FusedNode {
    shape: OutputShape,
    wire: Option<Wire>,
}

/// Adds the operators of a fused node to a typed graph; the last one gets the given name.
pub(crate) type Wire =
    Arc<dyn Fn(&str, &mut TypedModel, &[OutletId]) -> TractResult<TVec<OutletId>> + Send + Sync>;

/// How the shape of the output follows from the shape of the first input.
#[derive(Debug, Clone, Copy)]
enum OutputShape {
    Same,
    LastAxis(usize),
    Patches {
        count: usize,
        columns: usize,
    },
    /// Lines, columns and channels.
    Image(usize, usize, usize),
}

impl FusedNode {
    /// For the analysis of shapes alone: it cannot be added to a typed graph.
    pub(crate) fn placeholder(spec: &Spec) -> Box<dyn InferenceOp> {
        expand(Self {
            shape: OutputShape::of(spec),
            wire: None,
        })
    }

    /// Adds its operators with `wire`.
    pub(crate) fn wired(spec: &Spec, wire: Wire) -> Box<dyn InferenceOp> {
        expand(Self {
            shape: OutputShape::of(spec),
            wire: Some(wire),
        })
    }

    /// Adds `operator`.
    pub(crate) fn packed(spec: &Spec, operator: Arc<Operator>) -> Box<dyn InferenceOp> {
        let op = FusedOp(operator);
        Self::wired(
            spec,
            Arc::new(move |prefix, model, inputs| model.wire_node(prefix, op.clone(), inputs)),
        )
    }
}

impl OutputShape {
    fn of(spec: &Spec) -> Self {
        match spec {
            Spec::Linear(l) => match (l.patches, l.window) {
                (Some(p), _) => Self::Patches {
                    count: p.rows * p.columns,
                    columns: l.columns,
                },
                (None, Some(w)) => Self::Image(w.out.0, w.out.1, l.columns),
                (None, None) => Self::LastAxis(l.columns),
            },
            Spec::Depthwise(d) => {
                let window = &d.window;
                Self::Image(window.out.0, window.out.1, window.channels * d.filters)
            }
            Spec::Pool(p) => {
                let window = p.window();
                Self::Image(window.out.0, window.out.1, window.channels)
            }
            Spec::Attention(a) => Self::LastAxis(a.heads * a.depth),
            Spec::Norm(_) | Spec::Round(_) | Spec::Finish(_) | Spec::Convolution(_) => Self::Same,
        }
    }
}

impl std::fmt::Debug for FusedNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "fused node {:?}", self.shape)
    }
}

impl Expansion for FusedNode {
    fn name(&self) -> StaticName {
        "Fused".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        s.equals(&inputs[0].datum_type, f32::datum_type())?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.given(&inputs[0].shape, move |s, mut shape| {
            match self.shape {
                OutputShape::Same => {}
                OutputShape::LastAxis(last) => {
                    let axis = shape
                        .last_mut()
                        .context("a product needs an input of rows")?;
                    *axis = last.to_dim();
                }
                OutputShape::Image(lines, columns, channels) => {
                    shape = tvec![
                        shape[0].clone(),
                        lines.to_dim(),
                        columns.to_dim(),
                        channels.to_dim()
                    ];
                }
                OutputShape::Patches { count, columns } => {
                    shape = tvec![shape[0].clone(), count.to_dim(), columns.to_dim()];
                }
            }
            s.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        self.wire.as_ref().context("a placeholder cannot run")?(prefix, model, inputs)
    }

    fn runs_out_of_plan(&self) -> bool {
        false
    }
}
