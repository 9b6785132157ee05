//! The features of calibration answers, standardised and clipped.

use crate::classify::confidence::{Evidence, Feature, Term, narrow};
use crate::stats::quantile;
use std::collections::BTreeSet;

/// Images with a right answer, and with a wrong one, that weights need.
const MIN_IMAGES: usize = 10;

/// The tail of calibration answers beyond which features gain nothing more.
const TAIL: f64 = 0.005;
/// How far beyond calibration features may still lower confidence, in ranges of calibration.
const WIDENED: f64 = 0.5;

/// One calibration answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    pub evidence: Evidence,
    pub right: bool,
    pub image: u32,
    pub changed: bool,
}

/// Whether enough images stand behind the answers `rows` of either `kind`.
pub(super) fn both_kinds(cases: &[Case], rows: &[usize], kind: impl Fn(&Case) -> bool) -> bool {
    [true, false].into_iter().all(|wanted| {
        let those = rows.iter().map(|&i| &cases[i]);
        let images = those.filter(|&case| kind(case) == wanted).map(|c| c.image);
        images.collect::<BTreeSet<_>>().len() >= MIN_IMAGES
    })
}

/// A feature, standardised and clipped.
pub(super) struct Column {
    pub feature: Feature,
    pub center: f64,
    pub scale: f64,
    low: f64,
    high: f64,
    pub values: Vec<f64>,
}

impl Column {
    /// `None` if the feature does not vary.
    pub(super) fn of(feature: Feature, cases: &[Case], weights: &[f64]) -> Option<Self> {
        let mut values: Vec<f64> = cases
            .iter()
            .map(|c| f64::from(feature.of(&c.evidence)))
            .collect();
        let total: f64 = weights.iter().sum();
        let mean = |v: &mut dyn Iterator<Item = f64>| {
            v.zip(weights).map(|(v, w)| v * w).sum::<f64>() / total
        };
        let center = mean(&mut values.iter().copied());
        let scale = mean(&mut values.iter().map(|v| (v - center).powi(2))).sqrt();
        if !(scale > 1e-6 * center.abs().max(1e-3) && scale.is_finite()) {
            return None;
        }
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (quantile(&sorted, TAIL), quantile(&sorted, 1.0 - TAIL));
        let wide = WIDENED * (high - low);
        // Beyond calibration, confidence may fall a little more, but never rise.
        let (low, high) = if feature.sign() > 0.0 {
            (low - wide, high)
        } else {
            (low, high + wide)
        };
        let (low, high) = ((low - center) / scale, (high - center) / scale);
        for v in &mut values {
            *v = ((*v - center) / scale).clamp(low, high);
        }
        Some(Self {
            feature,
            center,
            scale,
            low,
            high,
            values,
        })
    }

    pub(super) fn term(&self, weight: f64) -> Term {
        Term {
            feature: self.feature,
            center: narrow(self.center),
            scale: narrow(self.scale),
            weight: narrow(weight),
            low: narrow(self.low),
            high: narrow(self.high),
        }
    }
}

/// The correlation of standardised values.
pub(super) fn correlation(a: &[f64], b: &[f64], weights: &[f64]) -> f64 {
    let mean = |v: &dyn Fn(usize) -> f64| {
        (0..weights.len()).map(|i| weights[i] * v(i)).sum::<f64>() / weights.iter().sum::<f64>()
    };
    let (ma, mb) = (mean(&|i| a[i]), mean(&|i| b[i]));
    let covariance = |x: &[f64], mx: f64, y: &[f64], my: f64| mean(&|i| (x[i] - mx) * (y[i] - my));
    covariance(a, ma, b, mb) / (covariance(a, ma, a, ma) * covariance(b, mb, b, mb)).sqrt()
}
