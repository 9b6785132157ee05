//! The linear probe of a class bank: a logistic regression trained on examples, which replaces the cosines.
//!
//! Its weights live in the projected space, so they are valid for one projection only. The class means stay in the bank:
//! they detect images that resemble no example, which a probe cannot.

use crate::icm::{Logistic, LogisticError, Projection};
use crate::numeric::{dot, unit};
use nalgebra::DMatrix;
use thiserror::Error;

/// Why a probe could not be trained.
#[derive(Debug, Error, PartialEq)]
pub enum ProbeError {
    #[error("class `{0}` has no example to learn from")]
    NoExamples(String),
    #[error(transparent)]
    Logistic(#[from] LogisticError),
}

/// Weights and biases. A class's logit is the dot product of its row with the invariant embedding, plus its bias.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Digest of the projection that it was trained under, or `identity`.
    pub projection: String,
    /// Inverse regularisation strength, like scikit-learn's `C`.
    pub c: f64,
    /// `[C, k]`.
    pub weights: Vec<Vec<f32>>,
    /// `[C]`.
    pub biases: Vec<f32>,
}

impl Probe {
    /// Trains on `examples[class][image]`, embeddings `[D]` of any length, one class per label. Fails if a class has no
    /// example or the regression fails.
    ///
    /// ```
    /// use constancy_core::classify::Probe;
    ///
    /// let labels = ["ok".to_owned(), "defect".to_owned()];
    /// let examples = [vec![vec![5.0, 1.0], vec![4.0, -1.0]], vec![vec![1.0, 6.0], vec![-1.0, 3.0]]];
    /// let probe = Probe::learn(&labels, &examples, None, "identity", 1.0)?;
    /// let logits = probe.logits(&[0.0, 1.0]);
    /// assert!(logits[1] > logits[0]);
    /// # Ok::<(), constancy_core::classify::ProbeError>(())
    /// ```
    pub fn learn(
        labels: &[String],
        examples: &[Vec<Vec<f32>>],
        projection: Option<&Projection>,
        digest: &str,
        c: f64,
    ) -> Result<Self, ProbeError> {
        let empty = |(_, class): &(&String, &Vec<Vec<f32>>)| class.is_empty();
        if let Some((label, _)) = labels.iter().zip(examples).find(empty) {
            return Err(ProbeError::NoExamples(label.clone()));
        }
        let map = |e: &Vec<f32>| projection.map_or_else(|| unit(e), |p| p.apply(e));
        let columns: Vec<Vec<f32>> = examples.iter().flatten().map(map).collect();
        let classes: Vec<usize> = examples
            .iter()
            .enumerate()
            .flat_map(|(c, class)| class.iter().map(move |_| c))
            .collect();
        let rank = columns.first().map_or(0, Vec::len);
        let x = DMatrix::from_iterator(
            rank,
            columns.len(),
            columns.iter().flatten().map(|&v| f64::from(v)),
        );
        let Logistic { weights, biases } = Logistic::fit(&x, &classes, examples.len(), c)?;
        #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
        let narrow = |v: &f64| *v as f32;
        Ok(Self {
            projection: digest.into(),
            c,
            weights: weights
                .row_iter()
                .map(|row| row.iter().map(narrow).collect())
                .collect(),
            biases: biases.iter().map(narrow).collect(),
        })
    }

    /// The classes' logits `[C]` for an invariant embedding `[k]` of unit length.
    #[must_use]
    pub fn logits(&self, z: &[f32]) -> Vec<f32> {
        self.weights
            .iter()
            .zip(&self.biases)
            .map(|(row, bias)| dot(z, row) + bias)
            .collect()
    }

    /// k, the width of the embeddings that it takes.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.weights.first().map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_needs_an_example() {
        let labels = ["ok".to_owned(), "defect".to_owned()];
        let error = Probe::learn(
            &labels,
            &[vec![vec![1.0, 0.0]], vec![]],
            None,
            "identity",
            1.0,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "class `defect` has no example to learn from"
        );
    }

    #[test]
    fn a_probe_separates_its_training_examples() {
        let labels = ["ok".to_owned(), "defect".to_owned()];
        let examples = [
            vec![vec![5.0, 1.0], vec![4.0, -1.0]],
            vec![vec![1.0, 6.0], vec![-1.0, 3.0]],
        ];
        let probe = Probe::learn(&labels, &examples, None, "identity", 10.0).unwrap();
        for (class, examples) in examples.iter().enumerate() {
            for example in examples {
                let logits = probe.logits(&unit(example));
                assert!(logits[class] > logits[1 - class], "{logits:?}");
            }
        }
    }
}
