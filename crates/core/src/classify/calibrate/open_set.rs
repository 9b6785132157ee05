//! What is answered to images of a class while the bank does not have it.

use super::answers::{Projected, Seen, index};
use super::input::{Calibration, Truth};
use crate::classify::classifier::{Classifier, best};
use crate::classify::confidence::{Judge, Locator, Outcome};

/// With fewer classes, one left out leaves nothing to choose from.
const MIN_CLASSES: usize = 3;
/// Covariances are fitted without a group of classes at a time, because each takes seconds.
const GROUPS: usize = 5;

impl Calibration<'_> {
    /// Leaves out each class in turn: its row, its weights in the probe, and its images in the covariances.
    pub(super) fn unseen(
        &self,
        classifier: &Classifier,
        projected: &Projected,
        judge: &Judge,
    ) -> Vec<Outcome> {
        let classes = self.bank.rows.len();
        if classes < MIN_CLASSES {
            return Vec::new();
        }
        let mut outcomes = Vec::new();
        for group in 0..GROUPS.min(classes) {
            let inside =
                |i: &usize| matches!(self.images[*i].truth, Truth::Class(c) if c % GROUPS == group);
            let (images, others): (Vec<usize>, Vec<usize>) =
                (0..self.images.len()).partition(inside);
            let drift = judge.locator.geometry().drift.clone();
            let geometry = self.geometry(classifier, projected, &others, drift);
            for class in (group..classes).step_by(GROUPS) {
                let without = classifier.without(class);
                let mut geometry = geometry.clone();
                if let Some(centers) = &mut geometry.centers {
                    centers.remove(class);
                }
                let judge = Judge {
                    locator: Locator::new(geometry, without.rows()),
                    ..judge.clone()
                };
                let own = images
                    .iter()
                    .filter(|&&i| self.images[i].truth == Truth::Class(class));
                outcomes.extend(own.flat_map(|&i| answers(&without, &judge, projected, i, class)));
            }
        }
        outcomes.sort_by_key(|o| o.image);
        outcomes
    }
}

fn answers(
    without: &Classifier,
    judge: &Judge,
    projected: &Projected,
    image: usize,
    class: usize,
) -> Vec<Outcome> {
    let answer = |(version, seen): (usize, &Seen)| {
        let (cosines, logits) = without.scores(&seen.z);
        let verdict = judge.verdict(&logits, judge.locator.place(&seen.unit, &seen.z, &cosines));
        let found = best(&logits);
        Outcome {
            confidence: if verdict.unfamiliar {
                0.0
            } else {
                verdict.confidence
            },
            image: index(image),
            // The classes after the one left out have moved up.
            answer: index(found + usize::from(found >= class)),
            truth: Some(index(class)),
            changed: version > 0,
        }
    };
    projected.of(image).iter().enumerate().map(answer).collect()
}
