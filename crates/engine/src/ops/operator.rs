//! [`Operator`]: a fused operator with its packed weights.

use super::attention::attention;
use super::depthwise::Depthwise;
use super::linear::Linear;
use super::norm::normalise;
use super::pixels::{finish, pool};
use super::shape::{image_shape, with_last_axis};
use super::weights::PackError;
use crate::precision::Precision;
use crate::runtime::Runtime;
use crate::spec::{AttentionSpec, FinishSpec, Grid, NormSpec, PoolSpec, Spec, Specs};
use std::collections::HashMap;
use std::sync::Arc;
use tract_onnx::prelude::{PlainView, *};

/// A fused operator with its packed weights.
pub(crate) enum Operator {
    Linear(Box<Linear>),
    Attention {
        spec: AttentionSpec,
        runtime: Arc<Runtime>,
        /// Whether the products around it are in int8: it may then also be less exact where that is
        /// faster.
        low_precision: bool,
    },
    Norm(NormSpec, Arc<Runtime>),
    Round(Grid),
    Depthwise(Box<Depthwise>),
    Pool(PoolSpec, Arc<Runtime>),
    Finish(FinishSpec, Arc<Runtime>),
}

/// Fewest channels of a convolution in int8.
pub(crate) const SHALLOW: usize = 8;

/// The operators of a graph, by the name of their output.
pub(crate) type Operators = HashMap<String, Arc<Operator>>;

/// Packs the weights of every spec. If all products of a tower are in int8, so is its patch
/// embedding.
pub(crate) fn pack(
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
    let all_int8 =
        products().next().is_some() && products().all(|linear| precision.is_int8(linear));
    let mut names: Vec<&String> = specs.keys().collect();
    names.sort();
    names
        .into_iter()
        .filter_map(|name| {
            let operator = match &specs[name] {
                Spec::Linear(spec) => {
                    let patches = spec.patches.is_some() && spec.grid.is_none();
                    // Windows of few channels, as of an image's colours, take longer to quantise than to multiply.
                    let shallow = spec.window.is_some_and(|w| w.channels < SHALLOW);
                    let int8 = precision.is_int8(spec) && !shallow || all_int8 && patches;
                    match Linear::new(name, spec, runtime, int8) {
                        Ok(linear) => Operator::Linear(Box::new(linear)),
                        Err(e) => return Some(Err(e)),
                    }
                }
                Spec::Attention(spec) => Operator::Attention {
                    spec: spec.clone(),
                    runtime: Arc::clone(runtime),
                    low_precision: all_int8,
                },
                Spec::Norm(spec) => Operator::Norm(spec.clone(), Arc::clone(runtime)),
                Spec::Round(grid) => Operator::Round(*grid),
                Spec::Depthwise(spec) => {
                    Operator::Depthwise(Box::new(Depthwise::new(spec, runtime)))
                }
                Spec::Pool(spec) => Operator::Pool(*spec, Arc::clone(runtime)),
                Spec::Finish(spec) => Operator::Finish(*spec, Arc::clone(runtime)),
                Spec::Convolution(_) => return None,
            };
            Some(Ok((name.clone(), Arc::new(operator))))
        })
        .collect()
}

impl Operator {
    /// As profiles name it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Linear(linear) => linear.kind(),
            Self::Attention { .. } => "attention",
            Self::Norm(..) => "norm",
            Self::Round(_) => "rounding",
            Self::Depthwise(_) => "depthwise",
            Self::Pool(..) => "pooling",
            Self::Finish(..) => "elementwise",
        }
    }

    /// Whether it multiplies in int8.
    pub(crate) fn is_int8(&self) -> bool {
        matches!(self, Self::Linear(linear) if linear.is_int8())
    }

    /// Memory that the weights take.
    pub(crate) fn weight_bytes(&self) -> usize {
        match self {
            Self::Linear(linear) => linear.weight_bytes(),
            Self::Depthwise(depthwise) => depthwise.weight_bytes(),
            Self::Attention { .. } | Self::Round(_) | Self::Pool(..) | Self::Finish(..) => 0,
            Self::Norm(norm, _) => (norm.gain.len() + norm.shift.len()) * size_of::<f32>(),
        }
    }

    pub(crate) fn eval(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let views = inputs
            .iter()
            .map(|t| t.try_as_plain_ram())
            .collect::<TractResult<TVec<_>>>()?;
        let slices = views
            .iter()
            .map(PlainView::as_slice::<f32>)
            .collect::<TractResult<TVec<&[f32]>>>()?;
        let shapes: TVec<&[usize]> = inputs.iter().map(|t| t.shape()).collect();
        // SAFETY: f32 has no invalid values, and each operator writes all of its output. Zeroing
        // the output first would cost 2 % of a tower's time.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&self.output_shape(shapes[0]))? };
        let mut plain = output.try_as_plain_ram_mut()?;
        let out = plain.as_slice_mut::<f32>()?;
        match self {
            Self::Linear(linear) => linear.run(slices[0], slices.get(1).copied(), out),
            Self::Attention {
                spec,
                runtime,
                low_precision,
            } => attention(spec, runtime, *low_precision, &shapes, &slices, out)?,
            Self::Norm(spec, runtime) => normalise(spec, runtime, shapes[0], slices[0], out)?,
            Self::Depthwise(depthwise) => depthwise.run(slices[0], slices.get(1).copied(), out),
            Self::Pool(spec, runtime) => pool(spec, runtime, slices[0], out)?,
            Self::Finish(spec, runtime) => finish(spec, runtime, shapes[0], &slices, out)?,
            Self::Round(grid) => {
                for (y, &x) in out.iter_mut().zip(slices[0]) {
                    *y = grid.round(x);
                }
            }
        }
        Ok(output)
    }

    pub(super) fn output_shape(&self, input: &[usize]) -> TVec<usize> {
        match self {
            Self::Linear(linear) => linear.output_shape(input),
            Self::Attention { spec, .. } => with_last_axis(input, spec.heads * spec.depth),
            Self::Norm(..) | Self::Round(_) | Self::Finish(..) => input.into(),
            Self::Depthwise(depthwise) => image_shape(input, depthwise.output()),
            Self::Pool(spec, _) => {
                let window = spec.window();
                image_shape(input, (window.out.0, window.out.1, window.channels))
            }
        }
    }
}
