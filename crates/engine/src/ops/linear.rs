//! The product of rows with a constant matrix, with what comes before and after it:
//! `y = activation(round(norm(x)) · W + b) + residual`, or with the residual before the activation. [`int8`] and [`float`] compute it.

mod float;
mod int8;
mod winograd;

use super::norm::norm_args;
use super::patches::cut_patch;
use super::shape::{image_shape, with_last_axis};
use super::weights::{PackError, Weights};
use super::window::copy_window;
use crate::runtime::Runtime;
use crate::spec::{Grid, LinearSpec, NormSpec, Patches, Window};
use constancy_kernels::{Activation, EpilogueArgs, Range, SharedMut};
use std::sync::Arc;
use tract_onnx::prelude::{TVec, tvec};

/// Fewest rows that one task prepares.
const ROWS_PER_TASK: usize = 4;
const TASKS_PER_THREAD: usize = 16;

/// The operator.
pub(crate) struct Linear {
    weights: Weights,
    /// Padded to whole panels.
    bias: Vec<f32>,
    depth: usize,
    columns: usize,
    norm: Option<NormSpec>,
    grid: Option<Grid>,
    activation: Activation,
    residual_first: bool,
    patches: Option<Patches>,
    window: Option<Window>,
    runtime: Arc<Runtime>,
}

/// Input and output of one call.
struct Call<'a> {
    rows: usize,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    out: SharedMut<f32>,
}

impl Linear {
    pub(super) fn new(
        name: &str,
        spec: &LinearSpec,
        runtime: &Arc<Runtime>,
        int8: bool,
    ) -> Result<Self, PackError> {
        let kernels = runtime.kernels;
        let weights = Weights::pack(name, spec, runtime, int8)?;
        let bias = spec.bias(
            spec.columns
                .next_multiple_of(kernels.int8.panel.max(kernels.f32_panel)),
        );
        Ok(Self {
            weights,
            bias,
            depth: spec.depth,
            columns: spec.columns,
            norm: spec.norm.clone(),
            grid: spec.grid,
            activation: spec.activation,
            residual_first: spec.residual_first,
            patches: spec.patches,
            window: spec.window,
            runtime: Arc::clone(runtime),
        })
    }

    pub(super) fn kind(&self) -> &'static str {
        match (&self.weights, self.patches.is_some(), self.window.is_some()) {
            (_, true, _) => "patch embedding",
            (Weights::Int8(_), false, false) => "linear int8",
            (Weights::F32(_), false, false) => "linear f32",
            (Weights::Int8(_), false, true) => "convolution int8",
            (Weights::F32(_) | Weights::Winograd(_), false, _) => "convolution f32",
        }
    }

    pub(super) fn is_int8(&self) -> bool {
        matches!(self.weights, Weights::Int8(_))
    }

    /// Memory that the weights take.
    pub(super) fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    pub(super) fn output_shape(&self, input: &[usize]) -> TVec<usize> {
        if let Some(window) = &self.window {
            return image_shape(input, (window.out.0, window.out.1, self.columns));
        }
        match self.patches {
            Some(p) => tvec![
                input.first().copied().unwrap_or(1),
                p.rows * p.columns,
                self.columns
            ],
            None => with_last_axis(input, self.columns),
        }
    }

    /// `x` is `[rows, depth]`, or images: `[B, C, H, W]` where the operator embeds patches, `[B, H, W, C]` where it is a
    /// convolution; `out` is `[rows, columns]`.
    pub(super) fn run(&self, x: &[f32], residual: Option<&[f32]>, out: &mut [f32]) {
        let rows = out.len() / self.columns.max(1);
        let values = match &self.window {
            Some(w) => rows / (w.out.0 * w.out.1).max(1) * w.height * w.width * w.channels,
            None => rows * self.depth,
        };
        assert!(
            x.len() == values && out.len() == rows * self.columns,
            "input and output fit the product's shape"
        );
        assert!(
            residual.is_none_or(|r| r.len() == out.len()),
            "the residual has the output's shape"
        );
        let call = Call {
            rows,
            x,
            residual,
            out: SharedMut::new(out),
        };
        match &self.weights {
            Weights::Int8(weights) => self.run_int8(weights, &call),
            Weights::F32(weights) => self.run_f32(weights, &call),
            Weights::Winograd(weights) => {
                if let Some(window) = &self.window {
                    self.run_winograd(weights, window, &call);
                }
            }
        }
    }

    /// Row `r` of the left operand: from the input, or prepared in `buffer` `[depth]` if
    /// [`Self::prepares_rows`]. A normalised row comes with its range.
    fn row<'a>(
        &self,
        call: &Call<'a>,
        r: usize,
        buffer: &'a mut [f32],
    ) -> (&'a [f32], Option<Range>) {
        if let Some(patches) = self.patches {
            cut_patch(&patches, call.x, r, buffer);
            return (buffer, None);
        }
        if let Some(window) = &self.window {
            copy_window(window, call.x, r, buffer);
            return (buffer, None);
        }
        let x = &call.x[r * self.depth..(r + 1) * self.depth];
        let Some(norm) = &self.norm else {
            return (x, None);
        };
        let range = self.runtime.kernels.layer_norm(x, buffer, &norm_args(norm));
        (buffer, Some(range))
    }

    /// Whether rows are cut from an image or normalised before they are multiplied.
    fn prepares_rows(&self) -> bool {
        self.patches.is_some() || self.window.is_some() || self.norm.is_some()
    }

    /// Calls `work` on the threads for every row, with a buffer `[depth]` if rows are prepared.
    fn for_each_row(&self, rows: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        // Many rows in fewer tasks: a row may take less time than a task's start.
        let per_task = (rows / (TASKS_PER_THREAD * self.runtime.pool.threads())).max(ROWS_PER_TASK);
        let depth = if self.prepares_rows() { self.depth } else { 0 };
        self.runtime.pool.run(rows.div_ceil(per_task), &|task| {
            let mut buffer = vec![0.0; depth];
            let first = task * per_task;
            (first..rows.min(first + per_task)).for_each(|row| work(row, &mut buffer));
        });
    }

    /// The arguments that int8 and f32 products share, for the rows `r..r + rows` and the panel of
    /// columns from `first` on.
    fn epilogue(
        &self,
        call: &Call<'_>,
        panel: usize,
        r: usize,
        rows: usize,
        first: usize,
    ) -> EpilogueArgs<'_> {
        let at = r * self.columns + first;
        EpilogueArgs {
            rows,
            columns: panel.min(self.columns - first),
            panel,
            bias: self.bias[first..].as_ptr(),
            activation: self.activation,
            residual_first: self.residual_first,
            residual: call.residual.map_or(std::ptr::null(), |r| r[at..].as_ptr()),
            residual_stride: self.columns,
            out: call.out.at(at),
            out_stride: self.columns,
            ..EpilogueArgs::default()
        }
    }
}

/// First row and height of each tile: as few tiles as possible, with heights that differ by 1 at
/// most.
fn tiles(rows: usize, max_height: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(max_height);
    (0..count).map(move |t| {
        let (start, end) = (t * rows / count, (t + 1) * rows / count);
        (start, end - start)
    })
}

#[cfg(test)]
mod tests {
    use super::tiles;

    #[test]
    fn tiles_cover_every_row_once_with_about_equal_heights() {
        for rows in 1..=70 {
            for most in [1, 4, 6, 10, 12] {
                let tiles: Vec<_> = tiles(rows, most).collect();
                let covered: usize = tiles.iter().map(|t| t.1).sum();
                assert_eq!(covered, rows);
                assert!(tiles.windows(2).all(|w| w[0].0 + w[0].1 == w[1].0));
                let (least, largest) = (
                    tiles.iter().map(|t| t.1).min(),
                    tiles.iter().map(|t| t.1).max(),
                );
                assert!(
                    largest <= Some(most) && largest.zip(least).is_some_and(|(a, b)| a - b <= 1)
                );
            }
        }
    }
}
