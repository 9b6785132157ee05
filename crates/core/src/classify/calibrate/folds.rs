//! Classifiers that were made without the images, and without the interventions, that they answer.

use super::input::{Calibration, CalibrationError, CalibrationImage, Truth};
use crate::classify::bank::{BankWhitening, ClassBank};
use crate::classify::classifier::Classifier;
use crate::classify::probe::Probe;
use crate::icm::{ChangedImages, Covariances, Embeddings, Interventions, Labelled};
use crate::numeric::{unit, unit_mean};

/// More folds leave more images to make the classes from; ten are usual.
const FOLDS: usize = 10;

/// Families are left out a fifth of them at a time.
const GROUPS: usize = 5;
/// Each part of the images leaves out groups of families until there are so many answers: every group takes a whitening and a
/// measure of drift of its own, and more of them change little.
const ENOUGH: usize = 500;

/// Which versions of an image a fold answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Versions {
    All,
    Clean,
    /// Those under these families, which the classifier was made without.
    Under(Vec<usize>),
}

impl Versions {
    /// Whether a version is answered: clean, or under a family.
    pub(super) fn answered(&self, family: Option<usize>) -> bool {
        match (self, family) {
            (Self::All, _) | (Self::Clean, None) => true,
            (Self::Clean, Some(_)) | (Self::Under(_), None) => false,
            (Self::Under(families), Some(family)) => families.contains(&family),
        }
    }

    /// Whether a family may be learnt from.
    pub(super) fn learnt(&self, family: usize) -> bool {
        !matches!(self, Self::Under(families) if families.contains(&family))
    }
}

/// A classifier, and the calibration images that it was made without.
#[derive(Debug, Clone)]
pub struct Fold {
    pub(super) classifier: Classifier,
    /// Indices of images.
    pub(super) images: Vec<usize>,
    pub(super) versions: Versions,
    /// Whether its projection is that of the calibration, and its bank has no whitening of its own.
    pub(super) same_projection: bool,
}

impl Fold {
    /// A fold of the caller's own, under any projection. It answers all versions of its images.
    #[must_use]
    pub fn new(classifier: Classifier, images: Vec<usize>) -> Self {
        Self {
            classifier,
            images,
            versions: Versions::All,
            same_projection: false,
        }
    }
}

impl Calibration<'_> {
    /// Ten parts of the images, each class spread over them evenly. For each, the rows of classes that were made from its
    /// images are made again without them, and so are the bank's probe and whitening. An image that is its class's only one
    /// is not answered. Images under interventions are answered as light is met that nobody thought of: whitening and drift
    /// are made without their family, too. Each part leaves out one fifth of the families after the other, or only some
    /// fifths if there are many images.
    pub fn folds(&self) -> Result<Vec<Fold>, CalibrationError> {
        let assigned = self.assigned();
        let mut folds = Vec::new();
        for fold in 0..FOLDS {
            let inside = |i: usize| assigned[i] == Some(fold);
            let images: Vec<usize> = (0..self.images.len()).filter(|&i| inside(i)).collect();
            if images.is_empty() {
                continue;
            }
            let own = images.iter().any(|&i| self.images[i].own);
            let mut bank = if own {
                self.bank_without(&inside)?
            } else {
                self.bank.clone()
            };
            for versions in self.versions(fold) {
                if own {
                    bank.whitening = self.whitening_without(&inside, &versions);
                }
                folds.push(Fold {
                    classifier: self.classifier(bank.clone()),
                    images: images.clone(),
                    versions,
                    same_projection: self.bank.whitening.is_none(),
                });
            }
        }
        Ok(folds)
    }

    /// The versions of the images of a fold, apart where they need classifiers of their own.
    fn versions(&self, fold: usize) -> Vec<Versions> {
        let families = self.families.len();
        let groups = families.min(GROUPS);
        if groups < 2 {
            return vec![Versions::All];
        }
        let of_group = (self.images.len() * families).div_ceil(groups);
        let under = (0..ENOUGH.div_ceil(of_group).min(groups)).map(|k| {
            let group = (fold + k) % groups;
            Versions::Under((group..families).step_by(groups).collect())
        });
        std::iter::once(Versions::Clean).chain(under).collect()
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

    /// The bank as if the images `inside` had not been there, but for its whitening.
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
            ..self.bank.clone()
        })
    }

    /// The bank's whitening, of the same strengths, as if the images `inside` and the families of `versions` had not been
    /// there.
    fn whitening_without(
        &self,
        inside: &dyn Fn(usize) -> bool,
        versions: &Versions,
    ) -> Option<BankWhitening> {
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
        let learnt = self.families.iter().enumerate();
        let learnt = learnt.filter(|(family, _)| versions.learnt(*family));
        let families = learnt.map(|(family, name)| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::bank::BankOrigin;

    #[test]
    fn what_is_answered_under_an_intervention_was_made_without_its_family() {
        let bank = ClassBank {
            labels: vec!["ok".into(), "defect".into()],
            templates: Vec::new(),
            origin: BankOrigin::Text,
            encoder_sha256: String::new(),
            rows: vec![vec![1.0, 0.0], vec![0.0, 1.0]],
            support: None,
            probe: None,
            whitening: None,
            confidence: None,
        };
        let image = |i: usize| CalibrationImage {
            truth: Truth::Class(i % 2),
            own: false,
            embedding: vec![1.0, 0.5],
            changed: (0..7).map(|family| (family, vec![0.5, 1.0])).collect(),
        };
        let families: Vec<String> = (0..7).map(|i| i.to_string()).collect();
        for (count, most) in [(40, 7), (4000, 2)] {
            let images: Vec<CalibrationImage> = (0..count).map(image).collect();
            let calibration = Calibration {
                bank: &bank,
                projection: None,
                projection_digest: "identity",
                logit_scale: 1.0,
                encoder_sha256: "",
                images: &images,
                families: &families,
            };
            let folds = calibration.folds().expect("folds");
            let mut answers = [0; 8];
            for fold in folds.iter().filter(|f| f.images.contains(&0)) {
                answers[7] += usize::from(fold.versions.answered(None));
                for (family, count) in answers[..7].iter_mut().enumerate() {
                    if fold.versions.answered(Some(family)) {
                        *count += 1;
                        assert!(!fold.versions.learnt(family));
                    }
                }
            }
            assert!(
                answers[7] == 1 && answers.iter().all(|&n| n <= 1),
                "{answers:?}"
            );
            assert!(answers[..7].iter().sum::<usize>() <= most);
            // Over all images, every family is answered.
            let everywhere = |family| folds.iter().any(|f| f.versions.answered(Some(family)));
            assert!((0..7).all(everywhere));
        }
    }
}
