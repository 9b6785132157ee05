//! Classes on a sphere whose posterior is known exactly.
//!
//! An image of class c is drawn from a von Mises-Fisher distribution: a Gaussian around the class's direction m,
//! conditioned on unit length, with density proportional to exp(κ m·z). With classes equally likely, the posterior is
//! the softmax of κ m·z.

use constancy_core::classify::calibrate::{Calibration, CalibrationImage, Truth};
use constancy_core::classify::{BankOrigin, ClassBank, Classifier, Confidence};

pub struct Sphere {
    pub rows: Vec<Vec<f32>>,
    pub kappa: f64,
    rng: fastrand::Rng,
}

impl Sphere {
    pub fn new(classes: usize, width: usize, kappa: f64, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rows = (0..classes)
            .map(|_| unit(&gaussian(&mut rng, width)))
            .collect();
        Self { rows, kappa, rng }
    }

    pub fn class(&mut self) -> usize {
        self.rng.usize(..self.rows.len())
    }

    /// A draw from a class (Wood 1994).
    pub fn draw(&mut self, class: usize) -> Vec<f32> {
        let free = self.rows[class].len() as f64 - 1.0;
        let root = (4.0 * self.kappa.powi(2) + free.powi(2)).sqrt();
        let shape = free / (2.0 * self.kappa + root);
        let mode = (1.0 - shape) / (1.0 + shape);
        let level = self.kappa * mode + free * (1.0 - mode * mode).ln();
        let along = loop {
            // Of two sums of squares, the share of the first is beta distributed.
            let mut squares = || {
                gaussian(&mut self.rng, free as usize)
                    .iter()
                    .map(|v| v * v)
                    .sum::<f64>()
            };
            let (first, second) = (squares(), squares());
            let beta = first / (first + second);
            let along = (1.0 - (1.0 + shape) * beta) / (1.0 - (1.0 - shape) * beta);
            let density = self.kappa * along + free * (1.0 - mode * along).ln();
            if density - level >= self.rng.f64().ln() {
                break along;
            }
        };
        let mean = &self.rows[class];
        let mut away = gaussian(&mut self.rng, mean.len());
        let inside: f64 = away.iter().zip(mean).map(|(a, &m)| a * f64::from(m)).sum();
        for (a, &m) in away.iter_mut().zip(mean) {
            *a -= inside * f64::from(m);
        }
        let across = (1.0 - along * along).sqrt() / away.iter().map(|a| a * a).sum::<f64>().sqrt();
        let part = |(a, &m): (&f64, &f32)| (along * f64::from(m) + across * a) as f32;
        away.iter().zip(mean).map(part).collect()
    }

    /// The probability of the most probable class.
    pub fn posterior(&self, z: &[f32]) -> f64 {
        let dot = |row: &Vec<f32>| {
            row.iter()
                .zip(z)
                .map(|(a, b)| f64::from(a * b))
                .sum::<f64>()
        };
        let logits: Vec<f64> = self.rows.iter().map(|row| self.kappa * dot(row)).collect();
        let most = logits.iter().copied().fold(f64::MIN, f64::max);
        1.0 / logits.iter().map(|l| (l - most).exp()).sum::<f64>()
    }

    /// Images of random classes, each with further draws from its class in place of interventions.
    pub fn images(&mut self, n: usize, versions: usize) -> Vec<CalibrationImage> {
        let image = |_| {
            let class = self.class();
            CalibrationImage {
                truth: Truth::Class(class),
                own: false,
                embedding: self.draw(class),
                changed: (0..versions)
                    .map(|family| (family % 2, self.draw(class)))
                    .collect(),
            }
        };
        (0..n).map(image).collect()
    }

    pub fn bank(&self) -> ClassBank {
        ClassBank {
            labels: (0..self.rows.len()).map(|c| format!("class {c}")).collect(),
            templates: Vec::new(),
            origin: BankOrigin::Images,
            encoder_sha256: "ab".repeat(32),
            rows: self.rows.clone(),
            support: None,
            probe: None,
            whitening: None,
            confidence: None,
        }
    }
}

/// Calibrates a bank of raw embeddings, whose logits are far too sure.
pub fn calibrated(bank: &ClassBank, images: &[CalibrationImage]) -> Confidence {
    let families = ["dark".to_owned(), "blur".to_owned()];
    Calibration {
        bank,
        projection: None,
        projection_digest: "identity",
        logit_scale: 100.0,
        encoder_sha256: &"cd".repeat(32),
        images,
        families: &families,
    }
    .run(None)
    .expect("calibrated")
}

pub fn classifier(bank: &ClassBank, confidence: Confidence) -> Classifier {
    let bank = ClassBank {
        confidence: Some(confidence),
        ..bank.clone()
    };
    Classifier::new(bank, None, "identity", 100.0)
}

fn unit(v: &[f64]) -> Vec<f32> {
    let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
    v.iter().map(|x| (x / norm) as f32).collect()
}

/// Standard normal numbers (Box and Muller).
fn gaussian(rng: &mut fastrand::Rng, n: usize) -> Vec<f64> {
    let one =
        |_| (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
    (0..n).map(one).collect()
}
