//! Learns to tell images in changed light from images as they are.

use super::column::{Case, Column, both_kinds};
use crate::classify::confidence::{Feature, Sum, narrow, sigmoid};
use crate::icm::Logistic;
use nalgebra::DMatrix;

/// The inverse strength of the penalty. There are three features and hundreds of answers, so it hardly matters.
const STRENGTH: f64 = 1.0;

/// How probable changed light is, as learnt from some of the answers.
pub(super) struct Light {
    pub odds: Sum,
    /// Of all answers, in their order.
    pub shares: Vec<f64>,
}

impl Light {
    /// Learns from the answers `rows`; `None` if few of them are clean or changed, or if distance does not tell.
    pub(super) fn learn(cases: &[Case], weights: &[f64], rows: &[usize]) -> Option<Self> {
        if !both_kinds(cases, rows, |case| case.changed) {
            return None;
        }
        let columns = Feature::LIGHT.into_iter();
        let mut columns: Vec<Column> = columns
            .filter_map(|feature| Column::of(feature, cases, weights))
            .collect();
        let changed: Vec<usize> = rows
            .iter()
            .map(|&i| usize::from(cases[i].changed))
            .collect();
        let weights: Vec<f64> = rows.iter().map(|&i| weights[i]).collect();
        let offsets = vec![0.0; rows.len()];
        while !columns.is_empty() {
            let x = DMatrix::from_fn(columns.len(), rows.len(), |c, i| columns[c].values[rows[i]]);
            let fitted = Logistic::fit_weighted(&x, &changed, &weights, &offsets, STRENGTH).ok()?;
            // The two classes' scores are ∓ half the log-odds.
            let slopes: Vec<f64> = fitted.weights.row(1).iter().map(|w| 2.0 * w).collect();
            // What is far must not pass for near.
            let wrongness = |c: usize| slopes[c] * f64::from(columns[c].feature.sign());
            let worst =
                (0..columns.len()).max_by(|&a, &b| wrongness(a).total_cmp(&wrongness(b)))?;
            if wrongness(worst) > 0.0 {
                columns.remove(worst);
                continue;
            }
            let terms = columns.iter().zip(&slopes).map(|(c, &w)| c.term(w));
            let odds = Sum {
                intercept: narrow(2.0 * fitted.biases[1]),
                terms: terms.collect(),
            };
            let shares = cases.iter().map(|c| sigmoid(odds.of(&c.evidence)));
            let shares = shares.collect();
            return Some(Self { odds, shares });
        }
        None
    }
}
