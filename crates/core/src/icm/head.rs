//! Naming classes in the invariant subspace: by text, by class means, or by a linear probe.

use super::embeddings::{Embeddings, Real, transposed_product, unit_columns};
use super::logistic::{COARSE, Lessons, Logistic, LogisticError, ROUGH};
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
pub struct Head(Learnt<f64>);

/// The same in f64, or in f32 where answers are only counted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Learnt<T: Real> {
    /// The class that each row stands for: a class without examples has none.
    classes: Vec<usize>,
    rows: Rows<T>,
}

#[derive(Debug, Clone, PartialEq)]
enum Rows<T: Real> {
    /// `[k, rows]`, unit columns.
    Nearest(DMatrix<T>),
    Linear(Logistic),
}

impl Head {
    /// Learns from embeddings with a class each, under a fitted map.
    pub fn learn(
        method: &Method,
        embeddings: &Embeddings,
        labels: &[usize],
        map: &super::Map,
    ) -> Result<Self, LogisticError> {
        let (classes, rows) = rows_of(labels);
        let map = |columns: &DMatrix<f64>| map.apply_columns(columns);
        let learnt = match method {
            Method::ZeroShot(text) => {
                Learnt::nearest((0..text.len()).collect(), map(text.columns()))
            }
            Method::ClassMeans => {
                let means = class_means(embeddings.columns(), &rows, classes.len());
                Learnt::nearest(classes, map(&means))
            }
            Method::Probe { c } => {
                let logistic = Logistic::fit(&map(embeddings.columns()), &rows, classes.len(), *c)?;
                Learnt {
                    classes,
                    rows: Rows::Linear(logistic),
                }
            }
        };
        Ok(Self(learnt))
    }

    /// The class of each invariant embedding `[k, n]`.
    #[must_use]
    pub fn predict(&self, mapped: &DMatrix<f64>) -> Vec<usize> {
        self.0.predict(mapped)
    }

    /// The probe's weights, and the class of each row; `None` where classes are told apart otherwise.
    #[must_use]
    pub fn probe(&self) -> Option<(&[usize], &Logistic)> {
        match &self.0.rows {
            Rows::Linear(logistic) => Some((&self.0.classes, logistic)),
            Rows::Nearest(_) => None,
        }
    }
}

impl<T: Real> Learnt<T> {
    /// The nearest of unit columns `[k, classes]`.
    pub(super) fn nearest(classes: Vec<usize>, columns: DMatrix<T>) -> Self {
        Self {
            classes,
            rows: Rows::Nearest(columns),
        }
    }

    /// A probe of invariant embeddings `[k, n]`, to the precision that counting needs; see [`Lessons`].
    pub(super) fn probe(
        mapped: &DMatrix<T>,
        labels: &[usize],
        c: f64,
        start: Option<&Self>,
    ) -> Result<Self, LogisticError> {
        let start = start.and_then(|start| match &start.rows {
            Rows::Linear(logistic) => Some(logistic),
            Rows::Nearest(_) => None,
        });
        let (classes, rows) = rows_of(labels);
        let logistic = Lessons::new(mapped, &rows, classes.len()).learn(c, start, ROUGH)?;
        Ok(Self {
            classes,
            rows: Rows::Linear(logistic),
        })
    }

    /// A probe for each of several C, to compare these: they share what does not depend on C, and each is searched for
    /// from the one before.
    pub(super) fn probes(
        mapped: &DMatrix<T>,
        labels: &[usize],
        penalties: &[f64],
    ) -> Result<Vec<Self>, LogisticError> {
        let (classes, rows) = rows_of(labels);
        let lessons = Lessons::new(mapped, &rows, classes.len());
        let mut probes: Vec<Logistic> = Vec::new();
        for &c in penalties {
            probes.push(lessons.learn(c, probes.last(), COARSE)?);
        }
        Ok(probes
            .into_iter()
            .map(|l| Self {
                classes: classes.clone(),
                rows: Rows::Linear(l),
            })
            .collect())
    }

    /// The class of each invariant embedding `[k, n]`.
    pub(super) fn predict(&self, mapped: &DMatrix<T>) -> Vec<usize> {
        let named = match &self.rows {
            Rows::Nearest(rows) => largest(&transposed_product(rows, mapped)),
            Rows::Linear(logistic) => largest(&logistic.scores_of(mapped)),
        };
        named.into_iter().map(|row| self.classes[row]).collect()
    }
}

/// The row of each column's largest entry.
fn largest<T: Real>(scores: &DMatrix<T>) -> Vec<usize> {
    scores
        .column_iter()
        .map(|column| column.argmax().0)
        .collect()
}

/// The classes that have examples, and for each example the place of its class among these.
pub(super) fn rows_of(labels: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut classes: Vec<usize> = labels.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let rows = labels
        .iter()
        .map(|label| classes.partition_point(|class| class < label))
        .collect();
    (classes, rows)
}

/// `[D, classes]`, unit columns: of `columns` `[D, n]`, each of the class that `rows` says.
pub(super) fn class_means<T: Real>(
    columns: &DMatrix<T>,
    rows: &[usize],
    classes: usize,
) -> DMatrix<T> {
    let mut means = DMatrix::zeros(columns.nrows(), classes);
    for (column, &row) in columns.column_iter().zip(rows) {
        let mut mean = means.column_mut(row);
        mean += column;
    }
    unit_columns(means)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icm::{Fitter, Map, MapSpec, Moments};

    fn embeddings(rows: &[[f32; 2]]) -> Embeddings {
        let rows: Vec<Vec<f32>> = rows.iter().map(|r| r.to_vec()).collect();
        Embeddings::new(2, &rows, |i| i.to_string()).unwrap()
    }

    fn identity(width: usize) -> Map {
        let mut moments = Moments::new("", width);
        moments
            .add_pair("light", "image", &[1.0, 0.0], &[0.0, 1.0])
            .unwrap();
        moments.add_image("image", &[1.0, 0.0]).unwrap();
        Fitter::new(&moments)
            .unwrap()
            .fit(&MapSpec::IDENTITY)
            .unwrap()
    }

    #[test]
    fn a_class_without_examples_is_never_named() {
        let train = embeddings(&[[1.0, 0.1], [1.0, -0.1], [0.1, 1.0], [-0.1, 1.0]]);
        for method in [Method::ClassMeans, Method::Probe { c: 1.0 }] {
            let head = Head::learn(&method, &train, &[0, 0, 2, 2], &identity(2)).unwrap();
            assert_eq!(
                head.predict(embeddings(&[[3.0, 1.0], [1.0, 2.0]]).columns()),
                [0, 2],
                "{method:?}"
            );
        }
    }

    #[test]
    fn zero_shot_needs_no_examples() {
        let method = Method::ZeroShot(embeddings(&[[0.0, 2.0], [1.0, 0.0]]));
        let nothing = Embeddings::new(2, &[], |_| String::new()).unwrap();
        let head = Head::learn(&method, &nothing, &[], &identity(2)).unwrap();
        assert_eq!(
            head.predict(embeddings(&[[3.0, 1.0], [1.0, 2.0]]).columns()),
            [1, 0]
        );
    }
}
