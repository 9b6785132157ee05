//! The number format of matrix products.

use crate::spec::{LinearSpec, WeightSpec};
use serde::{Deserialize, Serialize};

/// The number format of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As the file stores the weights. If all of them are int8, the patch embedding is also
    /// computed in int8: its input is 8-bit pixels anyway.
    #[default]
    File,
    /// int8, even where the file has floats.
    Int8,
    /// f32, even where the file has int8.
    Fp32,
}

impl Precision {
    /// Whether a product is computed in int8. [`crate::ops::pack`] adds the patch embedding.
    pub(crate) fn is_int8(self, spec: &LinearSpec) -> bool {
        if spec.grid.is_some_and(|grid| !grid.is_8_bit()) {
            return false;
        }
        match self {
            Self::File => spec.parts.iter().all(WeightSpec::is_int8),
            Self::Int8 => true,
            Self::Fp32 => false,
        }
    }
}
