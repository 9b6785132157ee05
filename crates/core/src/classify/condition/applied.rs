//! Classification in another light.

use super::Reference;
use crate::classify::{Classifier, Decision};
use crate::numeric::unit;

impl Classifier {
    /// The light that the bank was calibrated in, if it knows.
    #[must_use]
    pub fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }

    /// The classifier with another knowledge of its light.
    pub(crate) fn with_reference(mut self, reference: Option<Reference>) -> Self {
        self.reference = reference;
        self
    }

    /// Classifies an embedding `[D]` of another light, whose offset `[D]` is subtracted from the unit embedding first.
    /// [`Decision::drift`] remains that of the light itself.
    #[must_use]
    pub fn classify_in(&self, embedding: &[f32], offset: Option<&[f32]>) -> Decision {
        let Some(offset) = offset else {
            return self.classify(embedding);
        };
        Decision {
            drift: self.drift_left(embedding, None),
            ..self.classify(&moved(embedding, offset))
        }
    }

    /// The drift that an offset leaves of an embedding `[D]`.
    pub(super) fn drift_left(&self, embedding: &[f32], offset: Option<&[f32]>) -> Option<f32> {
        let drift = self.drift()?;
        let left = offset.map_or_else(|| unit(embedding), |offset| moved(embedding, offset));
        Some(drift.distance(&left))
    }
}

fn moved(embedding: &[f32], offset: &[f32]) -> Vec<f32> {
    let unit = unit(embedding);
    unit.iter().zip(offset).map(|(u, o)| u - o).collect()
}
