//! From evidence to the probability that the answer is right: a logistic regression on clipped features, whose weights
//! depend on how probable it is that the image was seen in changed light.

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
    /// By how much the sum changes per standard deviation; its sign is [`Feature::sign`], in [`ChangedLight::odds`] the
    /// opposite.
    pub weight: f32,
    /// The bounds that the standardised feature is clipped to, so that what lies beyond calibration gains nothing.
    pub low: f32,
    pub high: f32,
}

/// A weighted sum of features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    pub intercept: f32,
    /// At most one per feature.
    pub terms: Vec<Term>,
}

impl Sum {
    pub(in crate::classify) fn of(&self, evidence: &Evidence) -> f64 {
        sum(self.intercept, &self.terms, evidence)
    }
}

fn sum(intercept: f32, terms: &[Term], evidence: &Evidence) -> f64 {
    let term = |t: &Term| {
        let standardised = (t.feature.of(evidence) - t.center) / t.scale;
        f64::from(t.weight) * f64::from(standardised.clamp(t.low, t.high))
    };
    f64::from(intercept) + terms.iter().map(term).sum::<f64>()
}

/// What an answer is worth in changed light, and how to tell that light.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedLight {
    /// ln(p / (1 − p)) of the probability p that the image was seen in changed light. Its terms rise with distance.
    pub odds: Sum,
    /// ln(p / (1 − p)) of the probability that an answer in changed light is right.
    pub answer: Sum,
}

/// The probability that an answer is right.
///
/// Its log-odds lie between two sums: that of an answer in known light and that of one in changed light, as near to the
/// second as changed light is probable. In a given light, what speaks against an answer never makes it surer.
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
///     changed: None,
///     limit: 0.01,
/// };
/// let place = Place { cosine: 0.8, mahalanobis: 0.0, background: 1.0, drift: 1.0 };
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
    /// With the terms: ln(p / (1 − p)) of the probability that an answer in known light is right.
    pub intercept: f32,
    /// At most one per feature.
    pub terms: Vec<Term>,
    /// `None` if calibration saw one light only, or learnt no weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<ChangedLight>,
    /// The least confidence and the least doubt, above 0: calibration on n images knows nothing of probabilities far below
    /// 1/n.
    pub limit: f32,
}

impl ConfidenceModel {
    /// The probability that the answer is right, in `limit..=1 − limit`.
    #[must_use]
    pub fn confidence(&self, evidence: &Evidence) -> f32 {
        let known = sum(self.intercept, &self.terms, evidence);
        let changed = self.changed.as_ref();
        let score = changed.map_or(known, |c| {
            blend(known, c.answer.of(evidence), sigmoid(c.odds.of(evidence)))
        });
        narrow(sigmoid(score)).clamp(self.limit, 1.0 - self.limit)
    }

    /// Says what is wrong with values that no fit gives.
    pub(super) fn check(&self) -> Result<(), String> {
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
        check_terms(&self.terms, 1.0)?;
        if let Some(ChangedLight { odds, answer }) = &self.changed {
            if !(odds.intercept.is_finite() && answer.intercept.is_finite()) {
                return Err("has an intercept of changed light that is not a finite number".into());
            }
            check_terms(&odds.terms, -1.0)?;
            check_terms(&answer.terms, 1.0)?;
        }
        Ok(())
    }
}

/// The log-odds of an answer that was seen in changed light with the probability `share`: a geometric mean of the odds.
pub(in crate::classify) fn blend(known: f64, changed: f64, share: f64) -> f64 {
    known + share * (changed - known)
}

pub(in crate::classify) fn sigmoid(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

fn positive(name: &str, v: f32) -> Result<(), String> {
    let fine = v.is_finite() && v > 0.0;
    fine.then_some(())
        .ok_or_else(|| format!("has {name} {v}, expected a number above 0"))
}

/// `direction`: 1 for sums that rise with confidence, -1 for those that fall.
fn check_terms(terms: &[Term], direction: f32) -> Result<(), String> {
    for (i, t) in terms.iter().enumerate() {
        let name = t.feature;
        positive(&format!("`{name}` with a scale of"), t.scale)?;
        if terms[..i].iter().any(|other| other.feature == name) {
            return Err(format!("has `{name}` twice"));
        }
        let finite = [t.center, t.weight, t.low, t.high]
            .iter()
            .all(|v| v.is_finite());
        if !finite || t.low > t.high || t.weight * name.sign() * direction < 0.0 {
            return Err(format!("has impossible values for `{name}`"));
        }
    }
    Ok(())
}
