//! What calibration answered, image by image.

use super::share::Share;
use std::collections::BTreeMap;

/// One answer of the calibration, by a model that had not seen its image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// 0 for an image that is unlike everything in the bank, which is never accepted.
    pub confidence: f32,
    /// The image, by which answers under several interventions belong together.
    pub image: u32,
    /// The class that was answered.
    pub answer: u32,
    /// The class that it is; `None` for one that the bank does not have.
    pub truth: Option<u32>,
    /// Whether an intervention changed the image.
    pub changed: bool,
}

impl Outcome {
    #[must_use]
    pub fn right(&self) -> bool {
        self.truth == Some(self.answer)
    }

    /// Whether it is called known at a threshold.
    #[must_use]
    pub fn accepted(&self, threshold: f32) -> bool {
        self.confidence >= threshold && self.confidence > 0.0
    }
}

/// Weights with which clean answers and changed ones count equally. Their mean is 1.
///
/// ```
/// use constancy_core::classify::balanced_weights;
///
/// assert_eq!(balanced_weights(&[false, true, true, true]), [2.0, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0]);
/// assert_eq!(balanced_weights(&[true, true]), [1.0, 1.0]);
/// ```
#[must_use]
pub fn balanced_weights(changed: &[bool]) -> Vec<f64> {
    let count = changed.iter().filter(|&&c| c).count();
    let (n, count, all) = (changed.len() as f64, count as f64, count == changed.len());
    if all || count == 0.0 {
        return vec![1.0; changed.len()];
    }
    let weight = |&c: &bool| n / 2.0 / if c { count } else { n - count };
    changed.iter().map(weight).collect()
}

/// The share of hits among (weight, image, hit), image by image.
pub(super) fn share_by_image(answers: impl Iterator<Item = (f64, u32, bool)>) -> Share {
    let mut images: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for (weight, image, hit) in answers {
        let (total, hits) = images.entry(image).or_default();
        *total += weight;
        *hits += if hit { weight } else { 0.0 };
    }
    let images: Vec<(f64, f64)> = images.into_values().collect();
    Share::of(&images)
}
