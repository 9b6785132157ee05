//! Numbers that rank answers: the more trusted the answer, the higher.
//!
//! To compare one more, add a variant to [`Ranker`], its words, and its formula in
//! [`Ranker::scores`].

use super::evidence::Evidence;
use nalgebra::DVectorView;
use serde::{Serialize, Serializer};
use std::fmt;

/// A number that ranks answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranker {
    /// The highest probability at the model's own logit scale (Hendrycks and Gimpel, ICLR 2017).
    Softmax,
    /// The same at the temperature that held-out source images ask for (Guo et al., ICML 2017).
    FittedSoftmax,
    /// The highest probability minus the second highest.
    Margin,
    /// The logarithm of the sum of exponentiated logits (Liu et al., NeurIPS 2020).
    Energy,
    /// The cosine to the nearest class: its prompt, or the mean of its images.
    Cosine,
    /// Minus the squared distance to the nearest class mean under the classes' shared covariance
    /// (Lee et al., NeurIPS 2018).
    Mahalanobis,
    /// The same, less the distance to the mean of all images (Ren et al., 2021, arXiv 2106.09022).
    RelativeMahalanobis,
    /// The cosine to the fifth nearest source image (Sun et al., ICML 2022).
    Neighbours,
}

impl Ranker {
    pub const ALL: [Self; 8] = [
        Self::Softmax,
        Self::FittedSoftmax,
        Self::Margin,
        Self::Energy,
        Self::Cosine,
        Self::Mahalanobis,
        Self::RelativeMahalanobis,
        Self::Neighbours,
    ];

    /// Whether it is a probability of being right, which can be true or not.
    #[must_use]
    pub fn is_probability(self) -> bool {
        matches!(self, Self::Softmax | Self::FittedSoftmax)
    }

    /// The number for each answer.
    pub(super) fn scores(self, evidence: &Evidence) -> Vec<f64> {
        let each = |score: &dyn Fn(DVectorView<'_, f64>) -> f64| -> Vec<f64> {
            evidence.logits.column_iter().map(score).collect()
        };
        match self {
            Self::Softmax => each(&|logits| top_two(logits, 1.0)[0]),
            Self::FittedSoftmax => each(&|logits| top_two(logits, evidence.temperature)[0]),
            Self::Margin => each(&|logits| {
                let [first, second] = top_two(logits, 1.0);
                first - second
            }),
            Self::Energy => each(&log_sum_exp),
            Self::Cosine => evidence.cosines.clone(),
            Self::Mahalanobis => evidence.mahalanobis.clone(),
            Self::RelativeMahalanobis => evidence.relative.clone(),
            Self::Neighbours => evidence.neighbours.clone(),
        }
    }
}

impl fmt::Display for Ranker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Softmax => "softmax",
            Self::FittedSoftmax => "fitted softmax",
            Self::Margin => "margin",
            Self::Energy => "energy",
            Self::Cosine => "cosine",
            Self::Mahalanobis => "Mahalanobis",
            Self::RelativeMahalanobis => "relative Mahalanobis",
            Self::Neighbours => "neighbours",
        })
    }
}

impl Serialize for Ranker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The two highest probabilities of a softmax at a temperature; the second of one class is 0.
fn top_two(logits: DVectorView<'_, f64>, temperature: f64) -> [f64; 2] {
    let mut top = [f64::NEG_INFINITY; 2];
    for &logit in &logits {
        if logit > top[0] {
            top = [logit, top[0]];
        } else if logit > top[1] {
            top[1] = logit;
        }
    }
    let weight = |logit: f64| ((logit - top[0]) / temperature).exp();
    let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    top.map(|logit| weight(logit) / total)
}

fn log_sum_exp(logits: DVectorView<'_, f64>) -> f64 {
    let most = logits.max();
    most + logits
        .iter()
        .map(|logit| (logit - most).exp())
        .sum::<f64>()
        .ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::DMatrix;

    fn evidence(logits: DMatrix<f64>) -> Evidence {
        let zeros = vec![0.0; logits.ncols()];
        Evidence {
            logits,
            temperature: 2.0,
            cosines: zeros.clone(),
            mahalanobis: zeros.clone(),
            relative: zeros.clone(),
            neighbours: zeros,
        }
    }

    fn close(found: &[f64], expected: &[f64]) {
        let near = |(f, e): (&f64, &f64)| (f - e).abs() < 1e-12;
        assert!(found.iter().zip(expected).all(near), "{found:?}");
    }

    #[test]
    fn the_formulas_hold() {
        let ln = f64::ln;
        // Probabilities 1/8, 5/8, 2/8; and 1/2 twice.
        let logits = [1e3, 1e3 + ln(5.0), 1e3 + ln(2.0), 0.0, 0.0, -1e9];
        let evidence = evidence(DMatrix::from_column_slice(3, 2, &logits));
        close(&Ranker::Softmax.scores(&evidence), &[0.625, 0.5]);
        close(&Ranker::Margin.scores(&evidence), &[0.375, 0.0]);
        close(&Ranker::Energy.scores(&evidence), &[1e3 + ln(8.0), ln(2.0)]);
        let roots = 1.0 + 5f64.sqrt() + 2f64.sqrt();
        close(
            &Ranker::FittedSoftmax.scores(&evidence),
            &[5f64.sqrt() / roots, 0.5],
        );
    }

    #[test]
    fn a_single_class_is_certain() {
        let evidence = evidence(DMatrix::from_element(1, 1, 3.0));
        close(&Ranker::Softmax.scores(&evidence), &[1.0]);
        close(&Ranker::Margin.scores(&evidence), &[1.0]);
    }
}
