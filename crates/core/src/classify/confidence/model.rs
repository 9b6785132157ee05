//! From evidence to the probability that the answer is right: a logistic regression on clipped features.

use super::evidence::{Evidence, Feature};
use super::narrow;
use serde::{Deserialize, Serialize};

/// One feature's part of the regression.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    pub feature: Feature,
    /// The feature's mean on calibration answers.
    pub center: f32,
    /// Its standard deviation, above 0.
    pub scale: f32,
    /// By how much the log-odds change per standard deviation; its sign is [`Feature::sign`].
    pub weight: f32,
    /// The bounds that the standardised feature is clipped to, so that what lies beyond calibration gains nothing.
    pub low: f32,
    pub high: f32,
}

/// The probability that an answer is right.
///
/// ```
/// use constancy_core::classify::{ConfidenceModel, Evidence, Feature, Place, Term};
///
/// let model = ConfidenceModel {
///     temperature: 2.0,
///     intercept: 0.0,
///     terms: vec![Term {
///         feature: Feature::LogOdds, center: 0.0, scale: 1.0, weight: 1.0, low: -3.0, high: 3.0,
///     }],
///     limit: 0.01,
/// };
/// let place = Place { cosine: 0.8, mahalanobis: 0.0, drift: 1.0 };
/// let confidence = |logits: &[f32]| model.confidence(&Evidence::new(logits, model.temperature, place));
/// // With log-odds alone, it is the softmax at the fitted temperature,
/// assert!((confidence(&[4.0, 2.0]) - 1.0 / (1.0 + (-1.0f32).exp())).abs() < 1e-6);
/// // but never surer than the calibration was.
/// assert_eq!(confidence(&[400.0, 2.0]), 1.0 / (1.0 + (-3.0f32).exp()));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfidenceModel {
    /// What logits are divided by before their softmax; above 0.
    pub temperature: f32,
    pub intercept: f32,
    /// At most one per feature.
    pub terms: Vec<Term>,
    /// The least confidence and the least doubt, above 0: calibration on n images knows nothing of probabilities far below
    /// 1/n.
    pub limit: f32,
}

impl ConfidenceModel {
    /// The probability that the answer is right, in `limit..=1 − limit`.
    #[must_use]
    pub fn confidence(&self, evidence: &Evidence) -> f32 {
        let term = |t: &Term| {
            let standardised = (t.feature.of(evidence) - t.center) / t.scale;
            f64::from(t.weight) * f64::from(standardised.clamp(t.low, t.high))
        };
        let score = f64::from(self.intercept) + self.terms.iter().map(term).sum::<f64>();
        narrow(1.0 / (1.0 + (-score).exp())).clamp(self.limit, 1.0 - self.limit)
    }

    /// Says what is wrong with values that no fit gives.
    pub(super) fn check(&self) -> Result<(), String> {
        let positive = |name: &str, v: f32| {
            let fine = v.is_finite() && v > 0.0;
            fine.then_some(())
                .ok_or_else(|| format!("has {name} {v}, expected a number above 0"))
        };
        positive("a temperature of", self.temperature)?;
        positive("a limit of", self.limit)?;
        if self.limit > 0.5 {
            return Err(format!(
                "has a limit of {}, expected at most 0.5",
                self.limit
            ));
        }
        if !self.intercept.is_finite() {
            return Err("has an intercept that is not a finite number".into());
        }
        for (i, t) in self.terms.iter().enumerate() {
            let name = t.feature;
            positive(&format!("{name:?} with a scale of"), t.scale)?;
            if self.terms[..i].iter().any(|other| other.feature == name) {
                return Err(format!("has {name:?} twice"));
            }
            let finite = [t.center, t.weight, t.low, t.high]
                .iter()
                .all(|v| v.is_finite());
            if !finite || t.low > t.high || t.weight * name.sign() < 0.0 {
                return Err(format!("has impossible values for {name:?}"));
            }
        }
        Ok(())
    }
}
