//! Shapes of outputs.

use tract_onnx::prelude::{TVec, tvec};

/// `shape` with another last axis.
pub(crate) fn with_last_axis(shape: &[usize], last: usize) -> TVec<usize> {
    let mut shape: TVec<usize> = shape.into();
    if let Some(axis) = shape.last_mut() {
        *axis = last;
    }
    shape
}

/// The shape of as many images as `input` has, of these lines, columns and channels.
pub(super) fn image_shape(
    input: &[usize],
    (lines, columns, channels): (usize, usize, usize),
) -> TVec<usize> {
    tvec![
        input.first().copied().unwrap_or(1),
        lines,
        columns,
        channels
    ]
}
