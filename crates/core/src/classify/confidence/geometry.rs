//! Where an embedding lies among those of the calibration: covariances of low rank, and the directions of drift.

use super::evidence::Place;
use serde::{Deserialize, Serialize};

/// Most directions of a covariance that are kept. At 1,280 dimensions, each takes 5 KB of a bank.
pub const MAX_RANK: usize = 32;
/// Most directions of drift.
pub const MAX_DRIFT_RANK: usize = 16;

/// A covariance: `variance` in every direction, more in the `axes`.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// Orthonormal directions `[r, k]`, r from 0 to [`MAX_RANK`].
    pub axes: Vec<Vec<f32>>,
    /// `[r]`, in `0..1`: 1 − `variance` / the direction's own variance.
    pub shares: Vec<f32>,
    /// The variance in all other directions, above 0.
    pub variance: f32,
}

impl LowRank {
    /// The coordinates `[r]` of a vector `[k]` along the axes.
    #[must_use]
    pub fn coordinates(&self, vector: &[f32]) -> Vec<f32> {
        self.axes.iter().map(|axis| product(axis, vector)).collect()
    }

    /// The squared Mahalanobis length of a vector with this squared length and these coordinates.
    pub fn squared_length(&self, square: f32, coordinates: impl Iterator<Item = f32>) -> f32 {
        let inside: f32 = self
            .shares
            .iter()
            .zip(coordinates)
            .map(|(s, c)| s * c * c)
            .sum();
        (square - inside).max(0.0) / self.variance
    }
}

/// The directions that interventions move most in proportion to how far clean images lie apart, in embeddings before the
/// projection, which removes them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drift {
    /// Directions of unit length `[q, D]`, q from 0 to [`MAX_DRIFT_RANK`].
    pub axes: Vec<Vec<f32>>,
    /// The coordinates `[q]` of the mean of clean calibration images.
    pub center: Vec<f32>,
    /// `[q]`, at or above 0: the direction's share of what interventions move over its variance among clean images, such
    /// that the median distance of those is 1.
    pub weights: Vec<f32>,
    /// The quantiles of the distances of clean images, each measured without itself, at 0, 5, … 100 %, ascending.
    pub quantiles: Vec<f32>,
}

impl Drift {
    /// The distance of a unit embedding `[D]` from the clean calibration images, in units of their median.
    #[must_use]
    pub fn distance(&self, unit: &[f32]) -> f32 {
        let square = |((axis, center), weight): ((&Vec<f32>, &f32), &f32)| {
            let away = product(axis, unit) - center;
            weight * away * away
        };
        let axes = self.axes.iter().zip(&self.center).zip(&self.weights);
        axes.map(square).sum::<f32>().sqrt()
    }

    /// The distance that a share `0..=1` of clean calibration images do not exceed; 0 if none were measured.
    #[must_use]
    pub fn distance_at(&self, share: f32) -> f32 {
        let steps = self.quantiles.len().saturating_sub(1) as f32;
        let at = share.clamp(0.0, 1.0) * steps;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the number of quantiles"
        )]
        let below = at as usize;
        let of = |i: usize| self.quantiles.get(i).or(self.quantiles.last());
        let (low, high) = (of(below), of(below + 1));
        low.zip(high)
            .map_or(0.0, |(low, high)| low + (high - low) * (at - below as f32))
    }

    /// The share of clean calibration images that are nearer, `0..=1`; 0 if none were measured.
    #[must_use]
    pub fn quantile(&self, distance: f32) -> f32 {
        let (q, steps) = (
            &self.quantiles,
            self.quantiles.len().saturating_sub(1).max(1) as f32,
        );
        match q.iter().position(|&limit| distance <= limit) {
            Some(0) => 0.0,
            Some(i) => {
                let part = (distance - q[i - 1]) / (q[i] - q[i - 1]).max(f32::MIN_POSITIVE);
                (((i - 1) as f32 + part) / steps).clamp(0.0, 1.0)
            }
            None if q.is_empty() => 0.0,
            None => 1.0,
        }
    }
}

/// How far calibration images lie at most, but for a small share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tails {
    /// Cosines below it are unfamiliar.
    pub cosine: f32,
    /// Relative Mahalanobis distances above it are unfamiliar.
    pub mahalanobis: f32,
    /// Distances above it are drift.
    pub drift: f32,
}

impl Tails {
    /// Whether an embedding there is unlike everything in the bank.
    #[must_use]
    pub fn unfamiliar(&self, place: &Place) -> bool {
        place.cosine < self.cosine || place.mahalanobis > self.mahalanobis
    }
}

/// All that [`Place`] is computed from.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    /// The covariance of images around their class, shared by the classes, in invariant embeddings `[k]`.
    pub within: LowRank,
    /// The covariance of all images around their mean.
    pub background: LowRank,
    /// That mean, `[k]`.
    pub mean: Vec<f32>,
    /// The classes' centres `[C, k]`. Without them, the bank's rows are the centres.
    pub centers: Option<Vec<Vec<f32>>>,
    pub drift: Drift,
}

/// Dot product in lanes, which the compiler makes vectors of: several times faster than a running sum.
pub(super) fn product(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (x, y) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += x[i] * y[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}
