//! The fused operators on the GPU, as tract runs them: [`DeviceOp`] computes on tensors in the
//! GPU's memory.
//!
//! In the typed graph they are host operators at first. [`super::transform`] has tract translate
//! the other operators and then also moves ours to the GPU.

use super::attention::attention;
use super::blas::{Blas, Operands, Product, Shape};
use super::convolution::{Convolution, Pointwise};
use super::library::{Arg, Library, activation_code, address, int, thread_per_value};
use crate::ops::with_last_axis;
use crate::spec::{AttentionSpec, Patches};
use constancy_kernels::Activation;
use cudarc::driver::LaunchConfig;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tract_gpu::tensor::{DeviceTensor, DeviceTensorExt};
use tract_gpu::turn_handler::make_tensor_for_node;
use tract_onnx::prelude::*;
#[allow(clippy::wildcard_imports, reason = "tract's macros and traits")]
use tract_onnx::tract_hir::internal::*;

/// Limit of the values of a tensor, and thus of the threads of a launch.
const MAX_VALUES: usize = i32::MAX as usize;

/// Number of fp16 values that a thread of a `_wide` kernel loads at once.
const WIDE: usize = 8;
/// The longest row that a warp keeps in registers.
const MAX_WIDE_ROW: usize = 1024;

/// The kernels and the products that all operators of a tower share.
pub(super) struct Shared {
    pub(super) library: Library,
    pub(super) blas: Blas,
}

impl Shared {
    /// For a tower with attention heads of `depth`, if it has any.
    pub(super) fn new(depth: Option<usize>) -> TractResult<Self> {
        Ok(Self {
            library: Library::compile(depth)?,
            blas: Blas::new()?,
        })
    }
}

/// One step of a fused node. Its weights are in the GPU's memory.
pub(super) enum Step {
    /// `[B, C, H, W]` to `[B, patches, C · size²]`.
    Patches(Patches),
    /// Normalises the last axis; gain and shift are f32.
    Norm {
        gain: DeviceTensor,
        shift: DeviceTensor,
        epsilon: f32,
    },
    Linear(Linear),
    /// `y = activation(x + bias) + residual`; each value of the bias is added to `run` consecutive
    /// values.
    Activate {
        bias: Option<DeviceTensor>,
        run: usize,
        activation: Activation,
    },
    Conv(Convolution),
    Pointwise(Pointwise),
    Attention(AttentionSpec),
}

impl Step {
    /// The same step followed by `activation`, if it can include one.
    pub(super) fn with_activation(&self, activation: Activation) -> Option<Self> {
        match self {
            Self::Conv(conv) if conv.activation == Activation::None => {
                Some(Self::Conv(conv.with_activation(activation)))
            }
            Self::Activate {
                bias,
                run,
                activation: Activation::None,
            } => Some(Self::Activate {
                bias: bias.clone(),
                run: *run,
                activation,
            }),
            _ => None,
        }
    }
}

/// `y = x · wᵀ + bias + residual`.
pub(super) struct Linear {
    /// `[columns, depth]`.
    pub(super) weights: DeviceTensor,
    pub(super) bias: Option<DeviceTensor>,
    /// One for each number of rows so far.
    pub(super) products: Mutex<HashMap<usize, Arc<Product>>>,
}

/// A step that can run.
pub(super) struct Operator {
    pub(super) step: Step,
    pub(super) shared: Arc<Shared>,
}

/// An operator in tract's typed graph.
#[derive(Clone)]
pub(super) struct DeviceOp(pub(super) Arc<Operator>);

impl std::fmt::Debug for DeviceOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GPU {}", self.0.kind())
    }
}

impl PartialEq for DeviceOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for DeviceOp {}

impl Op for DeviceOp {
    fn name(&self) -> StaticName {
        format!("Gpu{}", self.0.kind()).into()
    }

    op_as_typed_op!();
}

impl EvalOp for DeviceOp {
    not_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let inputs = inputs
            .iter()
            .map(|t| t.to_device_tensor())
            .collect::<TractResult<TVec<_>>>()?;
        let shape = self.0.output_shape(inputs[0].shape());
        let output = make_tensor_for_node(ctx, inputs[0].datum_type(), &shape)?;
        ensure!(
            inputs.iter().all(|t| t.len() <= MAX_VALUES) && output.len() <= MAX_VALUES,
            "tensors of at most 2³¹ values"
        );
        self.0.run(&inputs, &output)?;
        Ok(tvec!(output.into_tensor().into_tvalue()))
    }
}

impl TypedOp for DeviceOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        tract_gpu::utils::facts_to_device_facts(inputs, |facts| {
            let shape = facts[0]
                .shape
                .as_concrete()
                .context("fused operators need concrete shapes")?;
            Ok(tvec!(facts[0].datum_type.fact(self.0.output_shape(shape))))
        })
    }

    as_op!();
}

impl Operator {
    pub(super) fn kind(&self) -> &'static str {
        match &self.step {
            Step::Patches(_) => "patches",
            Step::Norm { .. } => "norm",
            Step::Linear(_) => "linear",
            Step::Activate { .. } => "activation",
            Step::Conv(_) => "conv",
            Step::Pointwise(_) => "mix",
            Step::Attention(_) => "attention",
        }
    }

    fn output_shape(&self, input: &[usize]) -> TVec<usize> {
        match &self.step {
            Step::Patches(p) => {
                let batch = input.first().copied().unwrap_or(1);
                tvec![batch, p.rows * p.columns, p.channels * p.size * p.size]
            }
            Step::Norm { .. } | Step::Activate { .. } => input.into(),
            Step::Linear(linear) => with_last_axis(input, linear.weights.shape()[0]),
            Step::Attention(spec) => with_last_axis(input, spec.heads * spec.depth),
            Step::Conv(conv) => conv.output_shape(input),
            Step::Pointwise(conv) => conv.output_shape(input),
        }
    }

    fn run(&self, inputs: &[&DeviceTensor], output: &DeviceTensor) -> TractResult<()> {
        let library = &self.shared.library;
        let x = inputs[0];
        match &self.step {
            Step::Patches(p) => {
                let count = u32::try_from(output.len())?;
                let mut args = vec![Arg::Pointer(address(x)?), Arg::Pointer(address(output)?)];
                args.extend([p.channels, p.size, p.rows, p.columns].map(int));
                args.push(Arg::Count(count));
                library.launch(
                    "patches",
                    Some(output.datum_type()),
                    thread_per_value(count),
                    &args,
                )
            }
            Step::Norm {
                gain,
                shift,
                epsilon,
            } => norm(library, [gain, shift], *epsilon, x, output),
            Step::Linear(linear) => linear.run(&self.shared.blas, inputs, output),
            Step::Activate {
                bias,
                run,
                activation,
            } => activate(library, (bias.as_ref(), *run), *activation, inputs, output),
            Step::Attention(spec) => attention(library, spec, inputs, output),
            Step::Conv(conv) => conv.run(library, x, output),
            Step::Pointwise(conv) => conv.run(&self.shared.blas, x, output),
        }
    }
}

/// Normalises rows; gain and shift are f32 and as long as a row.
fn norm(
    library: &Library,
    [gain, shift]: [&DeviceTensor; 2],
    epsilon: f32,
    x: &DeviceTensor,
    output: &DeviceTensor,
) -> TractResult<()> {
    let (width, dt) = (gain.len(), output.datum_type());
    ensure!(
        x.shape().last() == Some(&width),
        "a normalisation over {width} values got an input of shape {:?}",
        x.shape()
    );
    let rows = x.len() / width.max(1);
    let mut args: Vec<Arg> = [
        address(x)?,
        address(gain)?,
        address(shift)?,
        address(output)?,
    ]
    .map(Arg::Pointer)
    .into();
    args.extend([int(width), Arg::Float(epsilon)]);
    let blocks = |rows: usize, threads: u32| {
        let grid = u32::try_from(rows)?;
        TractResult::Ok(LaunchConfig {
            grid_dim: (grid, 1, 1),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: 0,
        })
    };
    if dt == DatumType::F16 && width % WIDE == 0 && width <= MAX_WIDE_ROW {
        args.push(int(rows));
        return library.launch("norm_wide", None, blocks(rows.div_ceil(4), 128)?, &args);
    }
    let threads = u32::try_from(width.div_ceil(4).next_multiple_of(32).clamp(32, 256))?;
    library.launch("norm", Some(dt), blocks(rows, threads)?, &args)
}

/// Each value of the bias is added to `run` consecutive values.
fn activate(
    library: &Library,
    (bias, run): (Option<&DeviceTensor>, usize),
    activation: Activation,
    inputs: &[&DeviceTensor],
    output: &DeviceTensor,
) -> TractResult<()> {
    let (count, dt) = (u32::try_from(output.len())?, output.datum_type());
    let columns = bias.map_or(1, DeviceTensor::len);
    let together = if run == 1 { columns } else { run };
    let wide = (bias.is_none() || together % WIDE == 0) && output.len().is_multiple_of(WIDE);
    let residual = inputs.get(1).map_or(Ok(0), |t| address(t))?;
    let pointers = [
        address(inputs[0])?,
        bias.map_or(Ok(0), address)?,
        residual,
        address(output)?,
    ];
    let mut args: Vec<Arg> = pointers.map(Arg::Pointer).into();
    args.extend([
        int(columns),
        int(run),
        activation_code(activation),
        Arg::Count(count),
    ]);
    if dt == DatumType::F16 && wide {
        return library.launch(
            "activate_wide",
            None,
            thread_per_value(count.div_ceil(8)),
            &args,
        );
    }
    library.launch("activate", Some(dt), thread_per_value(count), &args)
}

impl Linear {
    fn run(&self, blas: &Blas, inputs: &[&DeviceTensor], output: &DeviceTensor) -> TractResult<()> {
        let &[columns, depth] = self.weights.shape() else {
            bail!("the weights of a product have two axes")
        };
        let x = inputs[0];
        ensure!(
            x.shape().last() == Some(&depth),
            "a product over {depth} values got an input of shape {:?}",
            x.shape()
        );
        let rows = x.len() / depth.max(1);
        let operands = Operands {
            x: address(x)?,
            w: address(&self.weights)?,
            bias: self.bias.as_ref().map_or(Ok(0), address)?,
            residual: inputs.get(1).map_or(Ok(0), |t| address(t))?,
            y: address(output)?,
        };
        let shape = Shape {
            rows,
            columns,
            depth,
            images: None,
            dt: output.datum_type(),
        };
        Product::of_shape(&self.products, rows, blas, shape, &operands)?.run(blas, &operands)
    }
}
