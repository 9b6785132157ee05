//! Multinomial logistic regression: the linear probe.
//!
//! Minimises `Σ −log p(class | x) + ‖W‖² / (2C)`, the intercepts free: scikit-learn's `LogisticRegression(C=…)` in its
//! default form, its two-class case included, where one vector of weights decides and is penalised once.

use super::cholesky::{Cholesky, Span};
use super::embeddings::{Real, gram, product, transposed_product};
use super::lbfgs::{Enough, minimise};
use nalgebra::{DMatrix, DVector};
use std::borrow::Cow;
use thiserror::Error;

/// Inverse strength of the penalty unless told: what CLIP's linear probes use (Radford et al. 2021, appendix A.3).
pub const DEFAULT_C: f64 = 0.316;
/// How closely weights are searched for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Precision {
    /// The mean loss's gradient at which the search ends, by its largest entry.
    gradient: f64,
    /// The share of what learning has brought so far, ln(classes) less the loss, below which another step is not worth
    /// it. The loss itself says nothing of this: where the penalty is strong it hardly moves, while answers still do.
    decrease: f64,
    /// What rounding may leave of the gradient.
    accepted: f64,
}

/// For weights that are kept.
const EXACT: Precision = Precision {
    gradient: 1e-9,
    decrease: 0.0,
    accepted: 1e-6,
};
/// For answers that are only counted.
pub(super) const ROUGH: Precision = Precision {
    gradient: 1e-6,
    decrease: 1e-8,
    accepted: f64::INFINITY,
};
/// For answers of which only the count under one C against another is of interest.
pub(super) const COARSE: Precision = Precision {
    gradient: 1e-5,
    decrease: 1e-6,
    accepted: f64::INFINITY,
};
const STEPS: usize = 10_000;

/// Why no probe was learnt.
#[derive(Debug, Error, PartialEq)]
pub enum LogisticError {
    #[error("a probe needs examples of at least two classes")]
    OneClass,
    #[error("C = {0} is no number above 0")]
    Penalty(f64),
    #[error("the probe's weights were not found (gradient {gradient:.1e}); embeddings are damaged")]
    NotConverged { gradient: f64 },
}

/// Weights and intercepts: class scores are `W x + b`, probabilities their softmax.
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    /// `[classes, k]`.
    pub weights: DMatrix<f64>,
    /// `[classes]`.
    pub biases: DVector<f64>,
}

impl Logistic {
    /// Learns from columns `x` `[k, n]` and their `labels`, each below `classes`, each class at least once; `c` is
    /// scikit-learn's `C`.
    pub fn fit(
        x: &DMatrix<f64>,
        labels: &[usize],
        classes: usize,
        c: f64,
    ) -> Result<Self, LogisticError> {
        Examples::new(Cow::Borrowed(x), labels, classes).search(c, None, EXACT)
    }

    /// Class scores `[classes, n]` of columns `[k, n]`.
    #[must_use]
    pub fn scores(&self, x: &DMatrix<f64>) -> DMatrix<f64> {
        self.scores_of(x)
    }

    pub(super) fn scores_of<T: Real>(&self, x: &DMatrix<T>) -> DMatrix<f64> {
        let weights: DMatrix<T> = self.weights.transpose().map(nalgebra::convert);
        let mut scores = transposed_product(&weights, x).map(Real::in_f64);
        for mut column in scores.column_iter_mut() {
            column += &self.biases;
        }
        scores
    }
}

/// Examples that are learnt from once or more often, to the precision that counting answers needs.
pub(super) struct Lessons<'a, T: Real> {
    x: &'a DMatrix<T>,
    /// Weights are sums of examples: where these are fewer than dimensions, so are the unknowns.
    span: Option<Span<T>>,
    examples: Examples<'a, T>,
}

impl<'a, T: Real> Lessons<'a, T> {
    /// As [`Logistic::fit`] takes them.
    pub(super) fn new(x: &'a DMatrix<T>, labels: &'a [usize], classes: usize) -> Self {
        let span = Span::of(x);
        let inner = span
            .as_ref()
            .map_or(Cow::Borrowed(x), |span| Cow::Owned(span.examples()));
        Self {
            x,
            span,
            examples: Examples::new(inner, labels, classes),
        }
    }

    /// Searches from `start` where something like the result is known.
    pub(super) fn learn(
        &self,
        c: f64,
        start: Option<&Logistic>,
        precision: Precision,
    ) -> Result<Logistic, LogisticError> {
        let Some(span) = &self.span else {
            return self.examples.search(c, start, precision);
        };
        let start = start.map(|s| Logistic {
            weights: span.within(self.x, &s.weights),
            biases: s.biases.clone(),
        });
        let found = self.examples.search(c, start.as_ref(), precision)?;
        Ok(Logistic {
            weights: span.without(self.x, &found.weights),
            biases: found.biases,
        })
    }
}

/// What a search needs of the examples, whatever C is.
struct Examples<'a, T: Real> {
    /// `[k, n]`.
    x: Cow<'a, DMatrix<T>>,
    /// `[n, k]`.
    transposed: DMatrix<T>,
    /// `Σx xᵀ`, `[k, k]`, the lower triangle.
    products: DMatrix<T>,
    labels: &'a [usize],
    classes: usize,
}

impl<'a, T: Real> Examples<'a, T> {
    fn new(x: Cow<'a, DMatrix<T>>, labels: &'a [usize], classes: usize) -> Self {
        let transposed = x.transpose();
        Self {
            x,
            products: gram(&transposed),
            transposed,
            labels,
            classes,
        }
    }

    fn search(
        &self,
        c: f64,
        start: Option<&Logistic>,
        precision: Precision,
    ) -> Result<Logistic, LogisticError> {
        if !(c.is_finite() && c > 0.0) {
            return Err(LogisticError::Penalty(c));
        }
        if self.classes < 2 {
            return Err(LogisticError::OneClass);
        }
        let objective = Objective {
            examples: self,
            rows: if self.classes == 2 { 1 } else { self.classes },
            c,
        };
        let dimensions = self.x.nrows();
        let start = start.filter(|s| s.weights.shape() == (self.classes, dimensions));
        let start = start.map_or_else(
            || DVector::zeros(objective.rows * (dimensions + 1)),
            |s| objective.join(s),
        );
        let curvature = objective.curvature();
        let Precision {
            gradient,
            decrease,
            accepted,
        } = precision;
        let enough = Enough {
            gradient,
            decrease,
            origin: (self.classes as f64).ln(),
        };
        let found = minimise(
            start,
            |v| objective.newton(curvature.as_ref(), v),
            enough,
            STEPS,
            |p| objective.at(p),
        );
        if found.gradient.is_nan() || found.gradient > accepted {
            return Err(LogisticError::NotConverged {
                gradient: found.gradient,
            });
        }
        let (weights, biases) = objective.split(&found.at);
        if objective.rows > 1 {
            return Ok(Logistic { weights, biases });
        }
        // The softmax of ∓s/2 is the logistic function of s.
        let halves = DVector::from_row_slice(&[-0.5, 0.5]);
        Ok(Logistic {
            weights: &halves * weights,
            biases: halves * biases[0],
        })
    }
}

/// Parameters are the weights `[k, rows]`, column by column, and then the intercepts `[rows]`: as columns, the weights
/// are multiplied without being packed anew at every step.
struct Objective<'a, T: Real> {
    examples: &'a Examples<'a, T>,
    /// Rows of weights: one per class, or one where there are two classes.
    rows: usize,
    c: f64,
}

impl<T: Real> Objective<'_, T> {
    /// The parameters of a known result.
    fn join(&self, known: &Logistic) -> DVector<f64> {
        // Of two classes the second's scores are half the difference, and the first's their negatives.
        let (first, scale) = if self.rows == 1 { (1, 2.0) } else { (0, 1.0) };
        let weights = known.weights.rows(first, self.rows).transpose();
        let biases = known.biases.rows(first, self.rows);
        DVector::from_iterator(
            self.rows * (self.examples.x.nrows() + 1),
            weights.iter().chain(biases.iter()).map(|v| v * scale),
        )
    }

    /// `[rows, k]` and `[rows]`.
    fn split(&self, parameters: &DVector<f64>) -> (DMatrix<f64>, DVector<f64>) {
        let (weights, biases) = parameters
            .as_slice()
            .split_at(self.rows * self.examples.x.nrows());
        (
            DMatrix::from_row_slice(self.rows, self.examples.x.nrows(), weights),
            DVector::from_column_slice(biases),
        )
    }

    /// 1 / (C n).
    fn penalty(&self) -> f64 {
        (self.c * self.examples.x.ncols() as f64).recip()
    }

    /// p (1 − p) where all classes are as likely.
    fn spread(&self) -> f64 {
        let classes = self.rows.max(2) as f64;
        (classes - 1.0) / (classes * classes)
    }

    /// About the second derivative by a class's weights, `[k, k]`: p (1 − p) E[x xᵀ] where all classes are as likely, and
    /// the penalty's. `None` where something is no number.
    fn curvature(&self) -> Option<Cholesky<T>> {
        let mut curvature = self.examples.products.clone();
        curvature *= nalgebra::convert::<f64, T>(self.spread() / self.examples.x.ncols() as f64);
        let penalty: T = nalgebra::convert(self.penalty());
        (0..curvature.nrows()).for_each(|i| curvature[(i, i)] += penalty);
        Cholesky::of(&curvature)
    }

    /// The inverse of the curvature times a vector of parameters; the vector itself where that is not known.
    fn newton(&self, curvature: Option<&Cholesky<T>>, v: &DVector<f64>) -> DVector<f64> {
        let Some(curvature) = curvature else {
            return v.clone();
        };
        let (weights, biases) = v.as_slice().split_at(self.rows * self.examples.x.nrows());
        let columns = weights.iter().map(|&w| nalgebra::convert(w));
        let solved = curvature.solve(DMatrix::from_iterator(
            self.examples.x.nrows(),
            self.rows,
            columns,
        ));
        let biases = biases.iter().map(|b| b / self.spread());
        DVector::from_iterator(v.len(), solved.iter().map(|w| w.in_f64()).chain(biases))
    }

    /// The objective over n, so that its size and the tolerance do not depend on how many examples there are.
    fn at(&self, parameters: &DVector<f64>) -> (f64, DVector<f64>) {
        let (k, n) = (self.examples.x.nrows(), self.examples.x.ncols() as f64);
        let (weights, biases) = parameters.as_slice().split_at(self.rows * k);
        let columns =
            DMatrix::from_iterator(k, self.rows, weights.iter().map(|&w| nalgebra::convert(w)));
        let mut scores = product(&self.examples.transposed, &columns)
            .transpose()
            .map(Real::in_f64);
        let mut loss = 0.0;
        for (scores, &label) in scores
            .as_mut_slice()
            .chunks_exact_mut(self.rows)
            .zip(self.examples.labels)
        {
            scores
                .iter_mut()
                .zip(biases)
                .for_each(|(score, bias)| *score += bias);
            loss += if self.rows == 1 {
                two_classes(&mut scores[0], label)
            } else {
                softmax::<T>(scores, label)
            };
        }
        // `scores` now holds the probabilities' errors.
        let squares: f64 = weights.iter().map(|w| w * w).sum();
        let value = loss / n + 0.5 * self.penalty() * squares;
        let gradient: DMatrix<T> =
            product(&self.examples.x, &scores.transpose().map(nalgebra::convert));
        let gradient = gradient
            .iter()
            .zip(weights)
            .map(|(g, w)| g.in_f64() / n + w * self.penalty());
        let intercepts = scores.column_sum() / n;
        (
            value,
            DVector::from_iterator(parameters.len(), gradient.chain(intercepts.iter().copied())),
        )
    }
}

/// The loss of a score whose sign decides; the score becomes p − label.
fn two_classes(score: &mut f64, label: usize) -> f64 {
    let (s, y) = (*score, if label == 1 { 1.0 } else { 0.0 });
    // log(1 + eˢ) without overflow.
    let loss = s.max(0.0) + (-s.abs()).exp().ln_1p() - y * s;
    *score = 1.0 / (1.0 + (-s).exp()) - y;
    loss
}

/// The loss of an example's scores, which become p − one-hot, with powers as exact as T is.
fn softmax<T: Real>(scores: &mut [f64], label: usize) -> f64 {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let own = scores[label] - most;
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        let power: T = nalgebra::convert(*score - most);
        *score = power.exp().in_f64();
        sum += *score;
    }
    for score in scores.iter_mut() {
        *score /= sum;
    }
    scores[label] -= 1.0;
    sum.ln() - own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_learnt_is_said() {
        let x = DMatrix::from_element(2, 3, 1.0);
        assert_eq!(
            Logistic::fit(&x, &[0, 0, 0], 1, 1.0),
            Err(LogisticError::OneClass)
        );
        assert_eq!(
            Logistic::fit(&x, &[0, 1, 0], 2, -1.0),
            Err(LogisticError::Penalty(-1.0))
        );
    }

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let mut rng = crate::numeric::Rng::new(5);
        let x = DMatrix::from_fn(3, 9, |_, _| f64::from(rng.between(-1.0, 1.0)));
        for (rows, classes) in [(1, 2), (4, 4)] {
            let labels: Vec<usize> = (0..9).map(|i| i % classes).collect();
            let examples = Examples::new(Cow::Borrowed(&x), &labels, classes);
            let objective = Objective {
                examples: &examples,
                rows,
                c: 0.5,
            };
            let at = DVector::from_fn(rows * 4, |_, _| f64::from(rng.between(-1.0, 1.0)));
            let (_, gradient) = objective.at(&at);
            for i in 0..at.len() {
                let step = |h: f64| {
                    objective
                        .at(&(&at
                            + DVector::from_fn(at.len(), |j, _| if i == j { h } else { 0.0 })))
                        .0
                };
                assert!(
                    ((step(1e-5) - step(-1e-5)) / 2e-5 - gradient[i]).abs() < 1e-8,
                    "{rows} rows, entry {i}"
                );
            }
        }
    }

    /// Few examples under a strong penalty: the loss hardly moves from ln 2, and where the search ends decides the answers.
    #[test]
    fn answers_that_are_only_counted_are_those_of_the_exact_weights() {
        let mut rng = crate::numeric::Rng::new(6);
        let labels: Vec<usize> = (0..40).map(|i| usize::from(i >= 25)).collect();
        let mut image = |class: usize| {
            let sign = if class == 0 { -0.05 } else { 0.05 };
            let image = DVector::from_fn(60, |i, _| {
                0.3 + f64::from(rng.between(-0.2, 0.2)) + if i < 8 { sign } else { 0.0 }
            });
            image.normalize()
        };
        let x =
            DMatrix::from_columns(&labels.iter().map(|&class| image(class)).collect::<Vec<_>>());
        for c in [0.01, DEFAULT_C, 10.0] {
            let exact = Logistic::fit(&x, &labels, 2, c).unwrap().scores(&x);
            let rough = Lessons::new(&x, &labels, 2)
                .learn(c, None, ROUGH)
                .unwrap()
                .scores(&x);
            let spread = exact.row(0).max() - exact.row(0).min();
            let off = (&exact - rough).amax();
            assert!(
                off < 0.01 * spread,
                "C = {c}: off by {off:.1e} of {spread:.1e}"
            );
        }
    }
}
