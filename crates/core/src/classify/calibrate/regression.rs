//! Fits the logistic regression from evidence to "was right".
//!
//! The softmax at the fitted temperature is where the regression starts from: its log-odds are the offset, and weights
//! are shrunk towards 0, so that what the data do not show changes nothing. There are two sets of weights, for known and
//! for changed light; each answer counts for either as far as its [`Light`] is probable, and both are fitted at once. A
//! weight whose sign contradicts [`Feature::sign`] drops its feature from its set. The strength is chosen by
//! cross-validation over images with the one-standard-error rule.

use super::column::{Case, Column, both_kinds, correlation};
use super::light::Light;
use crate::classify::confidence::{
    ChangedLight, ConfidenceModel, Feature, Sum, Term, balanced_weights, blend, narrow, sigmoid,
};
use crate::icm::Logistic;
use nalgebra::DMatrix;
use std::collections::{BTreeMap, BTreeSet};

/// Candidates for C, the inverse strength of the penalty, the strongest first. Without one, only the intercept is fitted.
const STRENGTHS: [f64; 6] = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];
/// Folds of the cross-validation.
const FOLDS: u32 = 5;
/// Features that correlate by more than this with an earlier one are left out.
const SAME: f64 = 0.999;

/// An intercept is searched for between ± this, beyond all log-odds that evidence may have.
const MAX_INTERCEPT: f64 = 1e5;

/// A fitted model, and what it says of its own answers, each fitted without the answer's image.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    pub model: ConfidenceModel,
    pub held_out: Vec<f32>,
}

/// Fits a model to answers whose evidence was computed at `temperature`, as strongly penalised as cross-validation
/// chooses. Few answers, or only right or wrong ones, give the softmax at that temperature with a shrunk intercept.
///
/// ```
/// use constancy_core::classify::calibrate::{Case, regress};
/// use constancy_core::classify::{Evidence, Place};
///
/// let place = Place { cosine: 0.8, mahalanobis: 0.0, background: 1.0, drift: 1.0 };
/// let evidence = Evidence::new(&[30.0, 10.0], 2.0, place);
/// // Ten right answers do not show that the eleventh is.
/// let case = |image| Case { evidence, right: true, image, changed: false };
/// let cases: Vec<Case> = (0..10).map(case).collect();
/// let confidence = regress(&cases, 2.0).model.confidence(&evidence);
/// assert!((0.9..0.96).contains(&confidence));
/// ```
#[must_use]
pub fn regress(cases: &[Case], temperature: f32) -> Regression {
    let design = Design::new(cases);
    let strength = if design.informative(&design.all()) {
        design.choose()
    } else {
        None
    };
    let mut held_out = vec![0.5; cases.len()];
    for Split { inside, learning } in &design.splits {
        let model = design.model(learning, strength, temperature);
        for &i in inside {
            held_out[i] = model.confidence(&cases[i].evidence);
        }
    }
    let all = Learning::from(cases, &design.weights, design.all());
    Regression {
        model: design.model(&all, strength, temperature),
        held_out,
    }
}

/// The same with a penalty of inverse strength `c`, as scikit-learn's `C`; `None` fits the intercept alone.
#[must_use]
pub fn regress_at(cases: &[Case], temperature: f32, c: Option<f64>) -> ConfidenceModel {
    let design = Design::new(cases);
    let all = Learning::from(cases, &design.weights, design.all());
    design.model(&all, c, temperature)
}

/// Answers to learn from, and the light as learnt from them.
struct Learning {
    rows: Vec<usize>,
    light: Option<Light>,
}

impl Learning {
    fn from(cases: &[Case], weights: &[f64], rows: Vec<usize>) -> Self {
        Self {
            light: Light::learn(cases, weights, &rows),
            rows,
        }
    }

    /// By how much an answer counts for changed light, or for known light.
    fn share(&self, changed: bool, i: usize) -> f64 {
        let share = self.light.as_ref().map_or(0.0, |light| light.shares[i]);
        if changed { share } else { 1.0 - share }
    }
}

/// The answers to the images of a fold, and the others.
struct Split {
    inside: Vec<usize>,
    learning: Learning,
}

/// A column in one light.
#[derive(Clone, Copy)]
struct Part {
    column: usize,
    changed: bool,
}

/// The answers as the regression takes them.
struct Design<'a> {
    cases: &'a [Case],
    weights: Vec<f64>,
    /// Log-odds at the temperature, clipped as the feature is.
    offsets: Vec<f64>,
    /// The first is [`Feature::LogOdds`] if it varies.
    columns: Vec<Column>,
    splits: Vec<Split>,
}

/// Intercepts and weights of the columns, in known and in changed light.
struct Fitted([(f64, Vec<f64>); 2]);

impl<'a> Design<'a> {
    fn new(cases: &'a [Case]) -> Self {
        let changed: Vec<bool> = cases.iter().map(|c| c.changed).collect();
        let weights = balanced_weights(&changed);
        let mut columns: Vec<Column> = Vec::new();
        for feature in Feature::ANSWER {
            let Some(column) = Column::of(feature, cases, &weights) else {
                continue;
            };
            let same =
                |other: &Column| correlation(&column.values, &other.values, &weights).abs() > SAME;
            if !columns.iter().any(same) {
                columns.push(column);
            }
        }
        let split = |fold: u32| {
            let (inside, outside) =
                (0..cases.len()).partition(|&i: &usize| cases[i].image % FOLDS == fold);
            let learning = Learning::from(cases, &weights, outside);
            Split { inside, learning }
        };
        let splits = (0..FOLDS).map(split).collect();
        let mut design = Self {
            cases,
            weights,
            offsets: vec![0.0; cases.len()],
            columns,
            splits,
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

    fn all(&self) -> Vec<usize> {
        (0..self.cases.len()).collect()
    }

    /// Whether there are enough right and wrong answers to learn from.
    fn informative(&self, rows: &[usize]) -> bool {
        both_kinds(self.cases, rows, |case| case.right)
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
        for Split { inside, learning } in &self.splits {
            let fitted = self.fit(learning, strength);
            for &i in inside {
                let score = self.score(&fitted, learning, i);
                let against = if self.cases[i].right { -score } else { score };
                let loss = against.max(0.0) + (-against.abs()).exp().ln_1p();
                *images.entry(self.cases[i].image).or_default() += self.weights[i] * loss;
            }
        }
        images.into_values().collect()
    }

    fn score(&self, Fitted(sets): &Fitted, learning: &Learning, i: usize) -> f64 {
        let [known, changed] = [0, 1].map(|set: usize| {
            let (intercept, weights) = &sets[set];
            let part = |(c, w): (&Column, &f64)| w * c.values[i];
            intercept + self.columns.iter().zip(weights).map(part).sum::<f64>()
        });
        self.offsets[i] + blend(known, changed, learning.share(true, i))
    }

    /// Fits to answers; parts whose weight has the wrong sign are dropped one after the other, the worst first.
    fn fit(&self, learning: &Learning, strength: Option<f64>) -> Fitted {
        let lights = if learning.light.is_some() { 2 } else { 1 };
        let parts = (0..lights).flat_map(|light| {
            let part = move |column| Part {
                column,
                changed: light == 1,
            };
            (0..self.columns.len()).map(part)
        });
        let mut kept: Vec<Part> = parts.collect();
        while let Some(c) =
            strength.filter(|_| !kept.is_empty() && self.informative(&learning.rows))
        {
            let Some((intercepts, weights)) = self.solve(learning, &kept, c) else {
                break;
            };
            let wrong = |(at, &w): (usize, &f64)| (at, self.wrongness(kept[at].column, w));
            let worst = weights
                .iter()
                .enumerate()
                .map(wrong)
                .max_by(|a, b| a.1.total_cmp(&b.1));
            match worst {
                Some((at, wrong)) if wrong > 0.0 => {
                    kept.remove(at);
                }
                _ => return self.arranged(intercepts, &kept, &weights),
            }
        }
        self.intercept_alone(&learning.rows)
    }

    /// The weights by light and column. Dropped log-odds do not count as an offset either.
    fn arranged(&self, intercepts: [f64; 2], kept: &[Part], weights: &[f64]) -> Fitted {
        Fitted([false, true].map(|changed| {
            let of_light = || {
                kept.iter()
                    .zip(weights)
                    .filter(|(p, _)| p.changed == changed)
            };
            let mut all = vec![0.0; self.columns.len()];
            if let Some(column) = self.log_odds() {
                all[0] = -column.scale;
            }
            of_light().for_each(|(p, &w)| all[p.column] = w);
            (intercepts[usize::from(changed)], all)
        }))
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

    /// The intercepts in known and changed light, and the weights of the parts that are `kept`.
    fn solve(&self, learning: &Learning, kept: &[Part], c: f64) -> Option<([f64; 2], Vec<f64>)> {
        let rows = &learning.rows;
        // The first row is the difference of the intercepts.
        let x = DMatrix::from_fn(kept.len() + 1, rows.len(), |f, i| match f.checked_sub(1) {
            None => learning.share(true, rows[i]),
            Some(f) => {
                let Part { column, changed } = kept[f];
                learning.share(changed, rows[i]) * self.columns[column].values[rows[i]]
            }
        });
        let right: Vec<usize> = rows
            .iter()
            .map(|&i| usize::from(self.cases[i].right))
            .collect();
        let weights: Vec<f64> = rows.iter().map(|&i| self.weights[i]).collect();
        let offset = |&i: &usize| {
            let Some(log_odds) = self.log_odds() else {
                return self.offsets[i];
            };
            let counting = kept.iter().filter(|p| p.column == 0);
            let share: f64 = counting.map(|p| learning.share(p.changed, i)).sum();
            log_odds.center + share * (self.offsets[i] - log_odds.center)
        };
        let offsets: Vec<f64> = rows.iter().map(offset).collect();
        let fitted = Logistic::fit_weighted(&x, &right, &weights, &offsets, c).ok()?;
        // The two classes' scores are ∓ half the log-odds.
        let second = fitted.weights.row(1);
        let mut weights = second.iter().map(|w| 2.0 * w);
        let (known, gap) = (2.0 * fitted.biases[1], weights.next()?);
        Some(([known, known + gap], weights.collect()))
    }

    /// The log-odds and an intercept, whatever the light. Half a right and half a wrong answer are added. Where no answer
    /// is right, log-odds have nothing to say.
    fn intercept_alone(&self, rows: &[usize]) -> Fitted {
        let mut weights = vec![0.0; self.columns.len()];
        let dropped = self
            .log_odds()
            .filter(|_| rows.iter().all(|&i| !self.cases[i].right));
        if let Some(column) = dropped {
            weights[0] = -column.scale;
        }
        let slope = |b: f64| {
            let error = |&i: &usize| {
                let y = f64::from(u8::from(self.cases[i].right));
                let offset = dropped.map_or(self.offsets[i], |c| c.center);
                self.weights[i] * (sigmoid(offset + b) - y)
            };
            rows.iter().map(error).sum::<f64>() + sigmoid(b) - 0.5
        };
        let (mut low, mut high) = (-MAX_INTERCEPT, MAX_INTERCEPT);
        for _ in 0..80 {
            let middle = 0.5 * (low + high);
            if slope(middle) < 0.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        let alone = (0.5 * (low + high), weights);
        Fitted([alone.clone(), alone])
    }

    fn model(
        &self,
        learning: &Learning,
        strength: Option<f64>,
        temperature: f32,
    ) -> ConfidenceModel {
        let Fitted([known, changed]) = self.fit(learning, strength);
        let images: BTreeSet<u32> = self.cases.iter().map(|c| c.image).collect();
        let light = learning.light.as_ref().filter(|_| known != changed);
        let Sum { intercept, terms } = self.sum(&known);
        ConfidenceModel {
            temperature,
            intercept,
            terms,
            changed: light.map(|light| ChangedLight {
                odds: light.odds.clone(),
                answer: self.sum(&changed),
            }),
            limit: narrow(0.5 / (images.len() as f64 + 1.0)),
        }
    }

    fn sum(&self, (intercept, weights): &(f64, Vec<f64>)) -> Sum {
        let mut intercept = *intercept;
        let mut terms: Vec<Term> = Vec::new();
        for (column, &weight) in self.columns.iter().zip(weights) {
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
        Sum {
            intercept: narrow(intercept),
            terms,
        }
    }
}
