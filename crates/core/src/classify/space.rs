//! The space that a classifier works in: after the projection, and after the whitening of its bank.

use crate::icm::{Projection, Whitening};
use crate::numeric::unit;

/// Maps an encoder's embeddings to where classes are told apart.
#[derive(Debug, Clone, Default)]
pub struct Space {
    pub projection: Option<Projection>,
    pub whitening: Option<Whitening>,
}

impl Space {
    /// The embedding `[k]` of unit length that classes are told apart by, from an encoder's `[D]`.
    #[must_use]
    pub fn map(&self, embedding: &[f32]) -> Vec<f32> {
        let z = match &self.projection {
            Some(projection) => projection.apply(embedding),
            None => unit(embedding),
        };
        match &self.whitening {
            Some(whitening) => whitening.apply(&z),
            None => z,
        }
    }

    /// [`Self::map`] without its scaling: of a unit embedding `[D]`, or, not `centred`, of a direction. The map of a sum is
    /// the sum of the maps.
    pub(crate) fn linear(&self, vector: &[f32], centred: bool) -> Vec<f32> {
        let z = match &self.projection {
            Some(projection) => projection.linear(vector, centred),
            None => vector.to_vec(),
        };
        match &self.whitening {
            Some(whitening) => whitening.linear(&z),
            None => z,
        }
    }
}
