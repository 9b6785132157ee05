//! Depthwise convolutions of images `[B, H, W, C]`.

use super::pixels::After;
use super::scratch::with_floats;
use super::window::{block_lines, copy_block};
use crate::runtime::Runtime;
use crate::spec::DepthwiseSpec;
use constancy_kernels::{AlignedBytes, DEPTHWISE_BLOCK, DepthwiseArgs, SharedMut};
use std::sync::Arc;

/// Values of a block of channels that a task copies, about: 32 KB. But a task computes `LEAST_LINES` lines, since neighbouring
/// tasks copy some lines twice.
const BLOCK_VALUES: usize = 8 << 10;
const LEAST_LINES: usize = 8;

/// The operator.
pub(crate) struct Depthwise {
    spec: DepthwiseSpec,
    /// For each block of channels `[filters][window][block]`.
    weights: AlignedBytes,
    /// For each block of channels `[filters][block]`.
    bias: Vec<f32>,
    runtime: Arc<Runtime>,
}

impl Depthwise {
    pub(super) fn new(spec: &DepthwiseSpec, runtime: &Arc<Runtime>) -> Self {
        let (filters, channels) = (spec.filters, spec.window.channels);
        let taps = spec.window.size.0 * spec.window.size.1;
        let blocks = channels.div_ceil(DEPTHWISE_BLOCK);
        let len = blocks * filters * DEPTHWISE_BLOCK;
        let mut weights = AlignedBytes::for_weights(len * taps * size_of::<f32>());
        let mut bias = vec![0.0; len];
        let packed = weights.as_mut_floats();
        for (i, filter) in spec.weights.chunks_exact(taps).enumerate() {
            let (c, f) = (i / filters, i % filters);
            let group = c / DEPTHWISE_BLOCK * filters + f;
            let lane = c % DEPTHWISE_BLOCK;
            for (t, &weight) in filter.iter().enumerate() {
                packed[(group * taps + t) * DEPTHWISE_BLOCK + lane] = weight;
            }
            bias[group * DEPTHWISE_BLOCK + lane] = spec.bias[i];
        }
        Self {
            spec: DepthwiseSpec {
                weights: vec![],
                bias: vec![],
                ..spec.clone()
            },
            weights,
            bias,
            runtime: Arc::clone(runtime),
        }
    }

    /// Memory that the weights take.
    pub(super) fn weight_bytes(&self) -> usize {
        self.weights.size()
    }

    /// Lines and columns of the output, and its channels.
    pub(super) fn output(&self) -> (usize, usize, usize) {
        let window = &self.spec.window;
        (
            window.out.0,
            window.out.1,
            window.channels * self.spec.filters,
        )
    }

    /// `x` is `[B, H, W, C]`, the residual has the output's shape.
    pub(super) fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let window = &self.spec.window;
        let images = x.len() / (window.height * window.width * window.channels).max(1);
        let (height, width, columns) = self.output();
        assert!(
            x.len() == images * window.height * window.width * window.channels
                && out.len() == images * height * width * columns
                && residual.is_none_or(|r| r.len() == out.len()),
            "input, output and residual fit the convolution's shape"
        );
        let out = SharedMut::new(out);
        let most = self.lines_per_task();
        let bands = height.div_ceil(most);
        let image_values = window.height * window.width * window.channels;
        self.runtime.pool.run(images * bands, &|task| {
            let (image, first) = (task / bands, task % bands * most);
            let count = most.min(height - first);
            let at = (image * height + first) * width;
            let from = &x[image * image_values..][..image_values];
            self.lines(from, (first, count), at * columns, &out);
            let after = After {
                columns,
                activation: self.spec.activation,
                residual,
                residual_first: self.spec.residual_first,
            };
            after.finish(self.runtime.kernels, at, count * width, &out);
        });
    }

    /// Lines of the output that a task computes: as many as fit, and no more than a thread's share.
    fn lines_per_task(&self) -> usize {
        let window = &self.spec.window;
        let line = window.covered().1 * DEPTHWISE_BLOCK;
        let share = window.out.0.div_ceil(self.runtime.pool.threads());
        (BLOCK_VALUES / line.max(1))
            .saturating_sub(window.size.0)
            .div_ceil(window.stride)
            .max(LEAST_LINES)
            .min(share)
            .max(1)
    }

    /// The lines `first..first + count` of an image, which begin at `at` in the output, without what follows the
    /// convolution.
    fn lines(
        &self,
        image: &[f32],
        (first, count): (usize, usize),
        at: usize,
        out: &SharedMut<f32>,
    ) {
        let window = &self.spec.window;
        let (_, width, columns) = self.output();
        let group = self.spec.filters * DEPTHWISE_BLOCK;
        let taps = window.size.0 * window.size.1;
        let len = block_lines(window, count) * window.covered().1 * DEPTHWISE_BLOCK;
        with_floats(len, |copied| {
            for block in 0..window.channels.div_ceil(DEPTHWISE_BLOCK) {
                let channel = block * DEPTHWISE_BLOCK;
                let line = copy_block(window, image, (first, count), channel, copied);
                for y in 0..count {
                    let args = DepthwiseArgs {
                        pixels: width,
                        channels: DEPTHWISE_BLOCK.min(window.channels - channel),
                        filters: self.spec.filters,
                        window: window.size,
                        stride: window.stride,
                        input: copied[y * window.stride * line..].as_ptr(),
                        pixel_stride: DEPTHWISE_BLOCK,
                        line_stride: line,
                        weights: self.weights.as_floats()[block * group * taps..].as_ptr(),
                        bias: self.bias[block * group..].as_ptr(),
                        out: out.at(at + y * width * columns + channel * self.spec.filters),
                        out_stride: columns,
                    };
                    // SAFETY: the copy holds all windows of these lines, the tables hold whole blocks, and no other task
                    // writes these lines.
                    unsafe { (self.runtime.kernels.depthwise)(&args) };
                }
            }
        });
    }
}
