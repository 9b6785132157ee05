//! Naming classes in the invariant subspace: by text, by class means, or by a linear probe.

use super::embeddings::{Embeddings, transposed_product, unit_columns};
use super::logistic::{Logistic, LogisticError};
use nalgebra::DMatrix;

/// How classes are told apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// The nearest class embedding of the text tower, by cosine: `[D, classes]`. Learns nothing from images.
    ZeroShot(Embeddings),
    /// The nearest class mean, by cosine: the unit mean of a class's unit embeddings, sent through the map. The mean is
    /// taken before the map and not behind it, so that a class bank does not depend on a projection.
    ClassMeans,
    /// Multinomial logistic regression on invariant embeddings; `c` as scikit-learn has it.
    Probe { c: f64 },
}

/// What was learnt, in the space that a map leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The class that each row stands for: a class without examples has none.
    classes: Vec<usize>,
    rows: Rows,
}

#[derive(Debug, Clone, PartialEq)]
enum Rows {
    /// `[k, rows]`, unit columns.
    Nearest(DMatrix<f64>),
    Linear(Logistic),
}

impl Head {
    /// Learns from unit embeddings `[D, n]` with a class each, under `map`, which takes unit columns `[D, n]` to unit
    /// columns `[k, n]`.
    pub(super) fn fit(
        method: &Method,
        columns: &DMatrix<f64>,
        labels: &[usize],
        map: impl Fn(&DMatrix<f64>) -> DMatrix<f64>,
    ) -> Result<Self, LogisticError> {
        let mut classes: Vec<usize> = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        let rows = match method {
            Method::ZeroShot(text) => {
                classes = (0..text.len()).collect();
                Rows::Nearest(map(text.columns()))
            }
            Method::ClassMeans => Rows::Nearest(map(&class_means(columns, labels, &classes))),
            Method::Probe { c } => {
                let row = |label: &usize| classes.partition_point(|class| class < label);
                let labels: Vec<usize> = labels.iter().map(row).collect();
                Rows::Linear(Logistic::fit(&map(columns), &labels, classes.len(), *c)?)
            }
        };
        Ok(Self { classes, rows })
    }

    /// Learns from embeddings with a class each, under a fitted map.
    pub fn learn(
        method: &Method,
        embeddings: &Embeddings,
        labels: &[usize],
        map: &super::Map,
    ) -> Result<Self, LogisticError> {
        Self::fit(method, embeddings.columns(), labels, |columns| map.apply_columns(columns))
    }

    /// The class of each invariant embedding `[k, n]`.
    #[must_use]
    pub fn predict(&self, mapped: &DMatrix<f64>) -> Vec<usize> {
        let scores = match &self.rows {
            Rows::Nearest(rows) => transposed_product(rows, mapped),
            Rows::Linear(logistic) => logistic.scores(mapped),
        };
        scores.column_iter().map(|column| self.classes[column.argmax().0]).collect()
    }

    /// The probe's weights, and the class of each row; `None` where classes are told apart otherwise.
    #[must_use]
    pub fn probe(&self) -> Option<(&[usize], &Logistic)> {
        match &self.rows {
            Rows::Linear(logistic) => Some((&self.classes, logistic)),
            Rows::Nearest(_) => None,
        }
    }
}

/// `[D, classes]`, unit columns.
fn class_means(columns: &DMatrix<f64>, labels: &[usize], classes: &[usize]) -> DMatrix<f64> {
    let mut means = DMatrix::zeros(columns.nrows(), classes.len());
    for (column, label) in columns.column_iter().zip(labels) {
        let mut mean = means.column_mut(classes.partition_point(|class| class < label));
        mean += column;
    }
    unit_columns(means)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embeddings(rows: &[[f32; 2]]) -> Embeddings {
        let rows: Vec<Vec<f32>> = rows.iter().map(|r| r.to_vec()).collect();
        Embeddings::new(2, &rows, |i| i.to_string()).unwrap()
    }

    #[test]
    fn a_class_without_examples_is_never_named() {
        let train = embeddings(&[[1.0, 0.1], [1.0, -0.1], [0.1, 1.0], [-0.1, 1.0]]);
        for method in [Method::ClassMeans, Method::Probe { c: 1.0 }] {
            let head = Head::fit(&method, train.columns(), &[0, 0, 2, 2], Clone::clone).unwrap();
            assert_eq!(head.predict(embeddings(&[[3.0, 1.0], [1.0, 2.0]]).columns()), [0, 2], "{method:?}");
        }
    }

    #[test]
    fn zero_shot_needs_no_examples() {
        let method = Method::ZeroShot(embeddings(&[[0.0, 2.0], [1.0, 0.0]]));
        let head = Head::fit(&method, &DMatrix::zeros(2, 0), &[], Clone::clone).unwrap();
        assert_eq!(head.predict(embeddings(&[[3.0, 1.0], [1.0, 2.0]]).columns()), [1, 0]);
    }
}
