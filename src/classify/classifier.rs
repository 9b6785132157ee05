//! Cosine to every class, logit scale, softmax, top-k.

use super::bank::ClassBank;
use super::reject::{Support, dot};
use crate::icm::{Projection, unit};
use serde::Serialize;

/// How many classes a decision lists unless told.
pub const DEFAULT_TOP_K: usize = 5;
/// Least score of a known class unless told, `0..=1`.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// A class and its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    pub class: String,
    /// Softmax over all classes, `0..=1`.
    pub score: f32,
}

/// What one image was taken for.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The best class first; at most `top_k`, never empty.
    pub top: Vec<Scored>,
    /// Score of the best class less that of the second, `0..=1`.
    pub margin: f32,
    /// The score reaches the threshold, and the image is not known to be outside what the classes were made from.
    pub known: bool,
    /// Whether the image is like the examples; `None` where the bank cannot tell.
    pub in_support: Option<bool>,
    /// How far outside, as [`Support::shift`] has it.
    pub shift: Option<f32>,
}

/// Names embeddings by their nearest class.
pub struct Classifier {
    labels: Vec<String>,
    /// Unit rows in the space that embeddings are compared in.
    rows: Vec<Vec<f32>>,
    projection: Option<Projection>,
    support: Option<Support>,
    logit_scale: f32,
    top_k: usize,
    /// Least score of a known class, `0..=1`.
    threshold: f32,
}

impl Classifier {
    /// A classifier over `bank`'s classes in `projection`'s subspace. `projection_digest` decides whether
    /// the bank's measure of support applies.
    #[must_use]
    pub fn new(bank: ClassBank, projection: Option<Projection>, projection_digest: &str, logit_scale: f32) -> Self {
        let map = |row: &Vec<f32>| projection.as_ref().map_or_else(|| unit(row), |p| p.apply(row));
        Self {
            rows: bank.rows.iter().map(map).collect(),
            support: bank.support.filter(|s| s.projection == projection_digest),
            labels: bank.labels,
            projection,
            logit_scale,
            top_k: DEFAULT_TOP_K,
            threshold: DEFAULT_THRESHOLD,
        }
    }

    /// How many classes a decision lists, and the least score of a known one.
    #[must_use]
    pub fn with_limits(self, top_k: usize, threshold: f32) -> Self {
        Self { top_k, threshold, ..self }
    }

    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Whether decisions can tell an image that resembles no example.
    #[must_use]
    pub fn has_support(&self) -> bool {
        self.support.is_some()
    }

    /// The probability of every class, in the bank's order, and the cosine to the nearest.
    #[must_use]
    pub fn probabilities(&self, embedding: &[f32]) -> (Vec<f32>, f32) {
        let z = self.projection.as_ref().map_or_else(|| unit(embedding), |p| p.apply(embedding));
        let cosines: Vec<f32> = self.rows.iter().map(|row| dot(&z, row)).collect();
        let nearest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = cosines.iter().map(|c| (self.logit_scale * (c - nearest)).exp()).collect();
        let total: f32 = weights.iter().sum();
        (weights.iter().map(|w| w / total).collect(), nearest)
    }

    /// What an embedding `[D]` of any length is taken for.
    #[must_use]
    pub fn classify(&self, embedding: &[f32]) -> Decision {
        let (scores, nearest) = self.probabilities(embedding);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let score = |rank: usize| order.get(rank).map_or(0.0, |&i| scores[i]);
        let shift = self.support.as_ref().map(|s| s.shift(nearest));
        let in_support = shift.map(|s| s <= 1.0);
        let top = order.iter().take(self.top_k.max(1));
        Decision {
            top: top.map(|&i| Scored { class: self.labels[i].clone(), score: scores[i] }).collect(),
            margin: score(0) - score(1),
            known: score(0) >= self.threshold && in_support != Some(false),
            in_support,
            shift,
        }
    }
}
