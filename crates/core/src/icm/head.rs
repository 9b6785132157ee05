//! Naming classes in the invariant subspace: by text, by class means, or by a linear probe.

use super::embeddings::Embeddings;
use super::linalg::{Real, transposed_product, unit_columns};
use super::logistic::{COARSE, Logistic, LogisticError, ROUGH, TrainingSet};
use super::map::Map;
use super::map_set::{DirectionWeights, MapSet};
use nalgebra::DMatrix;
use std::borrow::Cow;

/// How classes are told apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// The nearest class embedding of the text tower, by cosine: `[D, classes]`. Needs no images.
    ZeroShot(Embeddings),
    /// The nearest class mean, by cosine: the unit mean of a class's unit embeddings, sent through
    /// the map. The mean is taken before the map, not after it, so that a class bank does not
    /// depend on a projection.
    ClassMeans,
    /// Multinomial logistic regression on invariant embeddings; `c` is scikit-learn's `C`.
    Probe { c: f64 },
}

/// A classification head, fitted in the space that a map leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Head(FittedHead<f64>);

/// A head in f64, or in f32 if its answers are only counted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FittedHead<T: Real> {
    /// The class of each row; a class without examples has no row.
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
    /// Fits a head to embeddings with a class each, under a fitted map.
    pub fn fit(
        method: &Method,
        embeddings: &Embeddings,
        labels: &[usize],
        map: &Map,
    ) -> Result<Self, LogisticError> {
        let (classes, rows) = rows_of(labels);
        let map = |columns: &DMatrix<f64>| map.apply_columns(columns);
        let head = match method {
            Method::ZeroShot(text) => {
                FittedHead::nearest((0..text.len()).collect(), map(text.columns()))
            }
            Method::ClassMeans => {
                let means = class_means(embeddings.columns(), &rows, classes.len());
                FittedHead::nearest(classes, map(&means))
            }
            Method::Probe { c } => {
                let logistic = Logistic::fit(&map(embeddings.columns()), &rows, classes.len(), *c)?;
                FittedHead {
                    classes,
                    rows: Rows::Linear(logistic),
                }
            }
        };
        Ok(Self(head))
    }

    /// The class of each invariant embedding `[k, n]`.
    #[must_use]
    pub fn predict(&self, mapped: &DMatrix<f64>) -> Vec<usize> {
        self.0.predict(mapped)
    }

    /// The class of each row of a probe, and its weights; `None` for the other methods.
    #[must_use]
    pub fn probe(&self) -> Option<(&[usize], &Logistic)> {
        match &self.0.rows {
            Rows::Linear(logistic) => Some((&self.0.classes, logistic)),
            Rows::Nearest(_) => None,
        }
    }
}

impl<T: Real> FittedHead<T> {
    /// Names the nearest of unit columns `[k, classes]`.
    pub(super) fn nearest(classes: Vec<usize>, columns: DMatrix<T>) -> Self {
        Self {
            classes,
            rows: Rows::Nearest(columns),
        }
    }

    /// A probe on invariant embeddings `[k, n]`, to the precision that counting needs; the search
    /// begins at `start` if a similar head is known.
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
        let logistic = TrainingSet::new(mapped, &rows, classes.len()).fit(c, start, ROUGH)?;
        Ok(Self {
            classes,
            rows: Rows::Linear(logistic),
        })
    }

    /// One probe for each C of `penalties`, for comparing them. They share what does not depend on
    /// C, and each search begins at the result before.
    pub(super) fn probes(
        mapped: &DMatrix<T>,
        labels: &[usize],
        penalties: &[f64],
    ) -> Result<Vec<Self>, LogisticError> {
        let (classes, rows) = rows_of(labels);
        let examples = TrainingSet::new(mapped, &rows, classes.len());
        let mut probes: Vec<Logistic> = Vec::new();
        for &c in penalties {
            probes.push(examples.fit(c, probes.last(), COARSE)?);
        }
        Ok(probes
            .into_iter()
            .map(|l| Self {
                classes: classes.clone(),
                rows: Rows::Linear(l),
            })
            .collect())
    }

    /// The class of each row of [`Self::logits`].
    pub(super) fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// The cosine `[n]` of each invariant embedding `[k, n]` to the nearest class; `None` for a
    /// probe, which has no class embeddings.
    pub(super) fn cosines(&self, mapped: &DMatrix<T>) -> Option<Vec<f64>> {
        let Rows::Nearest(rows) = &self.rows else {
            return None;
        };
        let cosines = transposed_product(rows, mapped);
        let nearest = cosines.column_iter().map(|column| column.max().in_f64());
        Some(nearest.collect())
    }

    /// The logits `[rows, n]` of invariant embeddings `[k, n]`: cosines times `scale`, or a probe's
    /// own.
    pub(super) fn logits(&self, mapped: &DMatrix<T>, scale: f64) -> DMatrix<f64> {
        match &self.rows {
            Rows::Nearest(rows) => transposed_product(rows, mapped).map(|c| c.in_f64() * scale),
            Rows::Linear(logistic) => logistic.scores_of(mapped),
        }
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

/// Examples with a class each, in the coordinates of a [`MapSet`].
pub(super) struct Examples<'a> {
    /// `[D, n]`.
    coordinates: DMatrix<f32>,
    /// `[D, classes]`, of the classes that have examples.
    means: DMatrix<f32>,
    labels: Cow<'a, [usize]>,
}

impl<'a> Examples<'a> {
    /// Takes unit columns `[D, n]`.
    pub(super) fn new(maps: &MapSet, columns: &DMatrix<f32>, labels: &'a [usize]) -> Self {
        let (classes, rows) = rows_of(labels);
        let means = maps.coordinates(&class_means(columns, &rows, classes.len()));
        Self {
            coordinates: maps.coordinates(columns),
            means,
            labels: Cow::Borrowed(labels),
        }
    }

    /// The examples at `indices`; `columns` are those of [`Self::new`].
    pub(super) fn pick(
        &self,
        maps: &MapSet,
        columns: &DMatrix<f32>,
        indices: &[usize],
    ) -> Examples<'static> {
        let labels: Vec<usize> = indices.iter().map(|&i| self.labels[i]).collect();
        let (classes, rows) = rows_of(&labels);
        let means = class_means(&columns.select_columns(indices), &rows, classes.len());
        Examples {
            coordinates: self.coordinates.select_columns(indices),
            means: maps.coordinates(&means),
            labels: Cow::Owned(labels),
        }
    }

    /// The class of each example.
    pub(super) fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The examples under one map of the set: unit columns `[D, n]`.
    pub(super) fn mapped(&self, weights: &DirectionWeights) -> DMatrix<f32> {
        weights.apply(&self.coordinates)
    }

    /// Fits a head under one map of the set; the search for a probe begins at `start`.
    pub(super) fn fit(
        &self,
        maps: &MapSet,
        weights: &DirectionWeights,
        method: &Method,
        start: Option<&FittedHead<f32>>,
    ) -> Result<FittedHead<f32>, LogisticError> {
        Ok(match method {
            Method::ZeroShot(text) => FittedHead::nearest(
                (0..text.len()).collect(),
                weights.apply(&maps.coordinates(&text.columns_f32())),
            ),
            Method::ClassMeans => {
                FittedHead::nearest(rows_of(&self.labels).0, weights.apply(&self.means))
            }
            Method::Probe { c } => {
                FittedHead::probe(&self.mapped(weights), &self.labels, *c, start)?
            }
        })
    }
}

/// The row of each column's largest entry.
pub(super) fn largest<T: Real>(scores: &DMatrix<T>) -> Vec<usize> {
    scores
        .column_iter()
        .map(|column| column.argmax().0)
        .collect()
}

/// The classes that have examples, in order, and each example's index among them.
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

/// The unit mean of each class, `[D, classes]`, of `columns` `[D, n]`; `rows` holds the class of
/// each column.
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
    use crate::icm::{Fitter, MapSpec, Moments};

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
            let head = Head::fit(&method, &train, &[0, 0, 2, 2], &identity(2)).unwrap();
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
        let head = Head::fit(&method, &nothing, &[], &identity(2)).unwrap();
        assert_eq!(
            head.predict(embeddings(&[[3.0, 1.0], [1.0, 2.0]]).columns()),
            [1, 0]
        );
    }
}
