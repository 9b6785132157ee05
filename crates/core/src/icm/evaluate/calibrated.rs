//! How a projection fares when it is calibrated for the target's light, from a few of the target's images without their
//! labels: of all classes, or, to see what it costs, of one.

use super::chosen_maps::Answers;
use crate::classify::calibrate::{Calibration, CalibrationError, CalibrationImage, Truth};
use crate::classify::condition::MIN_FRAMES;
use crate::classify::{BankOrigin, ClassBank, Classifier, class_means};
use crate::icm::head::Method;
use crate::icm::held_out::HeldOut;
use crate::icm::labelled::Labelled;
use crate::icm::map::Map;
use crate::numeric::{Rng, unit};
use serde::{Serialize, Serializer};
use std::fmt;

/// How often frames of all classes are drawn.
const DRAWS: usize = 10;
/// The projection and the model are known to fit; these names only have to be equal.
const NAME: &str = "evaluated";

/// Which images of the target a row was calibrated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalibratedOn {
    /// At random.
    All,
    /// Of one class, each in turn.
    OneClass,
}

impl CalibratedOn {
    pub(super) const EACH: [Self; 2] = [Self::All, Self::OneClass];
}

impl fmt::Display for CalibratedOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::All => "calibrated",
            Self::OneClass => "calibrated on one class",
        })
    }
}

impl Serialize for CalibratedOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What calibration needs beside a map.
pub(super) struct Calibrating<'a> {
    pub sources: &'a Labelled,
    pub target: &'a HeldOut,
    pub logit_scale: f64,
    /// Images of the target to calibrate on.
    pub frames: usize,
    pub seed: u64,
}

impl Calibrating<'_> {
    /// The share of draws in which each image of the target was answered right, other than those that it was calibrated
    /// on; in the order of [`CalibratedOn::EACH`].
    pub(super) fn answers(
        &self,
        map: &Map,
        method: &Method,
    ) -> Result<[Answers; 2], CalibrationError> {
        let classifier = self.classifier(map, method)?;
        let target = Target::new(&classifier, self.target);
        let mut rng = Rng::new(self.seed);
        let all: Vec<usize> = (0..self.target.classes().len()).collect();
        let windows = (0..DRAWS).map(|_| self.window(&all, &mut rng)).collect();
        let classes = self.sources.class_names().len();
        let single = |class: usize| {
            let own = all.iter().filter(|&&i| self.target.classes()[i] == class);
            let own: Vec<usize> = own.copied().collect();
            (own.len() >= MIN_FRAMES).then(|| self.window(&own, &mut rng))
        };
        let singles: Vec<Vec<usize>> = (0..classes).filter_map(single).collect();
        Ok([windows, singles].map(|windows| target.answers(&windows)))
    }

    fn window(&self, from: &[usize], rng: &mut Rng) -> Vec<usize> {
        let mut order = rng.permutation(from.len());
        order.truncate(self.frames);
        order.into_iter().map(|i| from[i]).collect()
    }

    /// The classifier of a map, which knows the light of the sources.
    fn classifier(&self, map: &Map, method: &Method) -> Result<Classifier, CalibrationError> {
        let images = self.images();
        let mut examples = vec![Vec::new(); self.sources.class_names().len()];
        for image in &images {
            if let Truth::Class(class) = image.truth {
                examples[class].push(image.embedding.clone());
            }
        }
        let (origin, rows) = match method {
            Method::ZeroShot(text) => (BankOrigin::Text, text.rows().map(|r| unit(&r)).collect()),
            _ => (BankOrigin::Images, class_means(&examples)),
        };
        let bank = ClassBank {
            labels: self.sources.class_names().to_vec(),
            templates: Vec::new(),
            origin,
            encoder_sha256: NAME.into(),
            rows,
            support: None,
            probe: None,
            whitening: None,
            confidence: None,
        };
        let projection = map.projection();
        #[expect(clippy::cast_possible_truncation, reason = "it was an f32")]
        let logit_scale = self.logit_scale as f32;
        let families = self.sources.images().families().iter();
        let calibration = Calibration {
            bank: &bank,
            projection: Some(&projection),
            projection_digest: NAME,
            logit_scale,
            encoder_sha256: NAME,
            images: &images,
            families: &families.map(|f| f.name.clone()).collect::<Vec<_>>(),
        };
        let reference = calibration.light()?;
        let classifier = Classifier::new(bank, Some(projection), NAME, logit_scale);
        Ok(classifier.with_reference(reference))
    }

    fn images(&self) -> Vec<CalibrationImage> {
        let originals = self.sources.images().originals().rows();
        let mut images: Vec<CalibrationImage> = originals
            .zip(self.sources.classes())
            .map(|(embedding, &class)| CalibrationImage {
                truth: Truth::Class(class),
                own: true,
                embedding,
                changed: Vec::new(),
            })
            .collect();
        for (number, family) in self.sources.images().families().iter().enumerate() {
            for (&of, row) in family.of.iter().zip(family.changed.rows()) {
                if let Some(image) = images.get_mut(of) {
                    image.changed.push((number, row));
                }
            }
        }
        images
    }
}

/// The target's images under a classifier.
struct Target<'a> {
    classifier: &'a Classifier,
    embeddings: Vec<Vec<f32>>,
    /// In invariant space, not scaled: an offset is subtracted there.
    mapped: Vec<Vec<f32>>,
    classes: &'a [usize],
}

impl<'a> Target<'a> {
    fn new(classifier: &'a Classifier, target: &'a HeldOut) -> Self {
        let embeddings: Vec<Vec<f32>> = target.embeddings().rows().collect();
        let map = |e: &Vec<f32>| classifier.space().linear(&unit(e), true);
        Self {
            classifier,
            mapped: embeddings.iter().map(map).collect(),
            embeddings,
            classes: target.classes(),
        }
    }

    fn answers(&self, windows: &[Vec<usize>]) -> Answers {
        let mut counts = vec![(0.0, 0.0); self.mapped.len()];
        for window in windows {
            let frames: Vec<Vec<f32>> =
                window.iter().map(|&i| self.embeddings[i].clone()).collect();
            let offset = self.classifier.estimate(&frames).ok();
            let moved = offset.map(|o| self.classifier.space().linear(&o.vector, false));
            let mut judged = vec![true; counts.len()];
            for &i in window {
                judged[i] = false;
            }
            for i in (0..counts.len()).filter(|&i| judged[i]) {
                counts[i].0 += f64::from(u8::from(self.right(i, moved.as_deref())));
                counts[i].1 += 1.0;
            }
        }
        // An image that every calibration used is judged without one.
        let hit = |(i, &(right, times)): (usize, &(f64, f64))| {
            if times > 0.0 {
                right / times
            } else {
                f64::from(u8::from(self.right(i, None)))
            }
        };
        Answers {
            hits: counts.iter().enumerate().map(hit).collect(),
            scores: Vec::new(),
            open: Vec::new(),
        }
    }

    fn right(&self, image: usize, moved: Option<&[f32]>) -> bool {
        let mut z = self.mapped[image].clone();
        if let Some(moved) = moved {
            z.iter_mut().zip(moved).for_each(|(z, m)| *z -= m);
        }
        self.classifier.answer(&unit(&z)) == self.classes[image]
    }
}
