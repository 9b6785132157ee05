//! What another mix of classes does to the mean of frames, and how much of a move it leaves to the light.

use crate::classify::Classifier;
use crate::classify::confidence::narrow;
use crate::numeric::dot;
use nalgebra::{DMatrix, DVector};

/// Most classes whose mix is looked at: those of most images.
pub(in crate::classify) const MAX_CLASSES: usize = 128;
/// How far the share of each class among some frames usually is from that in the calibration, in shares of its own.
const VARIES: f64 = 0.3;
/// A move must exceed chance by this factor before any of it counts. With 1, this is James and Stein's estimate.
const MARGIN: f64 = 2.0;
/// Singular values smaller than this share of the largest are none.
const SINGULAR: f64 = 1e-6;

/// Where the calibration's classes lie, and how far single images are from there, in *class coordinates*: a vector as the
/// change of the classes' shares that would move the logits of their mean as it does.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassMix {
    /// Indices of the classes in the bank: `[C]`, 2 or more.
    pub classes: Vec<u32>,
    /// How far the mean of each class is from [`Reference::mean`](super::Reference::mean): `[C, D]`.
    pub moves: Vec<Vec<f32>>,
    /// The covariance of one image's class coordinates around those of its class: `[C, C]`, row by row.
    pub scatter: Vec<f32>,
    /// The number of images that the mean of the calibration rests on, as if classes had the same number.
    pub images: f32,
}

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
    /// Splits the difference `[D]` between the mean of so many frames and that of the calibration: what another mix of
    /// classes would do, and the share of it, `0..=1`, that is more than chance and the usual changes of a mix would do.
    pub(super) fn split(
        &self,
        classifier: &Classifier,
        difference: &[f32],
        frames: usize,
    ) -> Option<(Vec<f32>, f32)> {
        let coordinates = Coordinates::new(classifier, &self.classes, &self.moves)?;
        let along = coordinates.of(difference);
        let mut explained = vec![0.0; difference.len()];
        for (a, class) in along.iter().zip(&self.moves) {
            let terms = explained.iter_mut().zip(class);
            terms.for_each(|(e, &m)| *e += narrow(a * f64::from(m)));
        }
        let chance = self.chance(frames);
        let free = (self.classes.len() - 1) as f64;
        let inverse = chance
            .clone()
            .pseudo_inverse(SINGULAR * chance.norm())
            .ok()?;
        let size = (along.transpose() * inverse * &along)[(0, 0)];
        let light = (1.0 - MARGIN * free / size.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        Some((explained, narrow(light)))
    }

    /// The covariance of the class coordinates of a mean of frames in the calibration's light.
    fn chance(&self, frames: usize) -> DMatrix<f64> {
        let n = self.classes.len();
        let count = n as f64;
        let of_mix = (VARIES / count).powi(2) * count / (count - 1.0);
        let of_mean = 1.0 / frames.max(1) as f64 + 1.0 / f64::from(self.images);
        DMatrix::from_fn(n, n, |i, j| {
            let mix = of_mix * (f64::from(u8::from(i == j)) - 1.0 / count);
            mix + of_mean * f64::from(self.scatter[i * n + j])
        })
    }

    /// Says whether these are values that no calibration gives; `width` is D.
    pub(super) fn is_impossible(&self, width: usize) -> bool {
        let n = self.classes.len();
        let finite = |v: &[f32]| v.iter().all(|v| v.abs() < 1e6);
        let moves = self.moves.iter().all(|m| m.len() == width && finite(m));
        let sizes = self.moves.len() == n && self.scatter.len() == n * n;
        let fine = sizes && moves && finite(&self.scatter) && self.images >= 1.0;
        !fine || !(2..=MAX_CLASSES).contains(&n) || !self.images.is_finite()
    }
}
