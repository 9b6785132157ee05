//! Whether an image is like anything that the classes were made from.
//!
//! The score alone cannot tell: softmax shares out certainty among the classes it has. The cosine to the
//! nearest class can, if it is known how large it is for images that do belong. That is measured when a bank
//! is made: from images, leaving each example out of its own class's mean; from labels, where images of what is to
//! be expected are given along.

use crate::icm::Projection;
use crate::numeric::unit_mean;
use crate::numeric::{dot, unit};
use crate::stats::quantile;
use serde::{Deserialize, Serialize};

/// Fewer left-out examples than this say nothing about a distribution's tail.
const MIN_EXAMPLES: usize = 20;
/// The share of belonging images that may lie outside.
const TAIL: f64 = 0.01;

/// Cosines of belonging images to their class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Support {
    /// Digest of the projection that they were measured under, or `identity`; they hold for no other.
    pub projection: String,
    /// How many images were measured.
    pub examples: usize,
    pub median_cosine: f32,
    /// The cosine that 1 % of the images stay under.
    pub tail_cosine: f32,
}

impl Support {
    /// Measures on `examples[class][image]`, embeddings `[D]`; `None` where they are too few.
    #[must_use]
    pub fn measure(
        examples: &[Vec<Vec<f32>>],
        projection: Option<&Projection>,
        digest: &str,
    ) -> Option<Self> {
        let cosines: Vec<f32> = examples
            .iter()
            .flat_map(|class| left_out(class, projection))
            .collect();
        Self::of_cosines(&cosines, digest)
    }

    /// Measures on images whose classes nobody has told: `embeddings` `[D]` of what is to be expected, against the
    /// classes' unit `rows`; `None` where they are too few.
    #[must_use]
    pub fn measure_nearest(
        embeddings: &[Vec<f32>],
        rows: &[Vec<f32>],
        projection: Option<&Projection>,
        digest: &str,
    ) -> Option<Self> {
        let map = |v: &Vec<f32>| projection.map_or_else(|| unit(v), |p| p.apply(v));
        let rows: Vec<Vec<f32>> = rows.iter().map(map).collect();
        let nearest = |e: &Vec<f32>| {
            let z = map(e);
            rows.iter()
                .map(|row| dot(&z, row))
                .fold(f32::NEG_INFINITY, f32::max)
        };
        let cosines: Vec<f32> = embeddings.iter().map(nearest).collect();
        Self::of_cosines(&cosines, digest)
    }

    #[expect(clippy::cast_possible_truncation, reason = "cosines were f32 before")]
    fn of_cosines(cosines: &[f32], digest: &str) -> Option<Self> {
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

    /// How far outside a cosine is: 0 at the median or above, 1 where only 1 % of belonging images lie lower.
    #[must_use]
    pub fn shift(&self, cosine: f32) -> f32 {
        let width = (self.median_cosine - self.tail_cosine).max(f32::EPSILON);
        ((self.median_cosine - cosine) / width).max(0.0)
    }
}

fn left_out(class: &[Vec<f32>], projection: Option<&Projection>) -> Vec<f32> {
    if class.len() < 2 {
        return Vec::new();
    }
    let map = |v: &[f32]| projection.map_or_else(|| unit(v), |p| p.apply(v));
    let cosine = |left: usize| {
        let others = class
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != left)
            .map(|(_, e)| unit(e));
        let center = map(&unit_mean(others));
        dot(&map(&class[left]), &center)
    };
    (0..class.len()).map(cosine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_belonging_images_is_at_shift_one() {
        let support = Support {
            projection: "identity".into(),
            examples: 50,
            median_cosine: 0.8,
            tail_cosine: 0.6,
        };
        assert!((support.shift(0.6) - 1.0).abs() < 1e-5);
        assert!(
            support.shift(0.9).abs() < 1e-6,
            "nearer than most is not outside"
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
        let support = Support::measure_nearest(&images, &rows, None, "identity")
            .map(|s| (s.examples, s.tail_cosine));
        assert_eq!(support, Some((50, 0.8)));
        assert_eq!(
            Support::measure_nearest(&images[..9], &rows, None, "identity"),
            None
        );
    }

    #[test]
    fn few_examples_measure_nothing() {
        let class = vec![vec![1.0, 0.0], vec![0.9, 0.1]];
        assert_eq!(
            Support::measure(&[class.clone(), class], None, "identity"),
            None
        );
    }
}
