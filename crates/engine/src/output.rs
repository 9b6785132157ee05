//! A tower's output as plain values.

use crate::error::ModelError;
use std::path::Path;
use tract_onnx::prelude::{Tensor, TractError};

/// The values of an output tensor as f32; an error if one of them is infinite or NaN.
pub(crate) fn finite_values(path: &Path, output: &Tensor) -> Result<Vec<f32>, ModelError> {
    let failed = |e: TractError| ModelError::run(path, &e);
    let output = output.cast_to::<f32>().map_err(failed)?;
    let values = output
        .try_as_plain_ram()
        .and_then(|plain| Ok(plain.as_slice::<f32>()?.to_vec()))
        .map_err(failed)?;
    if values.iter().all(|v| v.is_finite()) {
        Ok(values)
    } else {
        Err(ModelError::NotFinite { path: path.into() })
    }
}
