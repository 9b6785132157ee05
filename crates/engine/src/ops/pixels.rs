//! Pooling of images `[B, H, W, C]`, and what scales, activates and adds them.

use super::window::with_source;
use crate::runtime::Runtime;
use crate::spec::{FinishSpec, PoolSpec, Window};
use constancy_kernels::{Activation, FinishArgs, Kernels, PoolArgs, SharedMut};
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_hir::internal::ensure;

/// Pixels that one task finishes.
const PIXELS_PER_TASK: usize = 128;

pub(super) fn pool(
    spec: &PoolSpec,
    runtime: &Runtime,
    x: &[f32],
    out: &mut [f32],
) -> TractResult<()> {
    let window = spec.window();
    let image = window.height * window.width * window.channels;
    let pooled = window.out.0 * window.out.1 * window.channels;
    ensure!(
        image > 0 && x.len().is_multiple_of(image) && x.len() / image * pooled == out.len(),
        "pooling takes images of {} × {} with {} channels",
        window.height,
        window.width,
        window.channels
    );
    match spec {
        PoolSpec::Max(window) => max_pool(window, runtime, x, out),
        PoolSpec::Mean(window) => {
            for (image, out) in x.chunks_exact(image).zip(out.chunks_exact_mut(pooled)) {
                runtime.kernels.mean(image, window.channels, out);
            }
        }
    }
    Ok(())
}

fn max_pool(window: &Window, runtime: &Runtime, x: &[f32], out: &mut [f32]) {
    let line = window.out.1 * window.channels;
    let lines = out.len() / line.max(1);
    let out = SharedMut::new(out);
    let pool = &runtime.pool;
    with_source(window, pool, x, f32::NEG_INFINITY, |source| {
        pool.run(lines, &|l| {
            let args = PoolArgs {
                pixels: window.out.1,
                channels: window.channels,
                window: window.size,
                stride: window.stride,
                input: source.at(l / window.out.0, l % window.out.0),
                pixel_stride: source.pixel,
                line_stride: source.line,
                out: out.at(l * line),
            };
            // SAFETY: the source holds all windows, and every line is written by one task.
            unsafe { (runtime.kernels.max_pool)(&args) };
        });
    });
}

/// What follows a convolution whose kernel does not do it itself.
pub(super) struct After<'a> {
    /// Values of a pixel.
    pub(super) columns: usize,
    pub(super) activation: Activation,
    /// Of the output's shape.
    pub(super) residual: Option<&'a [f32]>,
    pub(super) residual_first: bool,
}

impl After<'_> {
    /// Activates the pixels `first..first + rows` in place and adds their residual. No other task may write these pixels.
    pub(super) fn finish(
        &self,
        kernels: &Kernels,
        first: usize,
        rows: usize,
        out: &SharedMut<f32>,
    ) {
        if self.activation == Activation::None && self.residual.is_none() {
            return;
        }
        let at = first * self.columns;
        let x = out.at(at);
        let args = FinishArgs {
            rows,
            columns: self.columns,
            x,
            scales: std::ptr::null(),
            residual: self.residual.map_or(std::ptr::null(), |r| r[at..].as_ptr()),
            residual_first: self.residual_first,
            activation: self.activation,
            out: x,
            stride: self.columns,
        };
        // SAFETY: output and residual hold these pixels, which only the caller's task writes.
        unsafe { (kernels.finish)(&args) };
    }
}

/// `shape` is that of `x`, `[B, H, W, C]`; the operands after it are the factors `[B, C]` and the residual, where there are
/// such.
pub(super) fn finish(
    spec: &FinishSpec,
    runtime: &Runtime,
    shape: &[usize],
    operands: &[&[f32]],
    out: &mut [f32],
) -> TractResult<()> {
    let (x, rest) = operands.split_at(1);
    let (scales, rest) = rest.split_at(usize::from(spec.scaled).min(rest.len()));
    let residual = rest.first().filter(|_| spec.residual);
    let (batch, columns) = match *shape {
        [batch, .., columns] if columns > 0 && batch > 0 => (batch, columns),
        _ => return Ok(()),
    };
    let pixels = x[0].len() / batch / columns;
    ensure!(
        scales.first().is_none_or(|s| s.len() == batch * columns)
            && residual.is_none_or(|r| r.len() == out.len())
            && x[0].len() == out.len(),
        "factors, residual and output fit an input of shape {shape:?}"
    );
    let tasks = pixels.div_ceil(PIXELS_PER_TASK);
    let out = SharedMut::new(out);
    runtime.pool.run(batch * tasks, &|task| {
        let (image, first) = (task / tasks, task % tasks * PIXELS_PER_TASK);
        let at = (image * pixels + first) * columns;
        let none = std::ptr::null();
        let args = FinishArgs {
            rows: PIXELS_PER_TASK.min(pixels - first),
            columns,
            x: x[0][at..].as_ptr(),
            scales: scales
                .first()
                .map_or(none, |s| s[image * columns..].as_ptr()),
            residual: residual.map_or(none, |r| r[at..].as_ptr()),
            residual_first: spec.residual_first,
            activation: spec.activation,
            out: out.at(at),
            stride: columns,
        };
        // SAFETY: the shapes were checked above, and every pixel is written by one task.
        unsafe { (runtime.kernels.finish)(&args) };
    });
    Ok(())
}
