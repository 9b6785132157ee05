//! Scores an embedding against every class: cosines or a probe's logits, softmax, top-k.

use super::bank::ClassBank;
use super::condition::Reference;
use super::confidence::{Drift, Evidence, Judge, Locator, Reason, Verdict};
use super::light::LightLimits;
use super::probe::Probe;
use super::space::Space;
use super::support::Support;
use crate::icm::Projection;
use crate::numeric::{dot, unit};
use serde::Serialize;

/// Default number of classes that a decision lists.
pub const DEFAULT_TOP_K: usize = 5;
/// Default least score of a known class, `0..=1`.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// Default least confidence of a known class: nine of ten such answers are right.
pub const DEFAULT_CONFIDENCE: f32 = 0.9;

/// Two classes that differ less than this in their scores may change places by noise.
const SURE_MARGIN: f32 = 0.2;
/// What is nearer to a threshold than this may pass it by noise.
const CLOSE: f32 = 0.02;

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
    /// Whether the confidence reaches the threshold and the image is not [`Reason::Unfamiliar`]. Without a confidence:
    /// whether the score reaches the threshold and the image is not known to be out of distribution.
    pub known: bool,
    /// The probability that the best class is right, `0..=1`; `None` if the bank has no
    /// [`Confidence`](super::Confidence).
    pub confidence: Option<f32>,
    /// Why the answer is not known; `None` if it is.
    pub reason: Option<Reason>,
    /// Whether the image resembles the examples; `None` if the bank has no [`Support`].
    pub in_support: Option<bool>,
    /// How far out of distribution, by [`Support::shift`].
    pub shift: Option<f32>,
    /// How far the light is from that of the calibration, by [`Drift::distance`](super::Drift::distance); `None` if the
    /// bank has no [`Confidence`](super::Confidence), or no directions of drift.
    pub drift: Option<f32>,
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
///     confidence: None,
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
    judge: Option<Judge>,
    /// The light of the judge's calibration.
    pub(super) reference: Option<Reference>,
    logit_scale: f32,
    top_k: usize,
    /// Least confidence of a known class, or least score if there is no confidence, `0..=1`.
    threshold: f32,
    /// The same for answers that name one class; empty, or one per class.
    class_thresholds: Vec<f32>,
}

impl Classifier {
    /// A classifier over `bank`'s classes in `projection`'s subspace. The bank's whitening, support, probe and confidence
    /// are used only if they were made under `projection_digest`; [`ClassBank::check_made_under`] and
    /// [`ClassBank::check_confidence`] report those that were not. `logit_scale` multiplies cosines before the softmax.
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
        let rows: Vec<Vec<f32>> = bank.rows.iter().map(|row| space.map(row)).collect();
        let width = rows.first().map_or(0, Vec::len);
        let fits = |c: &super::Confidence| c.projection == projection_digest && c.width() == width;
        let (judge, reference) = match bank.confidence.filter(fits) {
            None => (None, None),
            Some(c) => {
                let judge = Judge {
                    model: c.model,
                    tails: c.tails,
                    locator: Locator::new(c.geometry, &rows),
                };
                (Some(judge), c.reference)
            }
        };
        Self {
            rows,
            judge,
            reference,
            support: bank.support.filter(|s| s.projection == projection_digest),
            probe: bank.probe.filter(|p| p.projection == projection_digest),
            labels: bank.labels,
            space,
            logit_scale,
            top_k: DEFAULT_TOP_K,
            threshold: DEFAULT_THRESHOLD,
            class_thresholds: Vec::new(),
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

    /// Sets the least confidence of a known class, or its least score if the bank has no confidence, `0..=1`.
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

    /// The least confidence of a known class, or its least score if the bank has no confidence, `0..=1`.
    #[must_use]
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Sets a threshold for each class, in the bank's order, in place of the one for all.
    #[must_use]
    pub fn with_class_thresholds(self, class_thresholds: Vec<f32>) -> Self {
        Self {
            class_thresholds,
            ..self
        }
    }

    /// The classifier as if the bank did not have a class, by its index. It has no confidence.
    pub(super) fn without(&self, class: usize) -> Self {
        let mut other = Self {
            judge: None,
            reference: None,
            class_thresholds: Vec::new(),
            ..self.clone()
        };
        other.labels.remove(class);
        other.rows.remove(class);
        if let Some(probe) = &mut other.probe {
            probe.weights.remove(class);
            probe.biases.remove(class);
        }
        other
    }

    /// The invariant rows `[C, k]`.
    pub(super) fn rows(&self) -> &[Vec<f32>] {
        &self.rows
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

    /// Whether decisions have a confidence.
    #[must_use]
    pub fn has_confidence(&self) -> bool {
        self.judge.is_some()
    }

    /// What [`Decision::drift`] is measured by; `None` if it is not measured.
    pub(super) fn drift(&self) -> Option<&Drift> {
        let judge = self.judge.as_ref()?;
        let drift = &judge.locator.geometry().drift;
        (!drift.axes.is_empty() && !drift.quantiles.is_empty()).then_some(drift)
    }

    /// The share of clean calibration images that are nearer than this [`Decision::drift`], `0..=1`.
    #[must_use]
    pub fn drift_quantile(&self, distance: f32) -> Option<f32> {
        Some(self.drift()?.quantile(distance))
    }

    /// What medians of [`Decision::drift`] mean.
    #[must_use]
    pub fn light_limits(&self) -> Option<LightLimits> {
        let drift = self.drift()?;
        Some(LightLimits {
            near: drift.distance_at(0.85),
            usual: drift.distance_at(0.95),
            tail: self.judge.as_ref()?.tails.drift,
        })
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// The class that an invariant embedding `[k]` is answered.
    pub(crate) fn answer(&self, z: &[f32]) -> usize {
        best(&self.scores(z).1)
    }

    /// The invariant embedding `[k]` of an embedding `[D]`.
    pub(super) fn invariant(&self, embedding: &[f32]) -> Vec<f32> {
        self.space.map(embedding)
    }

    /// The directions `[C, k]` that logits grow along.
    pub(super) fn directions(&self) -> &[Vec<f32>] {
        self.probe.as_ref().map_or(&self.rows, |p| &p.weights)
    }

    /// The cosines and the logits `[C]` of an invariant embedding.
    pub(super) fn scores(&self, z: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let cosines: Vec<f32> = self.rows.iter().map(|row| dot(z, row)).collect();
        let logits = match &self.probe {
            Some(probe) => probe.logits(z),
            None => cosines.iter().map(|c| self.logit_scale * c).collect(),
        };
        (cosines, logits)
    }

    /// The probability of every class, in the bank's order, and the cosine to the nearest class. [`Support`] uses the
    /// cosine even if a probe decides.
    #[must_use]
    pub fn probabilities(&self, embedding: &[f32]) -> (Vec<f32>, f32) {
        let (cosines, logits) = self.scores(&self.invariant(embedding));
        let nearest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (softmax(&logits), nearest)
    }

    /// What speaks for and against the answer to an embedding `[D]`; `None` if the bank has no confidence.
    #[must_use]
    pub fn evidence(&self, embedding: &[f32]) -> Option<Evidence> {
        let judge = self.judge.as_ref()?;
        let z = self.invariant(embedding);
        let (cosines, logits) = self.scores(&z);
        let place = judge.locator.place(&unit(embedding), &z, &cosines);
        Some(Evidence::new(&logits, judge.model.temperature, place))
    }

    /// Whether a decision is far from being another: a little noise in the picture changes neither its class nor whether
    /// that is known.
    #[must_use]
    pub fn is_sure(&self, decision: &Decision) -> bool {
        let best = decision.top.first();
        let class = best.and_then(|best| self.labels.iter().position(|l| *l == best.class));
        let own = class.and_then(|class| self.class_thresholds.get(class));
        let judged = decision.confidence.or(best.map(|b| b.score));
        let away = (judged.unwrap_or(0.0) - own.unwrap_or(&self.threshold)).abs();
        let inside = decision.shift.is_none_or(|s| (s - 1.0).abs() >= CLOSE);
        decision.margin >= SURE_MARGIN && away >= CLOSE && inside
    }

    /// Classifies an embedding `[D]`, whose length does not matter.
    #[must_use]
    pub fn classify(&self, embedding: &[f32]) -> Decision {
        let z = self.invariant(embedding);
        let (cosines, logits) = self.scores(&z);
        let nearest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scores = softmax(&logits);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let score = |rank: usize| order.get(rank).map_or(0.0, |&i| scores[i]);
        let shift = self.support.as_ref().map(|s| s.shift(nearest));
        let in_support = shift.map(|s| s <= 1.0);
        let threshold = order
            .first()
            .and_then(|&best| self.class_thresholds.get(best));
        let threshold = threshold.copied().unwrap_or(self.threshold);
        let verdict = self.judge.as_ref().map(|judge| {
            judge.verdict(&logits, judge.locator.place(&unit(embedding), &z, &cosines))
        });
        let reason = match &verdict {
            _ if in_support == Some(false) => Some(Reason::Unfamiliar),
            Some(verdict) => verdict.reason(threshold),
            None if score(0) < threshold => Some(Reason::Ambiguous),
            None => None,
        };
        let top = order.iter().take(self.top_k.max(1));
        Decision {
            top: top
                .map(|&i| Scored {
                    class: self.labels[i].clone(),
                    score: scores[i],
                })
                .collect(),
            margin: score(0) - score(1),
            known: reason.is_none(),
            confidence: verdict.map(|v: Verdict| v.confidence),
            reason,
            in_support,
            shift,
            drift: verdict.filter(|_| self.drift().is_some()).map(|v| v.drift),
        }
    }
}

/// The index of the largest logit; the first of several.
pub(super) fn best(logits: &[f32]) -> usize {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (1..logits.len()).fold(0, better)
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = logits.iter().map(|l| (l - max).exp()).collect();
    let total: f32 = weights.iter().sum();
    weights.iter().map(|w| w / total).collect()
}

#[cfg(test)]
mod tests;
