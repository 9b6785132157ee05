//! Multinomial logistic regression: the linear probe.
//!
//! Minimises `Σ −log p(class | x) + ‖W‖² / (2C)`, the intercepts free: scikit-learn's `LogisticRegression(C=…)` in its
//! default form, its two-class case included, where one vector of weights decides and is penalised once.

use super::lbfgs::minimise;
use nalgebra::{DMatrix, DVector};
use thiserror::Error;

/// Inverse strength of the penalty unless told: what CLIP's linear probes use (Radford et al. 2021, appendix A.3).
pub const DEFAULT_C: f64 = 0.316;
/// Largest entry of the mean loss's gradient at which the search ends.
const TOLERANCE: f64 = 1e-9;
/// What rounding may leave of it.
const ACCEPTED: f64 = 1e-6;
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
    pub fn fit(x: &DMatrix<f64>, labels: &[usize], classes: usize, c: f64) -> Result<Self, LogisticError> {
        if !(c.is_finite() && c > 0.0) {
            return Err(LogisticError::Penalty(c));
        }
        if classes < 2 {
            return Err(LogisticError::OneClass);
        }
        let rows = if classes == 2 { 1 } else { classes };
        let objective = Objective { x, transposed: x.transpose(), labels, rows, c };
        let found = minimise(DVector::zeros(rows * (x.nrows() + 1)), TOLERANCE, STEPS, |p| objective.at(p));
        if found.gradient > ACCEPTED {
            return Err(LogisticError::NotConverged { gradient: found.gradient });
        }
        let (weights, biases) = objective.split(&found.at);
        if rows > 1 {
            return Ok(Self { weights, biases });
        }
        // The softmax of ∓s/2 is the logistic function of s.
        let halves = DVector::from_row_slice(&[-0.5, 0.5]);
        Ok(Self { weights: &halves * weights, biases: halves * biases[0] })
    }

    /// Class scores `[classes, n]` of columns `[k, n]`.
    #[must_use]
    pub fn scores(&self, x: &DMatrix<f64>) -> DMatrix<f64> {
        let mut scores = &self.weights * x;
        for mut column in scores.column_iter_mut() {
            column += &self.biases;
        }
        scores
    }
}

struct Objective<'a> {
    /// `[k, n]`.
    x: &'a DMatrix<f64>,
    /// `[n, k]`.
    transposed: DMatrix<f64>,
    labels: &'a [usize],
    /// Rows of weights: one per class, or one where there are two classes.
    rows: usize,
    c: f64,
}

impl Objective<'_> {
    /// `[rows, k]` and `[rows]`.
    fn split(&self, parameters: &DVector<f64>) -> (DMatrix<f64>, DVector<f64>) {
        let count = self.rows * self.x.nrows();
        let weights = DMatrix::from_column_slice(self.rows, self.x.nrows(), &parameters.as_slice()[..count]);
        (weights, DVector::from_column_slice(&parameters.as_slice()[count..]))
    }

    /// The objective over n, so that its size and the tolerance do not depend on how many examples there are.
    fn at(&self, parameters: &DVector<f64>) -> (f64, DVector<f64>) {
        let (weights, biases) = self.split(parameters);
        let n = self.x.ncols() as f64;
        let mut scores = &weights * self.x;
        let mut loss = 0.0;
        for (mut column, &label) in scores.column_iter_mut().zip(self.labels) {
            column += &biases;
            loss += if self.rows == 1 { two_classes(&mut column[0], label) } else { softmax(column, label) };
        }
        // `scores` now holds the probabilities' errors.
        let penalty = (self.c * n).recip();
        let value = loss / n + 0.5 * penalty * weights.norm_squared();
        let gradient = &scores * &self.transposed / n + weights * penalty;
        let intercepts = scores.column_sum() / n;
        (value, DVector::from_iterator(parameters.len(), gradient.iter().chain(intercepts.iter()).copied()))
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

/// The loss of a column of scores, which becomes p − one-hot.
fn softmax(mut scores: nalgebra::DVectorViewMut<'_, f64>, label: usize) -> f64 {
    let most = scores.max();
    let own = scores[label] - most;
    scores.apply(|s| *s = (*s - most).exp());
    let sum = scores.sum();
    scores /= sum;
    scores[label] -= 1.0;
    sum.ln() - own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_learnt_is_said() {
        let x = DMatrix::from_element(2, 3, 1.0);
        assert_eq!(Logistic::fit(&x, &[0, 0, 0], 1, 1.0), Err(LogisticError::OneClass));
        assert_eq!(Logistic::fit(&x, &[0, 1, 0], 2, -1.0), Err(LogisticError::Penalty(-1.0)));
    }

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let mut rng = crate::workshop::Rng::new(5);
        let x = DMatrix::from_fn(3, 9, |_, _| f64::from(rng.between(-1.0, 1.0)));
        for (rows, classes) in [(1, 2), (4, 4)] {
            let labels: Vec<usize> = (0..9).map(|i| i % classes).collect();
            let objective = Objective { x: &x, transposed: x.transpose(), labels: &labels, rows, c: 0.5 };
            let at = DVector::from_fn(rows * 4, |_, _| f64::from(rng.between(-1.0, 1.0)));
            let (_, gradient) = objective.at(&at);
            for i in 0..at.len() {
                let step =
                    |h: f64| objective.at(&(&at + DVector::from_fn(at.len(), |j, _| if i == j { h } else { 0.0 }))).0;
                assert!(((step(1e-5) - step(-1e-5)) / 2e-5 - gradient[i]).abs() < 1e-8, "{rows} rows, entry {i}");
            }
        }
    }
}
