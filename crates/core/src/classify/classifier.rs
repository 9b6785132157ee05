//! Scores an embedding against every class: cosines or a probe's logits, softmax, top-k.

use super::bank::ClassBank;
use super::probe::Probe;
use super::space::Space;
use super::support::Support;
use crate::icm::Projection;
use crate::numeric::dot;
use serde::Serialize;

/// Default number of classes that a decision lists.
pub const DEFAULT_TOP_K: usize = 5;
/// Default least score of a known class, `0..=1`.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// A class and its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    pub class: String,
    /// Softmax over all classes, `0..=1`.
    pub score: f32,
}

/// The classification of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The best class first; at most `top_k`, never empty.
    pub top: Vec<Scored>,
    /// Score of the best class minus that of the second, `0..=1`.
    pub margin: f32,
    /// Whether the score reaches the threshold and the image is not known to be out of distribution.
    pub known: bool,
    /// Whether the image resembles the examples; `None` if the bank has no [`Support`].
    pub in_support: Option<bool>,
    /// How far out of distribution, by [`Support::shift`].
    pub shift: Option<f32>,
}

/// Classifies embeddings by the nearest class, or by the bank's probe if there is one.
///
/// ```
/// use constancy_core::classify::{BankOrigin, ClassBank, Classifier};
///
/// let bank = ClassBank {
///     labels: vec!["ok".into(), "defect".into()],
///     templates: Vec::new(),
///     origin: BankOrigin::Images,
///     encoder_sha256: "ab".repeat(32),
///     rows: vec![vec![1.0, 0.0], vec![0.0, 1.0]],
///     support: None,
///     probe: None,
///     whitening: None,
/// };
/// let classifier = Classifier::new(bank, None, "identity", 100.0);
///
/// let decision = classifier.classify(&[0.2, 3.0]);
/// assert_eq!(decision.top[0].class, "defect");
/// assert!(decision.known && decision.margin > 0.9);
/// // Nothing tells these two classes apart.
/// assert!(!classifier.with_threshold(0.6).classify(&[1.0, 1.0]).known);
/// ```
#[derive(Debug, Clone)]
pub struct Classifier {
    labels: Vec<String>,
    /// Projected class embeddings `[C, k]` of unit length.
    rows: Vec<Vec<f32>>,
    space: Space,
    support: Option<Support>,
    probe: Option<Probe>,
    logit_scale: f32,
    top_k: usize,
    /// Least score of a known class, `0..=1`.
    threshold: f32,
}

impl Classifier {
    /// A classifier over `bank`'s classes in `projection`'s subspace. The bank's whitening, support and probe are used
    /// only if they were made under `projection_digest`; [`ClassBank::check_made_under`] reports what was not. `logit_scale`
    /// multiplies cosines before the softmax.
    #[must_use]
    pub fn new(
        bank: ClassBank,
        projection: Option<Projection>,
        projection_digest: &str,
        logit_scale: f32,
    ) -> Self {
        let whitening = bank
            .whitening
            .filter(|w| w.projection == projection_digest)
            .map(|w| w.map);
        let space = Space {
            projection,
            whitening,
        };
        Self {
            rows: bank.rows.iter().map(|row| space.map(row)).collect(),
            support: bank.support.filter(|s| s.projection == projection_digest),
            probe: bank.probe.filter(|p| p.projection == projection_digest),
            labels: bank.labels,
            space,
            logit_scale,
            top_k: DEFAULT_TOP_K,
            threshold: DEFAULT_THRESHOLD,
        }
    }

    /// A classifier with the same projection and limits over another bank's classes.
    #[must_use]
    pub fn with_bank(&self, bank: ClassBank, projection_digest: &str) -> Self {
        let other = Self::new(
            bank,
            self.space.projection.clone(),
            projection_digest,
            self.logit_scale,
        );
        other.with_limits(self.top_k, self.threshold)
    }

    /// Sets the least score of a known class, `0..=1`.
    #[must_use]
    pub fn with_threshold(self, threshold: f32) -> Self {
        Self { threshold, ..self }
    }

    /// Sets how many classes a decision lists and the least score of a known class, `0..=1`.
    #[must_use]
    pub fn with_limits(self, top_k: usize, threshold: f32) -> Self {
        Self {
            top_k,
            threshold,
            ..self
        }
    }

    /// The classes' labels, in the bank's order.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Whether decisions recognise images that resemble no example.
    #[must_use]
    pub fn has_support(&self) -> bool {
        self.support.is_some()
    }

    /// Whether decisions come from a probe.
    #[must_use]
    pub fn has_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// The probability of every class, in the bank's order, and the cosine to the nearest class. [`Support`] uses the
    /// cosine even if a probe decides.
    #[must_use]
    pub fn probabilities(&self, embedding: &[f32]) -> (Vec<f32>, f32) {
        let z = self.space.map(embedding);
        let cosines: Vec<f32> = self.rows.iter().map(|row| dot(&z, row)).collect();
        let nearest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let logits = match &self.probe {
            Some(probe) => probe.logits(&z),
            None => cosines.iter().map(|c| self.logit_scale * c).collect(),
        };
        (softmax(&logits), nearest)
    }

    /// Classifies an embedding `[D]`, whose length does not matter.
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
            top: top
                .map(|&i| Scored {
                    class: self.labels[i].clone(),
                    score: scores[i],
                })
                .collect(),
            margin: score(0) - score(1),
            known: score(0) >= self.threshold && in_support != Some(false),
            in_support,
            shift,
        }
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = logits.iter().map(|l| (l - max).exp()).collect();
    let total: f32 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::BankOrigin;

    fn bank() -> ClassBank {
        let probe = Probe {
            projection: "identity".into(),
            c: 0.316,
            weights: vec![vec![-1.0, 0.0], vec![2.0, 0.0]],
            biases: vec![0.5, -0.5],
        };
        ClassBank {
            labels: vec!["ok".into(), "defect".into()],
            templates: Vec::new(),
            origin: BankOrigin::Images,
            encoder_sha256: "aa".into(),
            rows: vec![vec![1.0, 0.0], vec![0.0, 1.0]],
            support: Some(Support {
                projection: "identity".into(),
                examples: 50,
                median_cosine: 0.9,
                tail_cosine: 0.8,
            }),
            probe: Some(probe),
            whitening: None,
        }
    }

    #[test]
    fn a_probe_decides_and_the_class_means_detect_unknown_images() {
        let bank = ClassBank::parse(&bank().to_bytes().unwrap()).unwrap();
        let classifier = Classifier::new(bank, None, "identity", 100.0);
        assert!(classifier.has_probe() && classifier.has_support());
        let (probabilities, nearest) = classifier.probabilities(&[3.0, 0.0]);
        assert!(
            (probabilities[1] - 1.0 / (1.0 + (-2.0f32).exp())).abs() < 1e-6,
            "{probabilities:?}"
        );
        assert!((nearest - 1.0).abs() < 1e-6);
        let near = classifier.classify(&[3.0, 0.0]);
        assert_eq!(
            (near.top[0].class.as_str(), near.known, near.in_support),
            ("defect", true, Some(true))
        );
        let far = classifier.classify(&[3.0, -3.0]);
        assert_eq!(
            (far.top[0].class.as_str(), far.known, far.in_support),
            ("defect", false, Some(false))
        );
    }

    #[test]
    fn a_probe_of_another_projection_is_refused_by_name_and_never_used() {
        let bank = bank();
        let error = bank
            .check_made_under("0123456789ab", 2)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("identity") && error.contains("0123456789ab"),
            "{error}"
        );
        assert!(
            error.contains("make the bank again with `constancy classes`"),
            "{error}"
        );
        assert!(
            bank.check_made_under("identity", 3)
                .unwrap_err()
                .to_string()
                .contains("width 2, the projection gives 3")
        );
        bank.check_made_under("identity", 2).unwrap();
        let classifier = Classifier::new(bank, None, "0123456789ab", 100.0);
        assert!(!classifier.has_probe() && !classifier.has_support());
        assert_eq!(classifier.classify(&[3.0, 0.0]).top[0].class, "ok");
    }
}
