//! Classifiers that were made without the images that they answer.

use super::input::{Calibration, CalibrationError, CalibrationImage, Truth};
use crate::classify::bank::{BankWhitening, ClassBank};
use crate::classify::classifier::Classifier;
use crate::classify::probe::Probe;
use crate::icm::{ChangedImages, Covariances, Embeddings, Interventions, Labelled};
use crate::numeric::{unit, unit_mean};

/// More folds leave more images to make the classes from; ten are usual.
const FOLDS: usize = 10;

/// A classifier, and the calibration images that it was made without.
#[derive(Debug, Clone)]
pub struct Fold {
    pub(super) classifier: Classifier,
    /// Indices of images.
    pub(super) images: Vec<usize>,
    /// Whether its projection is that of the calibration, and its bank has no whitening of its own.
    pub(super) same_projection: bool,
}

impl Fold {
    /// A fold of the caller's own, under any projection.
    #[must_use]
    pub fn new(classifier: Classifier, images: Vec<usize>) -> Self {
        Self {
            classifier,
            images,
            same_projection: false,
        }
    }
}

impl Calibration<'_> {
    /// Ten folds, each class spread over them evenly. In each, the rows of classes that were made from its images are made
    /// again without them, and so are the bank's probe and whitening. An image that is its class's only one is not answered.
    pub fn folds(&self) -> Result<Vec<Fold>, CalibrationError> {
        let assigned = self.assigned();
        let mut folds = Vec::new();
        for fold in 0..FOLDS {
            let inside = |i: usize| assigned[i] == Some(fold);
            let images: Vec<usize> = (0..self.images.len()).filter(|&i| inside(i)).collect();
            if images.is_empty() {
                continue;
            }
            let bank = if images.iter().any(|&i| self.images[i].own) {
                self.bank_without(&inside)?
            } else {
                self.bank.clone()
            };
            folds.push(Fold {
                classifier: self.classifier(bank),
                images,
                same_projection: self.bank.whitening.is_none(),
            });
        }
        Ok(folds)
    }

    /// The fold of each image.
    fn assigned(&self) -> Vec<Option<usize>> {
        let mut own = vec![0; self.bank.rows.len()];
        for image in self.images.iter().filter(|i| i.own) {
            if let Truth::Class(class) = image.truth {
                own[class] += 1;
            }
        }
        let mut next = vec![0; own.len() + 1];
        let assign = |image: &CalibrationImage| {
            let class = match image.truth {
                Truth::Class(class) => class,
                _ => own.len(),
            };
            if image.own && own.get(class).is_some_and(|&n| n < 2) {
                return None;
            }
            next[class] += 1;
            // Classes begin at different folds, so that small ones do not all fall into the first.
            Some((class + next[class] - 1) % FOLDS)
        };
        self.images.iter().map(assign).collect()
    }

    /// The bank as if the images `inside` had not been there.
    fn bank_without(&self, inside: &dyn Fn(usize) -> bool) -> Result<ClassBank, CalibrationError> {
        let mut examples = vec![Vec::new(); self.bank.rows.len()];
        let mut touched = vec![false; examples.len()];
        for (i, image) in self
            .images
            .iter()
            .enumerate()
            .filter(|(_, image)| image.own)
        {
            if let Truth::Class(class) = image.truth {
                touched[class] |= inside(i);
                if !inside(i) {
                    examples[class].push(image.embedding.clone());
                }
            }
        }
        let row = |class: usize| {
            if touched[class] {
                unit_mean(examples[class].iter().map(|e| unit(e)))
            } else {
                self.bank.rows[class].clone()
            }
        };
        let rows = (0..examples.len()).map(row).collect();
        let probe = self.bank.probe.as_ref().map(|probe| {
            Probe::learn(
                &self.bank.labels,
                &examples,
                self.projection,
                &probe.projection,
                probe.c,
            )
        });
        Ok(ClassBank {
            rows,
            probe: probe.transpose()?,
            whitening: self.whitening_without(inside),
            ..self.bank.clone()
        })
    }

    /// The bank's whitening, of the same strengths, as if the images `inside` had not been there.
    fn whitening_without(&self, inside: &dyn Fn(usize) -> bool) -> Option<BankWhitening> {
        let whitening = self.bank.whitening.as_ref()?;
        let kept: Vec<(usize, &CalibrationImage)> = self
            .images
            .iter()
            .enumerate()
            .filter(|(i, image)| image.own && !inside(*i))
            .filter_map(|(_, image)| match image.truth {
                Truth::Class(class) => Some((class, image)),
                _ => None,
            })
            .collect();
        let width = self.bank.rows.first()?.len();
        let embeddings = |rows: &[Vec<f32>]| Embeddings::new(width, rows, |i| i.to_string()).ok();
        let families = self.families.iter().enumerate().map(|(family, name)| {
            let (of, rows): (Vec<usize>, Vec<Vec<f32>>) = kept
                .iter()
                .enumerate()
                .flat_map(|(i, (_, image))| image.changed.iter().map(move |c| (i, c)))
                .filter(|(_, (of_family, _))| *of_family == family)
                .map(|(i, (_, row))| (i, row.clone()))
                .unzip();
            Some(ChangedImages {
                name: name.clone(),
                of,
                changed: embeddings(&rows)?,
            })
        });
        let families = families.collect::<Option<Vec<_>>>()?;
        let rows: Vec<Vec<f32>> = kept
            .iter()
            .map(|(_, image)| image.embedding.clone())
            .collect();
        let images = Interventions::new(embeddings(&rows)?, families).ok()?;
        let images = match self.projection {
            Some(projection) => images.projected(projection),
            None => images,
        };
        let classes = kept.iter().map(|(class, _)| *class).collect();
        let place = vec![String::new()];
        let labels = self.bank.labels.clone();
        let images = Labelled::new(images, classes, vec![0; kept.len()], labels, place).ok()?;
        Some(BankWhitening {
            map: Covariances::of(&images)?.whitening(whitening.strengths)?,
            ..whitening.clone()
        })
    }

    /// A classifier over a bank's classes under the calibration's projection.
    pub(super) fn classifier(&self, bank: ClassBank) -> Classifier {
        let bank = ClassBank {
            confidence: None,
            ..bank
        };
        Classifier::new(
            bank,
            self.projection.cloned(),
            self.projection_digest,
            self.logit_scale,
        )
    }
}
