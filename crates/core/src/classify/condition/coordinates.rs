//! A move of the mean of frames as another mix of classes, and how much of it that leaves to the light.

use super::mix::ClassMix;
use crate::classify::Classifier;
use crate::classify::confidence::narrow;
use crate::numeric::dot;
use nalgebra::{DMatrix, DVector};

/// A move must exceed chance by this factor before any of it counts. With 1, this is James and Stein's estimate.
const MARGIN: f64 = 2.0;
/// Singular values smaller than this share of the largest are none.
const SINGULAR: f64 = 1e-6;

/// Gives class coordinates under one classifier.
pub(in crate::classify) struct Coordinates<'a> {
    classifier: &'a Classifier,
    classes: &'a [u32],
    inverse: DMatrix<f64>,
}

impl<'a> Coordinates<'a> {
    /// `None` if the classifier does not tell the classes apart.
    pub(in crate::classify) fn new(
        classifier: &'a Classifier,
        classes: &'a [u32],
        moves: &[Vec<f32>],
    ) -> Option<Self> {
        let columns: Vec<DVector<f64>> = moves
            .iter()
            .map(|m| contrast(classifier, classes, m))
            .collect();
        let matrix = DMatrix::from_columns(&columns);
        let largest = matrix.norm();
        let inverse = matrix.pseudo_inverse(SINGULAR * largest).ok()?;
        let some = largest > 0.0 && inverse.iter().all(|v| v.is_finite());
        some.then_some(Self {
            classifier,
            classes,
            inverse,
        })
    }

    /// The class coordinates `[C]` of a difference of unit embeddings `[D]`.
    pub(in crate::classify) fn of(&self, difference: &[f32]) -> DVector<f64> {
        &self.inverse * contrast(self.classifier, self.classes, difference)
    }
}

/// What a difference of unit embeddings changes in the logits of some classes, less their mean; scaled by any constant.
fn contrast(classifier: &Classifier, classes: &[u32], difference: &[f32]) -> DVector<f64> {
    let z = classifier.space().linear(difference, false);
    let directions = classifier.directions();
    let along = classes.iter().map(|&c| {
        let row = directions.get(c as usize);
        row.map_or(0.0, |row| f64::from(dot(row, &z)))
    });
    let logits = DVector::from_iterator(classes.len(), along);
    let mean = logits.mean();
    logits.map(|l| l - mean)
}

impl ClassMix {
    /// The share of a difference `[D]` between the mean of so many frames and that of the calibration, `0..=1`, that is more
    /// than chance and the usual changes of a mix would do along what tells classes apart.
    pub(super) fn light(
        &self,
        classifier: &Classifier,
        difference: &[f32],
        frames: usize,
    ) -> Option<f32> {
        let coordinates = Coordinates::new(classifier, &self.classes, &self.moves)?;
        let along = coordinates.of(difference);
        let chance = self.chance(frames);
        let free = (self.classes.len() - 1) as f64;
        let inverse = chance
            .clone()
            .pseudo_inverse(SINGULAR * chance.norm())
            .ok()?;
        let size = (along.transpose() * inverse * &along)[(0, 0)];
        let light = (1.0 - MARGIN * free / size.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        Some(narrow(light))
    }
}
