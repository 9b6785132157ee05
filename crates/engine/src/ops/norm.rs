//! Layer normalisation of rows.

use crate::runtime::Runtime;
use crate::spec::NormSpec;
use constancy_kernels::NormArgs;
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_hir::internal::ensure;

pub(super) fn norm_args(spec: &NormSpec) -> NormArgs<'_> {
    NormArgs {
        gain: &spec.gain,
        shift: &spec.shift,
        epsilon: spec.epsilon,
    }
}

/// Normalises every row of `x`, which has this shape.
pub(super) fn normalise(
    spec: &NormSpec,
    runtime: &Runtime,
    shape: &[usize],
    x: &[f32],
    out: &mut [f32],
) -> TractResult<()> {
    let args = norm_args(spec);
    let width = spec.gain.len();
    ensure!(
        shape.last() == Some(&width),
        "a normalisation over {width} values got an input of shape {shape:?}"
    );
    for (x, y) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        runtime.kernels.layer_norm(x, y, &args);
    }
    Ok(())
}
