//! Shapes of outputs.

use tract_onnx::prelude::TVec;

/// `shape` with another last axis.
pub(crate) fn with_last_axis(shape: &[usize], last: usize) -> TVec<usize> {
    let mut shape: TVec<usize> = shape.into();
    if let Some(axis) = shape.last_mut() {
        *axis = last;
    }
    shape
}
