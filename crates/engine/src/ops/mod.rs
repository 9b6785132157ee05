//! The fused operators, as tract runs them.
//!
//! [`Operator`] computes; [`FusedOp`] is what stands for it in tract's typed graph, and [`FusedNode`] in the graph
//! that is still to be analysed. Operators of one tower share a [`Runtime`]: the machine's kernels and the threads.

mod attention;
mod linear;
mod scratch;
mod weights;

pub(super) use linear::Linear;
pub(super) use weights::PackError;
pub use weights::Precision;
#[cfg(feature = "gpu")]
pub(super) use weights::dense;

use super::rewrite::{AttentionSpec, NormSpec, Spec, Specs};
use attention::attention;
use constancy_kernels::{Kernels, NormArgs, Pool};
use std::collections::HashMap;
use std::sync::Arc;
use tract_onnx::prelude::{PlainView, *};
#[allow(clippy::wildcard_imports, reason = "tract's macros and traits")]
use tract_onnx::tract_hir::internal::*;

/// What the operators of a tower run on.
pub(super) struct Runtime {
    pub(super) kernels: &'static Kernels,
    pub(super) pool: Pool,
}

/// A fused operator with its weights.
pub(super) enum Operator {
    Linear(Box<Linear>),
    Attention {
        spec: AttentionSpec,
        runtime: Arc<Runtime>,
        rough: bool,
    },
    Norm(NormSpec, Arc<Runtime>),
}

/// The operators of a graph, by the value that they make.
pub(super) type Operators = HashMap<String, Arc<Operator>>;

/// Packs the weights of every spec. A tower whose products are all in bytes embeds its patches in bytes, too.
pub(super) fn pack(
    specs: &Specs,
    runtime: &Arc<Runtime>,
    precision: Precision,
) -> Result<Operators, PackError> {
    let products = || {
        specs
            .values()
            .filter_map(Spec::linear)
            .filter(|linear| linear.patches.is_none())
    };
    let bytes = products().next().is_some() && products().all(|linear| precision.is_bytes(linear));
    let mut names: Vec<&String> = specs.keys().collect();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let operator = match &specs[name] {
                Spec::Linear(spec) => {
                    let bytes = precision.is_bytes(spec) || bytes && spec.patches.is_some();
                    Operator::Linear(Box::new(Linear::new(name, spec, runtime, bytes)?))
                }
                Spec::Attention(spec) => Operator::Attention {
                    spec: spec.clone(),
                    runtime: Arc::clone(runtime),
                    rough: bytes,
                },
                Spec::Norm(spec) => Operator::Norm(spec.clone(), Arc::clone(runtime)),
            };
            Ok((name.clone(), Arc::new(operator)))
        })
        .collect()
}

impl Operator {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Linear(linear) => linear.kind(),
            Self::Attention { .. } => "attention",
            Self::Norm(..) => "norm",
        }
    }

    /// Bytes of weights in memory.
    pub(super) fn weight_bytes(&self) -> usize {
        match self {
            Self::Linear(linear) => linear.weight_bytes(),
            Self::Attention { .. } => 0,
            Self::Norm(norm, _) => (norm.gain.len() + norm.shift.len()) * size_of::<f32>(),
        }
    }

    pub(super) fn eval(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let views = inputs
            .iter()
            .map(|t| t.try_as_plain_ram())
            .collect::<TractResult<TVec<_>>>()?;
        let slices = views
            .iter()
            .map(PlainView::as_slice::<f32>)
            .collect::<TractResult<TVec<&[f32]>>>()?;
        let shapes: TVec<&[usize]> = inputs.iter().map(|t| t.shape()).collect();
        // SAFETY: f32 has no invalid values, and each operator writes all of its output. Zeroing it first costs 2 % of
        // a tower.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&self.output_shape(shapes[0]))? };
        let mut plain = output.try_as_plain_ram_mut()?;
        let out = plain.as_slice_mut::<f32>()?;
        match self {
            Self::Linear(linear) => linear.run(slices[0], slices.get(1).copied(), out),
            Self::Attention {
                spec,
                runtime,
                rough,
            } => attention(spec, runtime, *rough, &shapes, &slices, out)?,
            Self::Norm(spec, runtime) => {
                let args = spec.args();
                let width = spec.gain.len();
                ensure!(
                    shapes[0].last() == Some(&width),
                    "a normalisation over {width} values got {:?}",
                    shapes[0]
                );
                for (x, y) in slices[0]
                    .chunks_exact(width)
                    .zip(out.chunks_exact_mut(width))
                {
                    runtime.kernels.layer_norm(x, y, &args);
                }
            }
        }
        Ok(output)
    }

    fn output_shape(&self, input: &[usize]) -> TVec<usize> {
        match self {
            Self::Linear(linear) => linear.output_shape(input),
            Self::Attention { spec, .. } => with_last(input, spec.heads * spec.depth),
            Self::Norm(..) => input.into(),
        }
    }
}

pub(super) fn with_last(shape: &[usize], last: usize) -> TVec<usize> {
    let mut shape: TVec<usize> = shape.into();
    if let Some(axis) = shape.last_mut() {
        *axis = last;
    }
    shape
}

impl NormSpec {
    pub(super) fn args(&self) -> NormArgs<'_> {
        NormArgs {
            gain: &self.gain,
            shift: &self.shift,
            epsilon: self.epsilon,
        }
    }
}

/// A fused operator in tract's typed graph.
#[derive(Clone)]
pub(super) struct FusedOp(pub(super) Arc<Operator>);

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
            .context("fused operators take shapes that are known")?;
        Ok(tvec!(f32::fact(self.0.output_shape(shape))))
    }

    as_op!();
}

/// A fused operator in a graph that is to be analysed: its shape, and what it becomes in the typed graph once its
/// weights are packed.
#[derive(Clone)]
pub(super) struct FusedNode {
    shape: OutputShape,
    wire: Option<Wire>,
}

/// Adds a fused node's operators to a typed graph, the last of them under the name that is given.
pub(super) type Wire =
    Arc<dyn Fn(&str, &mut TypedModel, &[OutletId]) -> TractResult<TVec<OutletId>> + Send + Sync>;

/// How an output's shape follows from the first input's.
#[derive(Debug, Clone, Copy)]
enum OutputShape {
    Same,
    LastAxis(usize),
    Patches { count: usize, columns: usize },
}

impl FusedNode {
    /// Stands for a spec whose weights are still in the file.
    pub(super) fn placeholder(spec: &Spec) -> Box<dyn InferenceOp> {
        expand(Self {
            shape: OutputShape::of(spec),
            wire: None,
        })
    }

    pub(super) fn wired(spec: &Spec, wire: Wire) -> Box<dyn InferenceOp> {
        expand(Self {
            shape: OutputShape::of(spec),
            wire: Some(wire),
        })
    }

    pub(super) fn packed(spec: &Spec, operator: Arc<Operator>) -> Box<dyn InferenceOp> {
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
            Spec::Linear(l) => match l.patches {
                Some(p) => Self::Patches {
                    count: p.rows * p.columns,
                    columns: l.columns,
                },
                None => Self::LastAxis(l.columns),
            },
            Spec::Attention(a) => Self::LastAxis(a.heads * a.depth),
            Spec::Norm(_) => Self::Same,
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
                    let axis = shape.last_mut().context("a product takes rows")?;
                    *axis = last.to_dim();
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
        self.wire.as_ref().context("only packed operators run")?(prefix, model, inputs)
    }

    fn runs_out_of_plan(&self) -> bool {
        false
    }
}
