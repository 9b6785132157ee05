//! What is known about the answers of one head, before anybody says whether they are right.

use super::reference::Nearness;
use super::temperature::KnownAnswers;
use crate::icm::head::{Examples, FittedHead, Method};
use crate::icm::map_set::{DirectionWeights, MapSet};
use nalgebra::DMatrix;

/// Source images are split into so many parts, each held out in turn to fit the temperature.
const FOLDS: usize = 5;
/// Parts are held out until so many images were: a temperature is one number.
const ENOUGH: usize = 200;

/// The evidence for `n` answers.
pub(super) struct Evidence {
    /// `[classes, n]`, at the model's own logit scale.
    pub logits: DMatrix<f64>,
    /// The factor that logits are divided by to make probabilities of held-out source images true.
    pub temperature: f64,
    /// The cosine to the nearest class.
    pub cosines: Vec<f64>,
    /// Minus the squared Mahalanobis distance to the nearest class.
    pub mahalanobis: Vec<f64>,
    /// The same, less that to all images.
    pub relative: Vec<f64>,
    /// The cosine to the nearest source images.
    pub neighbours: Vec<f64>,
}

impl Evidence {
    /// The evidence for invariant embeddings `[D, n]`; `nearness` is theirs to the source images.
    pub(super) fn new(
        head: &FittedHead<f32>,
        mapped: &DMatrix<f32>,
        nearness: &Nearness,
        logit_scale: f64,
        temperature: f64,
    ) -> Self {
        Self {
            logits: head.logits(mapped, logit_scale),
            temperature,
            cosines: head
                .cosines(mapped)
                .unwrap_or_else(|| nearness.cosines.clone()),
            mahalanobis: nearness.mahalanobis.clone(),
            relative: nearness.relative.clone(),
            neighbours: nearness.neighbours.clone(),
        }
    }
}

/// Answers on source images that the head was not learnt from: all for zero-shot, which learns from
/// none, else those of a few [`FOLDS`]. `columns` are those of `examples`.
pub(super) fn held_out_answers(
    (maps, weights): (&MapSet, &DirectionWeights),
    examples: &Examples<'_>,
    columns: &DMatrix<f32>,
    method: &Method,
    logit_scale: f64,
) -> Vec<KnownAnswers> {
    let labels = examples.labels();
    let mapped = examples.mapped(weights);
    if matches!(method, Method::ZeroShot(_)) {
        let head = examples.fit(maps, weights, method, None);
        let all: Vec<usize> = (0..labels.len()).collect();
        let known = head.map(|head| known_answers(&head, &mapped, &all, labels, logit_scale));
        return known.into_iter().collect();
    }
    let fold_of = folds(labels);
    let used = (ENOUGH * FOLDS).div_ceil(labels.len().max(1)).min(FOLDS);
    let held_out = |fold: usize| {
        let (out, rest): (Vec<usize>, Vec<usize>) =
            (0..labels.len()).partition(|&i| fold_of[i] == fold);
        // A part without two classes teaches no probe, and tells nothing.
        let head = examples
            .pick(maps, columns, &rest)
            .fit(maps, weights, method, None);
        let head = head.ok().filter(|_| !rest.is_empty())?;
        Some(known_answers(&head, &mapped, &out, labels, logit_scale))
    };
    (0..used).filter_map(held_out).collect()
}

/// The fold of each image: the images of a class take turns.
fn folds(labels: &[usize]) -> Vec<usize> {
    let mut seen = vec![0; labels.iter().max().map_or(0, |most| most + 1)];
    let next = |&label: &usize| {
        seen[label] += 1;
        (seen[label] - 1) % FOLDS
    };
    labels.iter().map(next).collect()
}

/// The logits of the images at `indices` whose class the head knows.
fn known_answers(
    head: &FittedHead<f32>,
    mapped: &DMatrix<f32>,
    indices: &[usize],
    labels: &[usize],
    logit_scale: f64,
) -> KnownAnswers {
    let row = |i: &usize| head.classes().iter().position(|class| *class == labels[*i]);
    let known: Vec<usize> = indices
        .iter()
        .copied()
        .filter(|i| row(i).is_some())
        .collect();
    KnownAnswers {
        logits: head.logits(&mapped.select_columns(&known), logit_scale),
        truth: known.iter().filter_map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fold_has_images_of_every_class_that_has_enough() {
        let labels: Vec<usize> = (0..30).map(|i| i / 10).chain([3, 3]).collect();
        let folds = folds(&labels);
        for fold in 0..FOLDS {
            let of_fold = |i: &usize| folds[*i] == fold;
            let classes: Vec<usize> = (0..32).filter(of_fold).map(|i| labels[i]).collect();
            assert!(classes.starts_with(&[0, 0, 1, 1, 2, 2]), "{classes:?}");
        }
        assert_eq!(folds[30..], [0, 1]);
    }
}
