//! Attention over short sequences. A thread computes one head at a time; nothing is transposed in
//! memory but the keys of that head.

use super::scratch::with_floats;
use crate::runtime::Runtime;
use crate::spec::AttentionSpec;
use constancy_kernels::{AttentionArgs, SharedMut};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_hir::internal::{bail, ensure};

/// One of q, k and v: `[batch, rows, stride]`, with the heads side by side from a column on.
struct Operand<'a> {
    values: &'a [f32],
    rows: usize,
    stride: usize,
}

impl<'a> Operand<'a> {
    /// A sequence `[batch, rows, stride]`, or `[batch, stride]` with one row for each image; and
    /// the batch.
    fn new(shape: &[usize], values: &'a [f32]) -> TractResult<(Self, usize)> {
        match *shape {
            [batch, rows, stride] => Ok((
                Self {
                    values,
                    rows,
                    stride,
                },
                batch,
            )),
            [batch, stride] => Ok((
                Self {
                    values,
                    rows: 1,
                    stride,
                },
                batch,
            )),
            _ => bail!("attention takes sequences, got {shape:?}"),
        }
    }

    /// The first value of a head, which begins at `column`.
    fn head(&self, image: usize, column: usize) -> *const f32 {
        self.values[image * self.rows * self.stride + column..].as_ptr()
    }
}

/// The operands of one call, whose shapes fit together.
struct Operands<'a> {
    batch: usize,
    q: Operand<'a>,
    k: Operand<'a>,
    v: Operand<'a>,
}

impl<'a> Operands<'a> {
    fn new(spec: &AttentionSpec, shapes: &[&[usize]], inputs: &[&'a [f32]]) -> TractResult<Self> {
        ensure!(inputs.len() == 3, "attention takes q, k and v");
        let (q, batch) = Operand::new(shapes[0], inputs[0])?;
        let (k, k_batch) = Operand::new(shapes[1], inputs[1])?;
        let (v, v_batch) = Operand::new(shapes[2], inputs[2])?;
        ensure!(
            (k_batch, v_batch, k.rows) == (batch, batch, v.rows),
            "attention takes q, k and v of the same batch, and k and v of the same length"
        );
        let width = spec.heads * spec.depth;
        ensure!(
            [&q, &k, &v]
                .into_iter()
                .zip(spec.offsets)
                .all(|(o, offset)| offset + width <= o.stride),
            "attention takes heads that lie within their rows"
        );
        ensure!(k.rows > 0, "attention takes at least one key");
        Ok(Self { batch, q, k, v })
    }
}

/// `out [batch, queries, heads · depth]` of q, k and v. With `low_precision`, it may be less exact:
/// the products around it are in int8.
pub(super) fn attention(
    spec: &AttentionSpec,
    runtime: &Runtime,
    low_precision: bool,
    shapes: &[&[usize]],
    inputs: &[&[f32]],
    out: &mut [f32],
) -> TractResult<()> {
    let Operands { batch, q, k, v } = Operands::new(spec, shapes, inputs)?;
    let width = spec.heads * spec.depth;
    ensure!(
        out.len() == batch * q.rows * width,
        "attention gives a row of all heads for each query"
    );
    let kernels = runtime.kernels;
    let scratch = kernels.attention_scratch(k.rows, spec.depth);
    let kernel = if low_precision {
        kernels.low_precision_attention
    } else {
        kernels.attention
    };
    let out = SharedMut::new(out);
    runtime.pool.run(batch * spec.heads, &|task| {
        let (image, head) = (task / spec.heads, task % spec.heads);
        let column = head * spec.depth;
        with_floats(scratch, |scratch| {
            let args = AttentionArgs {
                queries: q.rows,
                keys: k.rows,
                depth: spec.depth,
                scale: spec.scale,
                q: q.head(image, spec.offsets[0] + column),
                q_stride: q.stride,
                k: k.head(image, spec.offsets[1] + column),
                k_stride: k.stride,
                v: v.head(image, spec.offsets[2] + column),
                v_stride: v.stride,
                out: out.at(image * q.rows * width + column),
                out_stride: width,
                scratch: scratch.as_mut_ptr(),
            };
            // SAFETY: the shapes were checked above, and every task writes the columns of its own
            // head.
            unsafe { kernel(&args) };
        });
    });
    Ok(())
}
