//! The answers to calibration images, and where the images lie.

use super::column::Case;
use super::folds::{Fold, Versions};
use super::geometry;
use super::input::{Calibration, Truth};
use crate::classify::bank::BankOrigin;
use crate::classify::classifier::{Classifier, best};
use crate::classify::confidence::{Drift, Evidence, Geometry, Locator, Outcome, Place, Tails};
use crate::numeric::unit;

/// One embedding: of unit length, and invariant.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub unit: Vec<f32>,
    pub z: Vec<f32>,
}

/// All embeddings under the calibration's projection, which is the costly part: `[image][0]` is clean.
pub(super) struct Projected(Vec<Vec<Seen>>);

impl Projected {
    pub(super) fn new(calibration: &Calibration<'_>) -> Self {
        let classifier = calibration.classifier(calibration.bank.clone());
        let images = 0..calibration.images.len();
        Self(images.map(|i| calibration.seen(&classifier, i)).collect())
    }

    /// The same embeddings in the space of another classifier.
    fn under(&self, classifier: &Classifier) -> Self {
        let again = |s: &Seen| Seen {
            unit: s.unit.clone(),
            z: classifier.invariant(&s.unit),
        };
        let images = self.0.iter();
        Self(
            images
                .map(|seen| seen.iter().map(again).collect())
                .collect(),
        )
    }

    pub(super) fn of(&self, image: usize) -> &[Seen] {
        &self.0[image]
    }

    /// The mean of these images as they are, of unit length each: `[D]`. There is at least one.
    pub(super) fn mean(&self, images: &[usize]) -> Vec<f64> {
        let mut sum = vec![0.0f64; images.first().map_or(0, |&i| self.of(i)[0].unit.len())];
        for &image in images {
            let unit = &self.of(image)[0].unit;
            sum.iter_mut()
                .zip(unit)
                .for_each(|(s, &u)| *s += f64::from(u));
        }
        let count = images.len() as f64;
        sum.iter().map(|s| s / count).collect()
    }
}

/// One answer by a classifier that was made without the image.
pub(super) struct Answer {
    pub image: usize,
    /// 0 for the image as it is, else one more than the index among [`CalibrationImage::changed`].
    ///
    /// [`CalibrationImage::changed`]: super::CalibrationImage::changed
    pub version: usize,
    pub changed: bool,
    pub logits: Vec<f32>,
    pub place: Place,
    /// The class that was answered.
    pub found: usize,
    pub truth: Option<usize>,
}

impl Answer {
    pub(super) fn right(&self) -> bool {
        self.truth == Some(self.found)
    }

    pub(super) fn case(&self, temperature: f32) -> Case {
        Case {
            evidence: Evidence::new(&self.logits, temperature, self.place),
            right: self.right(),
            image: index(self.image),
            changed: self.changed,
        }
    }

    pub(super) fn outcome(&self, confidence: f32, tails: &Tails) -> Outcome {
        Outcome {
            confidence: if tails.unfamiliar(&self.place) {
                0.0
            } else {
                confidence
            },
            image: index(self.image),
            answer: index(self.found),
            truth: self.truth.map(index),
            changed: self.changed,
        }
    }
}

/// Images and classes are far fewer than 2^24, which the bank's file can hold.
pub(super) fn index(i: usize) -> u32 {
    u32::try_from(i).unwrap_or(u32::MAX)
}

/// An answer that a window is drawn from.
pub(super) struct Shown<'a> {
    pub answer: &'a Answer,
    /// The class that counts as its own.
    pub class: usize,
    /// 0 for images as they are, else one more than the index of the family.
    pub condition: usize,
}

impl Calibration<'_> {
    fn seen(&self, classifier: &Classifier, image: usize) -> Vec<Seen> {
        let given = &self.images[image];
        let embeddings =
            std::iter::once(&given.embedding).chain(given.changed.iter().map(|c| &c.1));
        embeddings
            .map(|e| Seen {
                unit: unit(e),
                z: classifier.invariant(e),
            })
            .collect()
    }

    /// The answers of a fold's classifier to the fold's images.
    pub(super) fn answers(&self, fold: &Fold, projected: &Projected) -> Vec<Answer> {
        let own: Projected;
        let projected = if fold.same_projection {
            projected
        } else {
            own = projected.under(&fold.classifier);
            &own
        };
        let mut inside = vec![false; self.images.len()];
        fold.images.iter().for_each(|&i| inside[i] = true);
        let others: Vec<usize> = (0..inside.len()).filter(|&i| !inside[i]).collect();
        let drift = self.drift(projected, &others, &fold.versions);
        let geometry = self.geometry(&fold.classifier, projected, &others, drift);
        let locator = Locator::new(geometry, fold.classifier.rows());
        let mut answers = Vec::new();
        for &image in &fold.images {
            let clean = projected
                .of(image)
                .first()
                .map(|s| fold.classifier.scores(&s.z));
            let truth = match self.images[image].truth {
                Truth::Class(class) => Some(class),
                Truth::Other => None,
                Truth::Unlabelled => clean.map(|(_, logits)| best(&logits)),
            };
            for (version, seen) in projected.of(image).iter().enumerate() {
                let family = version.checked_sub(1);
                let family = family.map(|v| self.images[image].changed[v].0);
                // A clean one that nobody labelled would be right by definition.
                let certain = family.is_none() && self.images[image].truth == Truth::Unlabelled;
                if certain || !fold.versions.answered(family) {
                    continue;
                }
                let (cosines, logits) = fold.classifier.scores(&seen.z);
                answers.push(Answer {
                    image,
                    version,
                    changed: version > 0,
                    place: locator.place(&seen.unit, &seen.z, &cosines),
                    found: best(&logits),
                    logits,
                    truth,
                });
            }
        }
        answers
    }

    /// The geometry of the clean images `among` the calibration's.
    pub(super) fn geometry(
        &self,
        classifier: &Classifier,
        projected: &Projected,
        among: &[usize],
        drift: Drift,
    ) -> Geometry {
        let placed = |&i: &usize| {
            let z = &projected.of(i)[0].z;
            let class = match self.images[i].truth {
                Truth::Class(class) => Some(class),
                Truth::Other => None,
                Truth::Unlabelled => Some(best(&classifier.scores(z).1)),
            };
            geometry::Placed { z, class }
        };
        let text = self.bank.origin == BankOrigin::Text;
        let placed: Vec<_> = among.iter().map(placed).collect();
        geometry::fit(&placed, classifier.rows(), text, drift)
    }

    /// Where interventions that may be learnt from move the images `among` the calibration's.
    pub(super) fn drift(
        &self,
        projected: &Projected,
        among: &[usize],
        versions: &Versions,
    ) -> Drift {
        let mut moves = vec![Vec::new(); self.families.len()];
        let mut clean: Vec<&[f32]> = Vec::new();
        for &i in among {
            let Some((original, seen)) = projected.of(i).split_first() else {
                continue;
            };
            clean.push(&original.unit);
            let changed = seen.iter().zip(&self.images[i].changed);
            for (version, (family, _)) in changed.filter(|(_, (f, _))| versions.learnt(*f)) {
                let moved = version.unit.iter().zip(&original.unit).map(|(a, b)| a - b);
                if moves.len() <= *family {
                    moves.resize(family + 1, Vec::new());
                }
                moves[*family].push(moved.collect());
            }
        }
        geometry::drift(&clean, &moves)
    }
}
