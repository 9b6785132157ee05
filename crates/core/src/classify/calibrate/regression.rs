//! Fits the logistic regression from evidence to "was right".
//!
//! The softmax at the fitted temperature is where the regression starts from: its log-odds are the offset, and weights
//! are shrunk towards 0, so that what the data do not show changes nothing. A weight whose sign contradicts
//! [`Feature::sign`] drops its feature. The strength is chosen by cross-validation over images with the
//! one-standard-error rule.

use super::super::confidence::{
    ConfidenceModel, Evidence, Feature, Term, balanced_weights, narrow,
};
use crate::icm::Logistic;
use crate::stats::quantile;
use nalgebra::DMatrix;
use std::collections::{BTreeMap, BTreeSet};

/// One calibration answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    pub evidence: Evidence,
    pub right: bool,
    pub image: u32,
    pub changed: bool,
}

/// Candidates for C, the inverse strength of the penalty, the strongest first. Without one, only the intercept is fitted.
const STRENGTHS: [f64; 6] = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];
/// Folds of the cross-validation.
const FOLDS: u32 = 5;
/// Images with a right answer, and with a wrong one, that weights need.
const MIN_IMAGES: usize = 10;
/// Features that correlate by more than this with an earlier one are left out.
const SAME: f64 = 0.999;
/// The tail of calibration answers beyond which features gain nothing more.
const TAIL: f64 = 0.005;
/// How far beyond calibration features may still lower confidence, in ranges of calibration.
const WIDENED: f64 = 0.5;

/// A fitted model, and what it says of its own answers, each fitted without the answer's image.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    pub model: ConfidenceModel,
    pub held_out: Vec<f32>,
}

/// Fits a model to answers whose evidence was computed at `temperature`. Few answers, or only right or wrong ones, give
/// the softmax at that temperature with a shrunk intercept.
#[must_use]
pub fn regress(cases: &[Case], temperature: f32) -> Regression {
    let design = Design::new(cases);
    let whole: Vec<usize> = (0..cases.len()).collect();
    let strength = if design.informative(&whole) {
        design.choose()
    } else {
        None
    };
    let images = cases.iter().map(|c| c.image).collect::<BTreeSet<_>>().len();
    let limit = narrow(0.5 / (images as f64 + 1.0));
    let model = |rows: &[usize]| design.model(&design.fit(rows, strength), temperature, limit);
    let mut held_out = vec![0.5; cases.len()];
    for fold in 0..FOLDS {
        let (inside, outside) = design.split(fold);
        let model = model(&outside);
        inside
            .iter()
            .for_each(|&i| held_out[i] = model.confidence(&cases[i].evidence));
    }
    Regression {
        model: model(&whole),
        held_out,
    }
}

/// A feature, standardised and clipped.
struct Column {
    feature: Feature,
    center: f64,
    scale: f64,
    low: f64,
    high: f64,
    values: Vec<f64>,
}

/// The answers as the regression takes them.
struct Design<'a> {
    cases: &'a [Case],
    weights: Vec<f64>,
    /// Log-odds at the temperature, clipped as the feature is.
    offsets: Vec<f64>,
    /// The first is [`Feature::LogOdds`] if it varies.
    columns: Vec<Column>,
}

/// Weights of the columns, and an intercept.
struct Fitted {
    intercept: f64,
    weights: Vec<f64>,
}

impl<'a> Design<'a> {
    fn new(cases: &'a [Case]) -> Self {
        let changed: Vec<bool> = cases.iter().map(|c| c.changed).collect();
        let weights = balanced_weights(&changed);
        let mut columns: Vec<Column> = Vec::new();
        for feature in Feature::ALL {
            let Some(column) = Column::of(feature, cases, &weights) else {
                continue;
            };
            let same =
                |other: &Column| correlation(&column.values, &other.values, &weights).abs() > SAME;
            if !columns.iter().any(same) {
                columns.push(column);
            }
        }
        let mut design = Self {
            cases,
            weights,
            offsets: vec![0.0; cases.len()],
            columns,
        };
        // Log-odds that do not vary are those of a single class, and say nothing.
        if let Some(c) = design.log_odds() {
            design.offsets = c.values.iter().map(|v| c.center + c.scale * v).collect();
        }
        design
    }

    fn log_odds(&self) -> Option<&Column> {
        self.columns
            .first()
            .filter(|c| c.feature == Feature::LogOdds)
    }

    /// Whether there are enough right and wrong answers to learn from.
    fn informative(&self, rows: &[usize]) -> bool {
        let images = |right: bool| {
            let those = rows.iter().filter(|&&i| self.cases[i].right == right);
            those
                .map(|&i| self.cases[i].image)
                .collect::<BTreeSet<_>>()
                .len()
        };
        images(true) >= MIN_IMAGES && images(false) >= MIN_IMAGES
    }

    /// The answers to images of a fold, and the others.
    fn split(&self, fold: u32) -> (Vec<usize>, Vec<usize>) {
        (0..self.cases.len()).partition(|&i| self.cases[i].image % FOLDS == fold)
    }

    /// The strongest penalty whose loss on images that were left out is within a standard error of the least.
    fn choose(&self) -> Option<f64> {
        let candidates: Vec<Option<f64>> = std::iter::once(None)
            .chain(STRENGTHS.into_iter().map(Some))
            .collect();
        let losses: Vec<Vec<f64>> = candidates.iter().map(|&c| self.losses(c)).collect();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len().max(1) as f64;
        let best = losses.iter().min_by(|a, b| mean(a).total_cmp(&mean(b)))?;
        let close = |candidate: &Vec<f64>| {
            // The same images under both: what is hard for both cancels.
            let more: Vec<f64> = candidate.iter().zip(best).map(|(c, b)| c - b).collect();
            let m = mean(&more);
            let squares: f64 = more.iter().map(|d| (d - m).powi(2)).sum();
            let n = more.len() as f64;
            m <= (squares / (n * (n - 1.0).max(1.0))).sqrt()
        };
        candidates[losses.iter().position(close)?]
    }

    /// Each image's loss under a model that was fitted without it.
    fn losses(&self, strength: Option<f64>) -> Vec<f64> {
        let mut images: BTreeMap<u32, f64> = BTreeMap::new();
        for fold in 0..FOLDS {
            let (inside, outside) = self.split(fold);
            let fitted = self.fit(&outside, strength);
            for i in inside {
                let score = self.score(&fitted, i);
                let against = if self.cases[i].right { -score } else { score };
                let loss = against.max(0.0) + (-against.abs()).exp().ln_1p();
                *images.entry(self.cases[i].image).or_default() += self.weights[i] * loss;
            }
        }
        images.into_values().collect()
    }

    fn score(&self, fitted: &Fitted, i: usize) -> f64 {
        let part = |(c, w): (&Column, &f64)| w * c.values[i];
        let parts: f64 = self.columns.iter().zip(&fitted.weights).map(part).sum();
        self.offsets[i] + fitted.intercept + parts
    }

    /// Fits to the answers `rows`; features whose weight has the wrong sign are dropped one after the other, the worst
    /// first.
    fn fit(&self, rows: &[usize], strength: Option<f64>) -> Fitted {
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        while let Some(c) = strength.filter(|_| !kept.is_empty() && self.informative(rows)) {
            let Some((intercept, weights)) = self.solve(rows, &kept, c) else {
                break;
            };
            let wrong = |(at, &w): (usize, &f64)| (at, self.wrongness(kept[at], w));
            let worst = weights
                .iter()
                .enumerate()
                .map(wrong)
                .max_by(|a, b| a.1.total_cmp(&b.1));
            match worst {
                Some((at, wrong)) if wrong > 0.0 => {
                    kept.remove(at);
                }
                _ => {
                    let mut all = vec![0.0; self.columns.len()];
                    if let Some(column) = self.log_odds().filter(|_| !kept.contains(&0)) {
                        all[0] = -column.scale;
                    }
                    kept.iter().zip(weights).for_each(|(&at, w)| all[at] = w);
                    return Fitted {
                        intercept,
                        weights: all,
                    };
                }
            }
        }
        Fitted {
            intercept: self.intercept(rows),
            weights: vec![0.0; self.columns.len()],
        }
    }

    /// How far a weight is on the wrong side. That of the log-odds adds to the offset's 1.
    fn wrongness(&self, column: usize, weight: f64) -> f64 {
        let Column { feature, scale, .. } = &self.columns[column];
        let offset = if *feature == Feature::LogOdds {
            *scale
        } else {
            0.0
        };
        -(weight + offset) * f64::from(feature.sign())
    }

    /// The intercept and the weights of the columns that are `kept`.
    fn solve(&self, rows: &[usize], kept: &[usize], c: f64) -> Option<(f64, Vec<f64>)> {
        let x = DMatrix::from_fn(kept.len(), rows.len(), |f, i| {
            self.columns[kept[f]].values[rows[i]]
        });
        let right: Vec<usize> = rows
            .iter()
            .map(|&i| usize::from(self.cases[i].right))
            .collect();
        let weights: Vec<f64> = rows.iter().map(|&i| self.weights[i]).collect();
        // Log-odds that were dropped do not count as an offset either.
        let dropped = self.log_odds().filter(|_| !kept.contains(&0));
        let offset = |&i: &usize| dropped.map_or(self.offsets[i], |c| c.center);
        let offsets: Vec<f64> = rows.iter().map(offset).collect();
        let fitted = Logistic::fit_weighted(&x, &right, &weights, &offsets, c).ok()?;
        // The two classes' scores are ∓ half the log-odds.
        let weights = fitted.weights.row(1).iter().map(|w| 2.0 * w).collect();
        Some((2.0 * fitted.biases[1], weights))
    }

    /// The intercept alone, by Newton's method. Half a right and half a wrong answer are added.
    fn intercept(&self, rows: &[usize]) -> f64 {
        let sigmoid = |s: f64| 1.0 / (1.0 + (-s).exp());
        let slope = |b: f64| {
            let error = |&i: &usize| {
                let y = f64::from(u8::from(self.cases[i].right));
                self.weights[i] * (sigmoid(self.offsets[i] + b) - y)
            };
            rows.iter().map(error).sum::<f64>() + sigmoid(b) - 0.5
        };
        let (mut low, mut high) = (-50.0, 50.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if slope(middle) < 0.0 {
                low = middle
            } else {
                high = middle
            }
        }
        0.5 * (low + high)
    }

    fn model(&self, fitted: &Fitted, temperature: f32, limit: f32) -> ConfidenceModel {
        let mut intercept = fitted.intercept;
        let mut terms = Vec::new();
        for (column, &weight) in self.columns.iter().zip(&fitted.weights) {
            let mut weight = weight;
            if column.feature == Feature::LogOdds {
                // The offset, in standardised units.
                weight += column.scale;
                intercept += column.center;
            }
            if weight != 0.0 {
                terms.push(column.term(weight));
            }
        }
        ConfidenceModel {
            temperature,
            intercept: narrow(intercept),
            terms,
            limit,
        }
    }
}

impl Column {
    /// `None` if the feature does not vary.
    fn of(feature: Feature, cases: &[Case], weights: &[f64]) -> Option<Self> {
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
        values
            .iter_mut()
            .for_each(|v| *v = ((*v - center) / scale).clamp(low, high));
        Some(Self {
            feature,
            center,
            scale,
            low,
            high,
            values,
        })
    }

    fn term(&self, weight: f64) -> Term {
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
fn correlation(a: &[f64], b: &[f64], weights: &[f64]) -> f64 {
    let mean = |v: &dyn Fn(usize) -> f64| {
        (0..weights.len()).map(|i| weights[i] * v(i)).sum::<f64>() / weights.iter().sum::<f64>()
    };
    let (ma, mb) = (mean(&|i| a[i]), mean(&|i| b[i]));
    let covariance = |x: &[f64], mx: f64, y: &[f64], my: f64| mean(&|i| (x[i] - mx) * (y[i] - my));
    covariance(a, ma, b, mb) / (covariance(a, ma, a, ma) * covariance(b, mb, b, mb)).sqrt()
}
