//! What there is to tell a right answer from a wrong one: eight numbers per answer.

use serde::{Deserialize, Serialize};

/// The largest logit in absolute value, after the temperature. A damaged probe could give more, or none.
const MAX_LOGIT: f32 = 1e4;

/// Where an embedding lies among those of the calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// The cosine to the nearest class, `-1..=1`.
    pub cosine: f32,
    /// The relative Mahalanobis distance to the nearest class, per dimension (Ren et al. 2021, *A Simple Fix to
    /// Mahalanobis Distance for Improving Near-OOD Detection*): the squared distance under the classes' shared covariance
    /// minus that under one Gaussian over all classes. Smaller is more familiar.
    pub mahalanobis: f32,
    /// The part of that difference that knows no classes: the squared distance under one Gaussian over all images, per
    /// dimension, at or above 0.
    pub background: f32,
    /// The distance from clean calibration images inside the directions that interventions move most, at or above 0. About
    /// 1 is usual for clean images.
    pub drift: f32,
}

/// The features of one answer. All are finite.
///
/// ```
/// use constancy_core::classify::{Evidence, Place};
///
/// let place = Place { cosine: 0.8, mahalanobis: -0.1, background: 1.0, drift: 1.0 };
/// let sure = Evidence::new(&[30.0, 10.0, 5.0], 2.0, place);
/// let unsure = Evidence::new(&[30.0, 29.0, 5.0], 2.0, place);
/// assert!(sure.log_odds > unsure.log_odds && sure.margin > unsure.margin);
/// assert!(sure.entropy < unsure.entropy);
/// // A single class leaves nothing to weigh.
/// assert_eq!(Evidence::new(&[30.0], 2.0, place).log_odds, 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// ln(p / (1 − p)) of the best class's probability p at the fitted temperature; 0 with one class.
    pub log_odds: f32,
    /// The best logit minus the second at the fitted temperature; 0 with one class.
    pub margin: f32,
    /// The entropy of the probabilities over ln(classes), `0..=1`; 0 with one class.
    pub entropy: f32,
    /// The logarithm of the sum of exponentials of the logits at the fitted temperature: the negative free energy of Liu
    /// et al. 2020.
    pub energy: f32,
    /// See [`Place::cosine`].
    pub cosine: f32,
    /// See [`Place::mahalanobis`].
    pub mahalanobis: f32,
    /// See [`Place::background`].
    pub background: f32,
    /// See [`Place::drift`].
    pub drift: f32,
}

impl Evidence {
    /// The features of an answer with these `logits`, not empty, before division by `temperature`.
    #[must_use]
    pub fn new(logits: &[f32], temperature: f32, place: Place) -> Self {
        let scaled = |&l: &f32| bounded(l / temperature, MAX_LOGIT);
        let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for l in logits.iter().map(scaled) {
            if l > best {
                (best, second) = (l, best);
            } else if l > second {
                second = l;
            }
        }
        // Σ exp(l − best), and Σ (best − l) exp(l − best), over all but the best.
        let (mut others, mut gaps) = (0.0f32, 0.0f32);
        let mut skipped = false;
        for l in logits.iter().map(scaled) {
            let gap = best - l;
            if gap == 0.0 && !skipped {
                skipped = true;
                continue;
            }
            let weight = (-gap).exp();
            others += weight;
            gaps += gap * weight;
        }
        let several = logits.len() > 1;
        let classes = logits.len() as f32;
        // Where the sum underflows, its largest part is all of it.
        let log_others = if others > 1e-30 {
            others.ln()
        } else {
            second - best
        };
        let spread = others.ln_1p();
        Self {
            log_odds: if several {
                bounded(-log_others, 2.0 * MAX_LOGIT)
            } else {
                0.0
            },
            margin: if several { best - second } else { 0.0 },
            entropy: if several {
                ((spread + gaps / (1.0 + others)) / classes.ln()).clamp(0.0, 1.0)
            } else {
                0.0
            },
            energy: bounded(best + spread, MAX_LOGIT),
            cosine: bounded(place.cosine, 2.0),
            mahalanobis: bounded(place.mahalanobis, f32::MAX),
            background: bounded(place.background, f32::MAX).max(0.0),
            drift: bounded(place.drift, f32::MAX).max(0.0),
        }
    }
}

/// `value` within ±`limit`; 0 for what is not a number.
fn bounded(value: f32, limit: f32) -> f32 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(-limit, limit)
    }
}

/// One of [`Evidence`]'s numbers, in the form that the regression takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    LogOdds,
    Margin,
    Entropy,
    Energy,
    Cosine,
    Mahalanobis,
    Drift,
    /// The squared Mahalanobis distance to the nearest class, per dimension.
    Nearest,
    /// The same to all images, whatever their class.
    Background,
}

impl Feature {
    /// What tells right answers from wrong ones, the one that matters most first.
    pub const ANSWER: [Self; 7] = [
        Self::LogOdds,
        Self::Margin,
        Self::Entropy,
        Self::Energy,
        Self::Cosine,
        Self::Mahalanobis,
        Self::Drift,
    ];

    /// What tells images in changed light from images as they are. None depends on which class was answered, so that a
    /// wrong answer alone does not pass for changed light.
    pub const LIGHT: [Self; 3] = [Self::Drift, Self::Nearest, Self::Background];

    /// The feature's value, finite.
    #[must_use]
    pub fn of(self, evidence: &Evidence) -> f32 {
        match self {
            Self::LogOdds => evidence.log_odds,
            Self::Margin => evidence.margin,
            Self::Entropy => evidence.entropy,
            Self::Energy => evidence.energy,
            Self::Cosine => evidence.cosine,
            Self::Mahalanobis => evidence.mahalanobis,
            // A distance: what counts is how many times farther.
            Self::Drift => evidence.drift.ln_1p(),
            Self::Nearest => (evidence.mahalanobis + evidence.background).clamp(0.0, f32::MAX),
            Self::Background => evidence.background,
        }
    }

    /// 1 for features that may only raise confidence, -1 for those that may only lower it.
    #[must_use]
    pub fn sign(self) -> f32 {
        match self {
            Self::LogOdds | Self::Margin | Self::Energy | Self::Cosine => 1.0,
            Self::Entropy | Self::Mahalanobis | Self::Drift | Self::Nearest | Self::Background => {
                -1.0
            }
        }
    }
}

/// Its name in a bank's file: `log_odds`.
impl std::fmt::Display for Feature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}
