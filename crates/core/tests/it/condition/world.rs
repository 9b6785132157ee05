//! Classes around a common mean, and a light that moves all of them along one direction, which tells classes apart, too.

use constancy_core::classify::calibrate::{Calibration, CalibrationImage, Truth};
use constancy_core::classify::{BankOrigin, ClassBank, Classifier, Confidence, class_means};

pub const WIDTH: usize = 24;
pub const CLASSES: usize = 4;

pub struct World {
    /// How far classes lie along the light's direction.
    pub along: f32,
    rng: fastrand::Rng,
}

impl World {
    pub fn new(along: f32, seed: u64) -> Self {
        Self {
            along,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// An image of a class in a light, 0 in that of the calibration.
    pub fn image(&mut self, class: usize, light: f32) -> Vec<f32> {
        let mut v: Vec<f32> = (0..WIDTH).map(|_| 0.07 * self.normal()).collect();
        v[0] += 1.0;
        // Where light moves what tells classes apart, little else does.
        v[1 + class] += if self.along > 0.0 { 0.06 } else { 0.3 };
        // Light moves what tells classes apart, too, and everything a little.
        let light = light + self.along * (class as f32 - 1.5);
        v[10] += light;
        v[1] += 0.8 * light;
        v[20] -= 0.5 * light;
        v
    }

    pub fn frames(&mut self, n: usize, classes: &[usize], light: f32) -> Vec<Vec<f32>> {
        (0..n)
            .map(|i| self.image(classes[i % classes.len()], light))
            .collect()
    }

    fn normal(&mut self) -> f32 {
        let (a, b) = (1.0 - self.rng.f32(), self.rng.f32());
        (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
    }

    /// A bank of `n` images of each class, calibrated under two families of light.
    pub fn bank(&mut self, n: usize) -> ClassBank {
        let mut images = Vec::new();
        let mut examples = vec![Vec::new(); CLASSES];
        for i in 0..n * CLASSES {
            let class = i % CLASSES;
            let (strength, other) = (0.2 + 0.4 * self.rng.f32(), 0.2 + 0.4 * self.rng.f32());
            let image = self.image(class, 0.0);
            // The same image in another light.
            let moved = |light: f32| {
                let mut v = image.clone();
                v[10] += light;
                v[1] += 0.8 * light;
                v[20] -= 0.5 * light;
                v
            };
            images.push(CalibrationImage {
                truth: Truth::Class(class),
                own: true,
                changed: vec![(0, moved(strength)), (1, moved(-other))],
                embedding: image.clone(),
            });
            examples[class].push(image);
        }
        let mut bank = ClassBank {
            labels: (0..CLASSES).map(|c| format!("class {c}")).collect(),
            templates: Vec::new(),
            origin: BankOrigin::Images,
            encoder_sha256: "ab".repeat(32),
            rows: class_means(&examples),
            support: None,
            probe: None,
            whitening: None,
            confidence: None,
        };
        bank.confidence = Some(calibrated(&bank, &images));
        bank
    }

    pub fn right(&mut self, classifier: &Classifier, offset: Option<&[f32]>, light: f32) -> f32 {
        let right = (0..400).filter(|i| {
            let class = i % CLASSES;
            let decision = classifier.classify_in(&self.image(class, light), offset);
            decision.top[0].class == format!("class {class}")
        });
        right.count() as f32 / 400.0
    }
}

fn calibrated(bank: &ClassBank, images: &[CalibrationImage]) -> Confidence {
    Calibration {
        bank,
        projection: None,
        projection_digest: "identity",
        logit_scale: 100.0,
        encoder_sha256: &"ab".repeat(32),
        images,
        families: &["brighter".to_owned(), "darker".to_owned()],
    }
    .run(None)
    .expect("calibrated")
}

pub fn classifier(bank: &ClassBank) -> Classifier {
    Classifier::new(bank.clone(), None, "identity", 100.0)
}
