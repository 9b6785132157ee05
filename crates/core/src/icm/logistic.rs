//! Multinomial logistic regression: the linear probe.
//!
//! Minimises `Σ −log p(class | x) + ‖W‖² / (2C)` with free intercepts, as scikit-learn's
//! `LogisticRegression(C=…)` does by default. With two classes it also follows scikit-learn: a
//! single vector of weights decides, and is penalised once.

use super::cholesky::{Cholesky, Span};
use super::lbfgs::{StopCriterion, minimise};
use super::linalg::{Real, gram, product, transposed_product};
use super::losses::{logistic_error, softmax_errors};
use nalgebra::{DMatrix, DVector};
use std::borrow::Cow;
use thiserror::Error;

/// The default C, the inverse strength of the penalty: what CLIP's linear probes use (Radford et
/// al. 2021, appendix A.3).
pub const DEFAULT_C: f64 = 0.316;
/// The maximum number of steps of a search.
const MAX_STEPS: usize = 10_000;

/// How precisely the weights are searched for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Precision {
    /// Stop when no entry of the mean loss's gradient exceeds this.
    gradient: f64,
    /// Stop when a step gains less than this share of the progress so far, ln(classes) − loss. The
    /// loss itself is no indicator: under a strong penalty it hardly moves while answers still
    /// change.
    decrease: f64,
    /// The largest gradient that a result may have: rounding may stop a search early.
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
/// For comparing the number of right answers under several C.
pub(super) const COARSE: Precision = Precision {
    gradient: 1e-5,
    decrease: 1e-6,
    accepted: f64::INFINITY,
};

/// Why no probe was fitted.
#[derive(Debug, Error, PartialEq)]
pub enum LogisticError {
    #[error("a probe needs examples of at least two classes")]
    OneClass,
    #[error("C = {0} is not a number above 0")]
    Penalty(f64),
    #[error(
        "the fit of the probe did not converge (gradient {gradient:.1e}); the embeddings are damaged"
    )]
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
    /// Fits weights to columns `x` `[k, n]` and their `labels`, which are below `classes` and name
    /// every class at least once; `c` is scikit-learn's `C`.
    pub fn fit(
        x: &DMatrix<f64>,
        labels: &[usize],
        classes: usize,
        c: f64,
    ) -> Result<Self, LogisticError> {
        Problem::new(Cow::Borrowed(x), labels, classes).solve(c, None, EXACT)
    }

    /// Fits weights for two classes to columns `x` `[k, n]`. Each has a weight, at or above 0, and an
    /// offset, which is added to its score of class 1 against class 0; both `[n]`.
    pub(crate) fn fit_weighted(
        x: &DMatrix<f64>,
        labels: &[usize],
        weights: &[f64],
        offsets: &[f64],
        c: f64,
    ) -> Result<Self, LogisticError> {
        let mut problem = Problem::new(Cow::Borrowed(x), labels, 2);
        problem.given = Some((weights, offsets));
        problem.solve(c, None, EXACT)
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

/// Examples for one or several fits, to the precision that counting answers needs.
pub(super) struct TrainingSet<'a, T: Real> {
    x: &'a DMatrix<T>,
    /// Weights are linear combinations of the examples. If there are fewer examples than
    /// dimensions, the search runs in their span.
    span: Option<Span<T>>,
    problem: Problem<'a, T>,
}

impl<'a, T: Real> TrainingSet<'a, T> {
    /// Takes columns and labels as [`Logistic::fit`] does.
    pub(super) fn new(x: &'a DMatrix<T>, labels: &'a [usize], classes: usize) -> Self {
        let span = Span::of(x);
        let inner = span
            .as_ref()
            .map_or(Cow::Borrowed(x), |span| Cow::Owned(span.examples()));
        Self {
            x,
            span,
            problem: Problem::new(inner, labels, classes),
        }
    }

    /// Fits weights; the search begins at `start` if a similar result is known.
    pub(super) fn fit(
        &self,
        c: f64,
        start: Option<&Logistic>,
        precision: Precision,
    ) -> Result<Logistic, LogisticError> {
        let Some(span) = &self.span else {
            return self.problem.solve(c, start, precision);
        };
        let start = start.map(|s| Logistic {
            weights: span.compress(self.x, &s.weights),
            biases: s.biases.clone(),
        });
        let found = self.problem.solve(c, start.as_ref(), precision)?;
        Ok(Logistic {
            weights: span.expand(self.x, &found.weights),
            biases: found.biases,
        })
    }
}

/// The part of a fit that does not depend on C.
struct Problem<'a, T: Real> {
    /// `[k, n]`.
    x: Cow<'a, DMatrix<T>>,
    /// `[n, k]`.
    transposed: DMatrix<T>,
    /// The lower triangle of `Σx xᵀ`, `[k, k]`.
    gram: DMatrix<T>,
    labels: &'a [usize],
    classes: usize,
    /// The examples' weights and offsets, for two classes only.
    given: Option<(&'a [f64], &'a [f64])>,
}

impl<'a, T: Real> Problem<'a, T> {
    fn new(x: Cow<'a, DMatrix<T>>, labels: &'a [usize], classes: usize) -> Self {
        let transposed = x.transpose();
        Self {
            x,
            gram: gram(&transposed),
            transposed,
            labels,
            classes,
            given: None,
        }
    }

    fn solve(
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
            problem: self,
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
        let stop = StopCriterion {
            gradient: precision.gradient,
            decrease: precision.decrease,
            origin: (self.classes as f64).ln(),
        };
        let found = minimise(
            start,
            |v| objective.newton(curvature.as_ref(), v),
            stop,
            MAX_STEPS,
            |p| objective.at(p),
        );
        if found.gradient.is_nan() || found.gradient > precision.accepted {
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

/// The function that a fit minimises. Its parameters are the weights `[k, rows]`, column by column,
/// followed by the intercepts `[rows]`. As columns, the weights need no packing at each step.
struct Objective<'a, T: Real> {
    problem: &'a Problem<'a, T>,
    /// Rows of weights: one per class, or a single one for two classes.
    rows: usize,
    c: f64,
}

impl<T: Real> Objective<'_, T> {
    /// The parameters of a known result.
    fn join(&self, known: &Logistic) -> DVector<f64> {
        // With two classes, the second's scores are half the difference and the first's their
        // negatives.
        let (first, scale) = if self.rows == 1 { (1, 2.0) } else { (0, 1.0) };
        let weights = known.weights.rows(first, self.rows).transpose();
        let biases = known.biases.rows(first, self.rows);
        DVector::from_iterator(
            self.rows * (self.problem.x.nrows() + 1),
            weights.iter().chain(biases.iter()).map(|v| v * scale),
        )
    }

    /// Splits parameters into weights `[rows, k]` and intercepts `[rows]`.
    fn split(&self, parameters: &DVector<f64>) -> (DMatrix<f64>, DVector<f64>) {
        let (weights, biases) = parameters
            .as_slice()
            .split_at(self.rows * self.problem.x.nrows());
        (
            DMatrix::from_row_slice(self.rows, self.problem.x.nrows(), weights),
            DVector::from_column_slice(biases),
        )
    }

    /// 1 / (C n).
    fn penalty(&self) -> f64 {
        (self.c * self.problem.x.ncols() as f64).recip()
    }

    /// p (1 − p) if all classes are equally likely.
    fn spread(&self) -> f64 {
        let classes = self.rows.max(2) as f64;
        (classes - 1.0) / (classes * classes)
    }

    /// The approximate second derivative by a class's weights, `[k, k]`: p (1 − p) E[x xᵀ], as if
    /// all classes were equally likely, plus that of the penalty. `None` if a value is not a
    /// number.
    fn curvature(&self) -> Option<Cholesky<T>> {
        let mut curvature = self.problem.gram.clone();
        curvature *= nalgebra::convert::<f64, T>(self.spread() / self.problem.x.ncols() as f64);
        let penalty: T = nalgebra::convert(self.penalty());
        (0..curvature.nrows()).for_each(|i| curvature[(i, i)] += penalty);
        Cholesky::of(&curvature)
    }

    /// The inverse of the curvature times a vector of parameters; the vector itself without a
    /// curvature.
    fn newton(&self, curvature: Option<&Cholesky<T>>, v: &DVector<f64>) -> DVector<f64> {
        let Some(curvature) = curvature else {
            return v.clone();
        };
        let (weights, biases) = v.as_slice().split_at(self.rows * self.problem.x.nrows());
        let columns = weights.iter().map(|&w| nalgebra::convert(w));
        let solved = curvature.solve(DMatrix::from_iterator(
            self.problem.x.nrows(),
            self.rows,
            columns,
        ));
        let biases = biases.iter().map(|b| b / self.spread());
        DVector::from_iterator(v.len(), solved.iter().map(|w| w.in_f64()).chain(biases))
    }

    /// Value and gradient. Both are divided by n, so that tolerances do not depend on the number of
    /// examples.
    fn at(&self, parameters: &DVector<f64>) -> (f64, DVector<f64>) {
        let (k, n) = (self.problem.x.nrows(), self.problem.x.ncols() as f64);
        let (weights, biases) = parameters.as_slice().split_at(self.rows * k);
        let (loss, errors) = self.errors(weights, biases);
        let squares: f64 = weights.iter().map(|w| w * w).sum();
        let value = loss / n + 0.5 * self.penalty() * squares;
        let gradient: DMatrix<T> =
            product(&self.problem.x, &errors.transpose().map(nalgebra::convert));
        let gradient = gradient
            .iter()
            .zip(weights)
            .map(|(g, w)| g.in_f64() / n + w * self.penalty());
        let intercepts = errors.column_sum() / n;
        (
            value,
            DVector::from_iterator(parameters.len(), gradient.chain(intercepts.iter().copied())),
        )
    }

    /// The total loss of the examples, and p − one-hot of each, `[rows, n]`.
    fn errors(&self, weights: &[f64], biases: &[f64]) -> (f64, DMatrix<f64>) {
        let columns = weights.iter().map(|&w| nalgebra::convert(w));
        let columns = DMatrix::from_iterator(self.problem.x.nrows(), self.rows, columns);
        let mut scores = product(&self.problem.transposed, &columns)
            .transpose()
            .map(Real::in_f64);
        let mut loss = 0.0;
        let examples = scores.as_mut_slice().chunks_exact_mut(self.rows);
        for (i, (scores, &label)) in examples.zip(self.problem.labels).enumerate() {
            let (weight, offset) = self.problem.given.map_or((1.0, 0.0), |(w, o)| (w[i], o[i]));
            scores
                .iter_mut()
                .zip(biases)
                .for_each(|(score, bias)| *score += bias);
            loss += if self.rows == 1 {
                scores[0] += offset;
                let loss = weight * logistic_error(&mut scores[0], label);
                scores[0] *= weight;
                loss
            } else {
                softmax_errors::<T>(scores, label)
            };
        }
        (loss, scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_fits_are_refused() {
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
            let problem = Problem::new(Cow::Borrowed(&x), &labels, classes);
            let objective = Objective {
                problem: &problem,
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

    /// With few examples under a strong penalty, the loss hardly moves from ln 2, and the point
    /// where the search stops decides the answers.
    #[test]
    fn rough_weights_give_the_answers_of_exact_weights() {
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
            let rough = TrainingSet::new(&x, &labels, 2)
                .fit(c, None, ROUGH)
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
