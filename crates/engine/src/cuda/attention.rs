//! Attention on the GPU.

use super::library::{Arg, Library, address, int};
use crate::spec::AttentionSpec;
use cudarc::driver::LaunchConfig;
use tract_gpu::tensor::DeviceTensor;
use tract_onnx::prelude::{DatumType, TractResult};
use tract_onnx::tract_hir::internal::{bail, ensure};

/// One of q, k, v and the output.
struct Operand {
    pointer: u64,
    batch: usize,
    rows: usize,
    stride: usize,
}

impl Operand {
    /// A sequence `[batch, rows, stride]`, or `[batch, stride]` with one row for each image, whose
    /// heads begin at `column`.
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

/// `output [batch, queries, heads · depth]` of the inputs q, k and v.
pub(super) fn attention(
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
        "attention takes q, k and v of the same batch, and k and v of the same length"
    );
    ensure!(
        ends && k.rows > 0,
        "attention takes heads that lie within their rows, and at least one key"
    );
    launch(library, spec, &[q, k, v, out], output.datum_type())
}

/// Launches the kernel on the matrix unit if it can take the operands, or else the one for any depth
/// and type.
fn launch(
    library: &Library,
    spec: &AttentionSpec,
    [q, k, v, out]: &[Operand; 4],
    dt: DatumType,
) -> TractResult<()> {
    let tiles = dt == DatumType::F16
        && library.has_tiles(spec.depth)
        && [q, k, v, out].into_iter().all(Operand::is_aligned);
    let (queries_of_block, threads) = if tiles { (64, 128) } else { (4, 128) };
    let shared = if tiles {
        0
    } else {
        4 * (k.rows + spec.depth) * size_of::<f32>()
    };
    ensure!(
        shared <= 48 << 10,
        "attention over {} keys does not fit the shared memory of a GPU's block",
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
    args.extend([q, k, v, out].into_iter().flat_map(Operand::strides));
    args.push(Arg::Float(spec.scale));
    let (kernel, dt) = if tiles {
        ("attention_tiles", None)
    } else {
        ("attention", Some(dt))
    };
    library.launch(kernel, dt, config, &args)
}
