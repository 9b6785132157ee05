//! The fused operators on the GPU, as tract runs them: [`DeviceOp`] computes on tensors that are there already.
//!
//! They stand in the typed graph as host operators at first, until [`super::transform`] has tract translate the others
//! and moves ours beside them.

use super::blas::{Blas, Operands, Product, Shape};
use super::convolve::{Convolution, Mix};
use super::library::{Arg, Library, address, int, one_each};
use crate::ops::with_last;
use crate::rewrite::{AttentionSpec, Patches};
use constancy_kernels::Activation;
use cudarc::driver::LaunchConfig;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tract_gpu::tensor::{DeviceTensor, DeviceTensorExt};
use tract_gpu::turn_handler::make_tensor_for_node;
use tract_onnx::prelude::*;
#[allow(clippy::wildcard_imports, reason = "tract's macros and traits")]
use tract_onnx::tract_hir::internal::*;

/// Values of a tensor, and thus threads of a launch.
const MOST: usize = i32::MAX as usize;

/// Halves that a thread takes at a time, and the longest row that a warp keeps.
const WIDE: usize = 8;
const MOST_WIDE: usize = 1024;

/// What every operator of a tower launches.
pub(super) struct Shared {
    pub(super) library: Library,
    pub(super) blas: Blas,
}

impl Shared {
    /// For a tower whose attention heads have `depth`.
    pub(super) fn new(depth: Option<usize>) -> TractResult<Self> {
        Ok(Self {
            library: Library::compile(depth)?,
            blas: Blas::new()?,
        })
    }
}

/// One step; what has weights keeps them on the GPU.
pub(super) enum Step {
    /// `[B, C, H, W]` to `[B, patches, C · size²]`.
    Patches(Patches),
    /// Over the last axis; gain and shift are f32.
    Norm {
        gain: DeviceTensor,
        shift: DeviceTensor,
        epsilon: f32,
    },
    Linear(Linear),
    /// `y = activation(x + bias) + residual`; a bias is for `run` values that follow each other.
    Activate {
        bias: Option<DeviceTensor>,
        run: usize,
        activation: Activation,
    },
    Conv(Convolution),
    Mix(Mix),
    Attention(AttentionSpec),
}

impl Step {
    /// The same step with an activation after it, if it can take one.
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
    /// One for each number of rows that was met.
    pub(super) products: Mutex<HashMap<usize, Arc<Product>>>,
}

/// A step with what it runs on.
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
            inputs.iter().all(|t| t.len() <= MOST) && output.len() <= MOST,
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
                .context("fused operators take shapes that are known")?;
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
            Step::Mix(_) => "mix",
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
            Step::Linear(linear) => with_last(input, linear.weights.shape()[0]),
            Step::Attention(spec) => with_last(input, spec.heads * spec.depth),
            Step::Conv(conv) => conv.output_shape(input),
            Step::Mix(mix) => mix.output_shape(input),
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
                library.launch("patches", Some(output.datum_type()), one_each(count), &args)
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
            Step::Mix(mix) => mix.run(&self.shared.blas, x, output),
        }
    }
}

/// Gain and shift are f32, and as long as a row.
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
        "a normalisation over {width} values got {:?}",
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
    if dt == DatumType::F16 && width % WIDE == 0 && width <= MOST_WIDE {
        args.push(int(rows));
        return library.launch("norm_wide", None, blocks(rows.div_ceil(4), 128)?, &args);
    }
    let threads = u32::try_from(width.div_ceil(4).next_multiple_of(32).clamp(32, 256))?;
    library.launch("norm", Some(dt), blocks(rows, threads)?, &args)
}

/// A value of the bias is for `run` values that follow each other.
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
    args.extend([int(columns), int(run), code(activation), Arg::Count(count)]);
    if dt == DatumType::F16 && wide {
        return library.launch("activate_wide", None, one_each(count.div_ceil(8)), &args);
    }
    library.launch("activate", Some(dt), one_each(count), &args)
}

/// As the kernels know it.
pub(super) fn code(activation: Activation) -> Arg {
    Arg::Int(match activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::QuickGelu => 2,
        Activation::Gelu => 3,
        Activation::GeluTanh => 4,
    })
}

impl Linear {
    fn run(&self, blas: &Blas, inputs: &[&DeviceTensor], output: &DeviceTensor) -> TractResult<()> {
        let &[columns, depth] = self.weights.shape() else {
            bail!("weights of two axes")
        };
        let x = inputs[0];
        ensure!(
            x.shape().last() == Some(&depth),
            "a product over {depth} values got {:?}",
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

/// One of q, k, v and the output.
struct Operand {
    pointer: u64,
    batch: usize,
    rows: usize,
    stride: usize,
}

impl Operand {
    /// A sequence `[batch, rows, stride]`, or one row of each image; the heads begin at a column.
    fn new(tensor: &DeviceTensor, column: usize) -> TractResult<Self> {
        let (batch, rows, stride) = match *tensor.shape() {
            [batch, rows, stride] => (batch, rows, stride),
            [batch, stride] => (batch, 1, stride),
            ref shape => bail!("attention takes sequences, got {shape:?}"),
        };
        let pointer = address(tensor)? + (column * tensor.datum_type().size_of()) as u64;
        Ok(Self {
            pointer,
            batch,
            rows,
            stride,
        })
    }

    fn strides(&self) -> [Arg; 2] {
        [int(self.stride), int(self.rows * self.stride)]
    }

    /// Whether rows begin at multiples of 16 bytes.
    fn is_aligned(&self) -> bool {
        self.stride.is_multiple_of(8) && self.pointer.is_multiple_of(16)
    }
}

fn attention(
    library: &Library,
    spec: &AttentionSpec,
    inputs: &[&DeviceTensor],
    output: &DeviceTensor,
) -> TractResult<()> {
    let &[q, k, v] = inputs else {
        bail!("attention takes q, k and v")
    };
    let width = spec.heads * spec.depth;
    let ends = [q, k, v]
        .into_iter()
        .zip(spec.offsets)
        .all(|(t, at)| t.shape().last().is_some_and(|&n| at + width <= n));
    let [q, k, v, out] = [
        Operand::new(q, spec.offsets[0])?,
        Operand::new(k, spec.offsets[1])?,
        Operand::new(v, spec.offsets[2])?,
        Operand::new(output, 0)?,
    ];
    ensure!(
        (k.batch, v.batch, k.rows) == (q.batch, q.batch, v.rows),
        "q, k and v of one batch, k and v of one length"
    );
    ensure!(ends && k.rows > 0, "heads within their rows");
    let tiles = output.datum_type() == DatumType::F16
        && library.has_tiles(spec.depth)
        && [&q, &k, &v, &out].into_iter().all(Operand::is_aligned);
    let (queries_of_block, threads) = if tiles { (64, 128) } else { (4, 128) };
    let shared = if tiles {
        0
    } else {
        4 * (k.rows + spec.depth) * size_of::<f32>()
    };
    ensure!(
        shared <= 48 << 10,
        "attention over {} keys is more than a GPU's block holds",
        k.rows
    );
    let grid = (q.rows.div_ceil(queries_of_block), spec.heads, q.batch);
    let config = LaunchConfig {
        grid_dim: (
            u32::try_from(grid.0)?,
            u32::try_from(grid.1)?,
            u32::try_from(grid.2)?,
        ),
        block_dim: (threads, 1, 1),
        shared_mem_bytes: u32::try_from(shared)?,
    };
    let mut args: Vec<Arg> = [q.pointer, k.pointer, v.pointer, out.pointer]
        .map(Arg::Pointer)
        .into();
    args.extend([int(q.rows), int(k.rows)]);
    args.extend((!tiles).then(|| int(spec.depth)));
    args.extend([&q, &k, &v, &out].into_iter().flat_map(Operand::strides));
    args.push(Arg::Float(spec.scale));
    let (kernel, dt) = if tiles {
        ("attention_tiles", None)
    } else {
        ("attention", Some(output.datum_type()))
    };
    library.launch(kernel, dt, config, &args)
}
