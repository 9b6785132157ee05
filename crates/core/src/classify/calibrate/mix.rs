//! Where the calibration's classes lie, for [`ClassMix`].

use super::answers::{Projected, index};
use super::folds::Fold;
use super::input::{Calibration, Truth};
use crate::classify::classifier::best;
use crate::classify::condition::{ClassMix, Coordinates, MAX_CLASSES};
use crate::classify::confidence::narrow;
use nalgebra::{DMatrix, DVector};
use std::collections::BTreeMap;

/// Images of a class that its place and scatter need.
const MIN_IMAGES: usize = 2;

impl Calibration<'_> {
    /// `None` where fewer than two classes have images, or the bank does not tell them apart. `mean` is that of the
    /// reference.
    pub(super) fn class_mix(
        &self,
        folds: &[Fold],
        projected: &Projected,
        mean: &[f32],
    ) -> Option<ClassMix> {
        let classes = self.images_of_classes(folds, projected);
        if classes.len() < 2 {
            return None;
        }
        let inverse: f64 = classes.values().map(|i| 1.0 / i.len() as f64).sum();
        let images = (classes.len() as f64).powi(2) / inverse;
        let names: Vec<u32> = classes.keys().map(|&c| index(c)).collect();
        let scatter = class_scatter(folds, projected, &classes, &names, mean)?;
        let moves = moves(projected, &classes, mean, &|_| true);
        Some(ClassMix {
            classes: names,
            moves,
            scatter: scatter.iter().map(|&v| narrow(v)).collect(),
            images: narrow(images),
        })
    }

    /// The images of each class, for those of most images; unlabelled ones are of the class that they are answered.
    fn images_of_classes(
        &self,
        folds: &[Fold],
        projected: &Projected,
    ) -> BTreeMap<usize, Vec<usize>> {
        let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for fold in clean(folds) {
            for &image in &fold.images {
                let class = match self.images[image].truth {
                    Truth::Class(class) => class,
                    Truth::Other => continue,
                    Truth::Unlabelled => {
                        let z = fold.classifier.invariant(&projected.of(image)[0].unit);
                        best(&fold.classifier.scores(&z).1)
                    }
                };
                classes.entry(class).or_default().push(image);
            }
        }
        let mut largest: Vec<usize> = classes.keys().copied().collect();
        largest.sort_by_key(|class| std::cmp::Reverse(classes[class].len()));
        largest.truncate(MAX_CLASSES);
        classes.retain(|class, images| largest.contains(class) && images.len() >= MIN_IMAGES);
        classes
    }
}

/// The covariance `[C, C]` of images around their class, each under the classifier that was made without it.
fn class_scatter(
    folds: &[Fold],
    projected: &Projected,
    classes: &BTreeMap<usize, Vec<usize>>,
    names: &[u32],
    mean: &[f32],
) -> Option<DMatrix<f64>> {
    let mut placed: Vec<Vec<DVector<f64>>> = vec![Vec::new(); classes.len()];
    for fold in clean(folds) {
        let outside = |image: usize| !fold.images.contains(&image);
        let moves = moves(projected, classes, mean, &outside);
        let Some(coordinates) = Coordinates::new(&fold.classifier, names, &moves) else {
            continue;
        };
        for (own, placed) in classes.values().zip(&mut placed) {
            for &image in own.iter().filter(|&&i| !outside(i)) {
                let unit = &projected.of(image)[0].unit;
                let away: Vec<f32> = unit.iter().zip(mean).map(|(u, m)| u - m).collect();
                placed.push(coordinates.of(&away));
            }
        }
    }
    let mut sum = DMatrix::zeros(names.len(), names.len());
    let mut count = 0;
    for class in placed.iter().filter(|p| p.len() > 1) {
        let center = class.iter().sum::<DVector<f64>>() / class.len() as f64;
        for at in class {
            let away = at - &center;
            sum += &away * away.transpose();
        }
        count += class.len() - 1;
    }
    (count > 0).then(|| sum / count as f64)
}

/// The folds that answer images as they are: together, every image once.
fn clean(folds: &[Fold]) -> impl Iterator<Item = &Fold> {
    folds.iter().filter(|fold| fold.versions.answered(None))
}

/// How far the mean of each class's images, of those that are `kept`, is from `mean`; without any, of all its images.
fn moves(
    projected: &Projected,
    classes: &BTreeMap<usize, Vec<usize>>,
    mean: &[f32],
    kept: &dyn Fn(usize) -> bool,
) -> Vec<Vec<f32>> {
    let of = |images: &Vec<usize>| {
        let some: Vec<usize> = images.iter().copied().filter(|&i| kept(i)).collect();
        let some = if some.is_empty() { images } else { &some };
        let own = projected.mean(some);
        let away = own.iter().zip(mean).map(|(o, &m)| narrow(o - f64::from(m)));
        away.collect()
    };
    classes.values().map(of).collect()
}
