//! Attention over the heads of a short sequence, a head at a time per thread, nothing transposed in memory but the
//! keys of one head.

use super::Runtime;
use super::scratch::with_floats;
use crate::rewrite::AttentionSpec;
use constancy_kernels::{AttentionArgs, SharedMut};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_hir::internal::{bail, ensure};

/// One of q, k and v: `[batch, rows, stride]`, the heads from a column on.
struct Operand<'a> {
    values: &'a [f32],
    rows: usize,
    stride: usize,
}

impl<'a> Operand<'a> {
    /// A sequence, or one row of each image.
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

    fn head(&self, image: usize, column: usize) -> *const f32 {
        self.values[image * self.rows * self.stride + column..].as_ptr()
    }
}

/// `out [batch, queries, heads · depth]` of q, k and v; `rough` where the products around it are in bytes.
pub(super) fn attention(
    spec: &AttentionSpec,
    runtime: &Runtime,
    rough: bool,
    shapes: &[&[usize]],
    inputs: &[&[f32]],
    out: &mut [f32],
) -> TractResult<()> {
    ensure!(inputs.len() == 3, "attention takes q, k and v");
    let (q, batch) = Operand::new(shapes[0], inputs[0])?;
    let (k, k_batch) = Operand::new(shapes[1], inputs[1])?;
    let (v, v_batch) = Operand::new(shapes[2], inputs[2])?;
    let width = spec.heads * spec.depth;
    let reach = |o: &Operand<'_>, offset: usize| offset + width <= o.stride;
    ensure!(
        (k_batch, v_batch, k.rows) == (batch, batch, v.rows),
        "q, k and v of one batch, k and v of one length"
    );
    ensure!(
        [&q, &k, &v]
            .into_iter()
            .zip(spec.offsets)
            .all(|(o, at)| reach(o, at)),
        "heads within their rows"
    );
    ensure!(
        out.len() == batch * q.rows * width && k.rows > 0,
        "an output of the attention's shape"
    );
    let kernels = runtime.kernels;
    let scratch = kernels.attention_scratch(k.rows, spec.depth);
    let kernel = if rough {
        kernels.rough_attention
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
            // SAFETY: the shapes were checked above; every task writes the columns of its own head.
            unsafe { kernel(&args) };
        });
    });
    Ok(())
}
