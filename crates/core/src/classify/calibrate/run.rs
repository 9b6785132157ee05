//! The course of a calibration, and what is kept of its answers.

use super::answers::{Answer, Projected};
use super::column::Case;
use super::folds::{Fold, Versions};
use super::geometry::quantiles;
use super::input::{Calibration, CalibrationError};
use super::regression::{Regression, regress};
use super::temperature::{Labelled, temperature};
use crate::classify::Support;
use crate::classify::confidence::{
    Basis, Confidence, Evidence, Judge, Locator, Outcome, Tails, balanced_weights, narrow,
};

/// Most outcomes that a bank keeps: 20 bytes each, of the 2 MB that a bank may have.
const MAX_OUTCOMES: usize = 12_000;
/// Most outcomes of classes left out.
const MAX_UNSEEN: usize = 4_000;
/// The share of calibration answers beyond each of the tails that make an image unfamiliar.
const UNFAMILIAR: f64 = 0.005;
/// The share of calibration answers beyond the tail of drift.
const DRIFT: f64 = 0.01;

impl Calibration<'_> {
    /// Fits the confidence. Without `folds`, those of [`Calibration::folds`] are used; give own ones where the projection
    /// was fitted to the same images, each with a projection that was not.
    ///
    /// ```
    /// use constancy_core::classify::calibrate::{Calibration, CalibrationImage, Truth};
    /// use constancy_core::classify::{BankOrigin, ClassBank, class_means};
    ///
    /// // Two classes; every eighth image is nearly one of the other class.
    /// let at = |i: usize| {
    ///     let far = if i % 8 == 7 { 0.45 } else { 0.1 + 0.01 * (i % 7) as f32 };
    ///     if i % 2 == 0 { vec![1.0 - far, far, 0.1] } else { vec![far, 1.0 - far, 0.1] }
    /// };
    /// let examples: Vec<Vec<Vec<f32>>> =
    ///     (0..2).map(|class| (class..80).step_by(2).map(at).collect()).collect();
    /// let bank = ClassBank {
    ///     labels: vec!["ok".into(), "defect".into()],
    ///     templates: Vec::new(),
    ///     origin: BankOrigin::Images,
    ///     encoder_sha256: "ab".repeat(32),
    ///     rows: class_means(&examples),
    ///     support: None,
    ///     probe: None,
    ///     whitening: None,
    ///     confidence: None,
    /// };
    /// let image = |i: usize| CalibrationImage {
    ///     truth: Truth::Class(i % 2),
    ///     own: true,
    ///     embedding: at(i),
    ///     changed: Vec::new(),
    /// };
    /// let images: Vec<CalibrationImage> = (0..80).map(image).collect();
    /// let confidence = Calibration {
    ///     bank: &bank,
    ///     projection: None,
    ///     projection_digest: "identity",
    ///     logit_scale: 100.0,
    ///     encoder_sha256: &bank.encoder_sha256,
    ///     images: &images,
    ///     families: &[],
    /// }
    /// .run(None)?;
    /// assert_eq!((confidence.basis.images, confidence.basis.answers), (80, 80));
    /// # Ok::<(), constancy_core::classify::calibrate::CalibrationError>(())
    /// ```
    pub fn run(&self, folds: Option<Vec<Fold>>) -> Result<Confidence, CalibrationError> {
        Ok(self.run_with_support(folds)?.0)
    }

    /// [`Self::run`], and how far images as they are lie from the nearest class, each under classes and whitening that
    /// were made without it; `None` with fewer than 20 of known classes.
    pub fn run_with_support(
        &self,
        folds: Option<Vec<Fold>>,
    ) -> Result<(Confidence, Option<Support>), CalibrationError> {
        self.check()?;
        let projected = Projected::new(self);
        let folds = folds.map_or_else(|| self.folds(), Ok)?;
        let mut answers: Vec<Answer> = Vec::new();
        for fold in &folds {
            answers.extend(self.answers(fold, &projected));
        }
        if answers.is_empty() {
            return Err(CalibrationError::NoAnswers);
        }
        answers.sort_by_key(|a| a.image);
        let temperature = fitted_temperature(&answers);
        let cases: Vec<Case> = answers.iter().map(|a| a.case(temperature)).collect();
        let Regression { model, held_out } = regress(&cases, temperature);
        let tails = tails(&answers, &cases);
        let classifier = self.classifier(self.bank.clone());
        let all: Vec<usize> = (0..self.images.len()).collect();
        let mut drift = self.drift(&projected, &all, &Versions::All);
        let clean = answers.iter().filter(|a| !a.changed);
        let clean: Vec<f32> = clean.map(|a| a.place.drift).collect();
        if !clean.is_empty() && !drift.axes.is_empty() {
            drift.quantiles = quantiles(&clean);
        }
        let rows = classifier.rows();
        let geometry = self.geometry(&classifier, &projected, &all, drift);
        let judge = Judge {
            model,
            tails,
            locator: Locator::new(geometry.clone(), rows),
        };
        let reference = self.reference(&folds, &projected, &answers, &geometry.drift);
        let unseen = self.unseen(&classifier, &projected, &judge);
        let outcomes = answers
            .iter()
            .zip(held_out)
            .map(|(a, confidence)| a.outcome(confidence, &tails));
        let clean = answers.iter().filter(|a| !a.changed && a.truth.is_some());
        let cosines: Vec<f32> = clean.map(|a| a.place.cosine).collect();
        let support = Support::of_cosines(&cosines, self.projection_digest);
        let confidence = Confidence {
            projection: self.projection_digest.into(),
            encoder_sha256: self.encoder_sha256.into(),
            model: judge.model,
            geometry,
            tails,
            basis: self.basis(&answers),
            reference,
            outcomes: thinned(outcomes.collect(), MAX_OUTCOMES),
            unseen: thinned(unseen, MAX_UNSEEN),
        };
        Ok((confidence, support))
    }

    fn basis(&self, answers: &[Answer]) -> Basis {
        let accuracy = |changed: bool| {
            let those = || answers.iter().filter(move |a| a.changed == changed);
            let right = those().filter(|a| a.right()).count();
            (those().count() > 0).then(|| narrow(right as f64 / those().count() as f64))
        };
        let mut images: Vec<usize> = answers.iter().map(|a| a.image).collect();
        images.dedup();
        Basis {
            images: images.len(),
            answers: answers.len(),
            families: self.families.to_vec(),
            accuracy_clean: accuracy(false),
            accuracy_changed: accuracy(true),
        }
    }
}

fn fitted_temperature(answers: &[Answer]) -> f32 {
    let changed: Vec<bool> = answers.iter().map(|a| a.changed).collect();
    let weights = balanced_weights(&changed);
    let labelled = answers.iter().zip(weights).filter_map(|(a, weight)| {
        Some(Labelled {
            logits: &a.logits,
            truth: a.truth?,
            weight,
        })
    });
    narrow(temperature(&labelled.collect::<Vec<_>>()))
}

/// Where the tails of the answers begin, clean and changed ones weighed equally.
fn tails(answers: &[Answer], cases: &[Case]) -> Tails {
    let changed: Vec<bool> = answers.iter().map(|a| a.changed).collect();
    let weights = balanced_weights(&changed);
    let tail = |of: &dyn Fn(&Evidence) -> f32, share: f64| {
        let mut values: Vec<(f32, f64)> = cases
            .iter()
            .map(|c| of(&c.evidence))
            .zip(weights.iter().copied())
            .collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut left = share * weights.iter().sum::<f64>();
        let at = values.iter().find(|(_, weight)| {
            left -= weight;
            left <= 0.0
        });
        at.or(values.last()).map_or(0.0, |v| v.0)
    };
    Tails {
        cosine: tail(&|e| e.cosine, UNFAMILIAR),
        mahalanobis: tail(&|e| e.mahalanobis, 1.0 - UNFAMILIAR),
        drift: tail(&|e| e.drift, 1.0 - DRIFT),
    }
}

/// At most about `most` outcomes, of whole images.
fn thinned(outcomes: Vec<Outcome>, most: usize) -> Vec<Outcome> {
    let step = u32::try_from(outcomes.len().div_ceil(most))
        .unwrap_or(u32::MAX)
        .max(1);
    outcomes
        .into_iter()
        .filter(|o| o.image % step == 0)
        .collect()
}
