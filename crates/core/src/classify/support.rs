//! Out-of-distribution detection: whether an image resembles anything that the classes were made from.
//!
//! The score alone cannot tell, because a softmax distributes all probability among the known classes. The cosine to the
//! nearest class can, once its distribution over in-distribution images is known. It is measured when a bank is made:
//! for banks of images by leaving each example out of its own class's mean, for banks of labels on sample images, if
//! there are any.

use super::space::Space;
use crate::numeric::{dot, unit, unit_mean};
use crate::stats::quantile;
use serde::{Deserialize, Serialize};

/// With fewer examples, the 1 % tail cannot be estimated.
const MIN_EXAMPLES: usize = 20;
/// Share of in-distribution images below the tail cosine.
const TAIL: f64 = 0.01;

/// The distribution of in-distribution images' cosines to their class.
///
/// ```
/// use constancy_core::classify::Support;
///
/// let support = Support {
///     projection: "identity".into(),
///     examples: 50,
///     median_cosine: 0.8,
///     tail_cosine: 0.6,
/// };
/// assert_eq!(support.shift(0.9), 0.0);
/// assert!(support.shift(0.5) > 1.0);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Support {
    /// Digest of the projection that they were measured under, or `identity`. They are valid for no other.
    pub projection: String,
    /// Number of images measured.
    pub examples: usize,
    pub median_cosine: f32,
    /// The 1st percentile of the cosines.
    pub tail_cosine: f32,
}

impl Support {
    /// Measures `examples[class][image]`, embeddings `[D]`, each against the mean of its class's other examples. `None` if
    /// there are fewer than 20.
    #[must_use]
    pub fn measure(examples: &[Vec<Vec<f32>>], space: &Space, digest: &str) -> Option<Self> {
        let cosines: Vec<f32> = examples
            .iter()
            .flat_map(|class| left_out(class, space))
            .collect();
        Self::of_cosines(&cosines, digest)
    }

    /// Measures unlabelled in-distribution images, `embeddings` `[D]`, each against the nearest of the classes' unit
    /// `rows`. `None` if there are fewer than 20.
    #[must_use]
    pub fn measure_nearest(
        embeddings: &[Vec<f32>],
        rows: &[Vec<f32>],
        space: &Space,
        digest: &str,
    ) -> Option<Self> {
        let rows: Vec<Vec<f32>> = rows.iter().map(|row| space.map(row)).collect();
        let nearest = |e: &Vec<f32>| {
            let z = space.map(e);
            rows.iter()
                .map(|row| dot(&z, row))
                .fold(f32::NEG_INFINITY, f32::max)
        };
        let cosines: Vec<f32> = embeddings.iter().map(nearest).collect();
        Self::of_cosines(&cosines, digest)
    }

    #[expect(clippy::cast_possible_truncation, reason = "cosines were f32 before")]
    pub(super) fn of_cosines(cosines: &[f32], digest: &str) -> Option<Self> {
        if cosines.len() < MIN_EXAMPLES {
            return None;
        }
        let mut sorted: Vec<f64> = cosines.iter().map(|&c| f64::from(c)).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            projection: digest.into(),
            examples: cosines.len(),
            median_cosine: quantile(&sorted, 0.5) as f32,
            tail_cosine: quantile(&sorted, TAIL) as f32,
        })
    }

    /// How far out of distribution a cosine is: 0 at the median or above, 1 at the 1st percentile, more below it.
    #[must_use]
    pub fn shift(&self, cosine: f32) -> f32 {
        let width = (self.median_cosine - self.tail_cosine).max(f32::EPSILON);
        ((self.median_cosine - cosine) / width).max(0.0)
    }
}

/// Each example's cosine to the mean of the class's other examples.
fn left_out(class: &[Vec<f32>], space: &Space) -> Vec<f32> {
    if class.len() < 2 {
        return Vec::new();
    }
    let cosine = |left: usize| {
        let others = class
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != left)
            .map(|(_, e)| unit(e));
        let center = space.map(&unit_mean(others));
        dot(&space.map(&class[left]), &center)
    };
    (0..class.len()).map(cosine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_at_shift_one() {
        let support = Support {
            projection: "identity".into(),
            examples: 50,
            median_cosine: 0.8,
            tail_cosine: 0.6,
        };
        assert!((support.shift(0.6) - 1.0).abs() < 1e-5);
        assert!(
            support.shift(0.9).abs() < 1e-6,
            "above the median is not outside"
        );
        assert!(support.shift(0.2) > 2.9);
    }

    #[test]
    fn images_without_classes_are_measured_against_the_nearest() {
        let rows = [vec![1.0, 0.0], vec![0.0, 1.0]];
        let images: Vec<Vec<f32>> = (0..50)
            .map(|i| {
                if i % 2 == 0 {
                    vec![2.0, 0.0]
                } else {
                    vec![0.6, 0.8]
                }
            })
            .collect();
        let support = Support::measure_nearest(&images, &rows, &Space::default(), "identity")
            .map(|s| (s.examples, s.tail_cosine));
        assert_eq!(support, Some((50, 0.8)));
        assert_eq!(
            Support::measure_nearest(&images[..9], &rows, &Space::default(), "identity"),
            None
        );
    }

    #[test]
    fn few_examples_measure_nothing() {
        let class = vec![vec![1.0, 0.0], vec![0.9, 0.1]];
        assert_eq!(
            Support::measure(&[class.clone(), class], &Space::default(), "identity"),
            None
        );
    }
}
