//! From what a configuration asks of answers to the least confidence at which they are called known.

use super::error::RecognizerError;
use crate::config::{ClassSettings, Wanted};
use constancy_core::classify::{
    ClassBank, Confidence, Cost, DEFAULT_CONFIDENCE, DEFAULT_TARGET_LEVEL, DEFAULT_THRESHOLD,
    Resolved, Target,
};

/// No target lowers a threshold below this: a class that the bank does not have would be accepted.
const FLOOR: f32 = 0.5;

/// When an answer is called known.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The least confidence or, without calibration, the least score, `0..=1`.
    pub threshold: f32,
    /// The same for answers that name a class, in the bank's order; empty if the classes do not differ.
    pub of_classes: Vec<f32>,
    /// What calibration does not show of what was asked for, or why every answer is known.
    pub warning: Option<String>,
}

impl Limits {
    /// What `classes` asks for, for the answers of `bank`. Fails if it names a class that the bank does not have, or a
    /// target for a bank that was not calibrated.
    pub fn of(classes: &ClassSettings, bank: &ClassBank) -> Result<Self, RecognizerError> {
        let mut limits = Self::usual(bank);
        limits.threshold = classes.threshold.unwrap_or(limits.threshold);
        if let Some(wanted) = classes.wanted() {
            let Some(confidence) = &bank.confidence else {
                return Err(RecognizerError::NotCalibrated { key: wanted.key() });
            };
            limits.aim(&wanted, confidence, bank)?;
        }
        if !classes.thresholds.is_empty() {
            let mut of_classes = vec![limits.threshold; bank.labels.len()];
            for (label, threshold) in &classes.thresholds {
                of_classes[class("classes.thresholds", label, bank)?] = *threshold;
            }
            limits.of_classes = of_classes;
        }
        Ok(limits)
    }

    /// The limits where nothing is asked for.
    #[must_use]
    pub fn usual(bank: &ClassBank) -> Self {
        let threshold = match &bank.confidence {
            Some(_) => DEFAULT_CONFIDENCE,
            None => DEFAULT_THRESHOLD,
        };
        Self {
            threshold,
            of_classes: Vec::new(),
            warning: lone_class(bank),
        }
    }

    fn aim(
        &mut self,
        wanted: &Wanted<'_>,
        confidence: &Confidence,
        bank: &ClassBank,
    ) -> Result<(), RecognizerError> {
        let (target, least) = match *wanted {
            // Where calibration cannot show it, the confidence itself must.
            Wanted::Precision(p) => (Target::Precision(p), p),
            Wanted::FalseAccept(rate) => (Target::FalseAccept(rate), 1.0 - rate),
            Wanted::Costs(costs) => {
                let mut of_classes = vec![
                    Cost {
                        wrong: 1.0,
                        refused: 1.0 - f64::from(DEFAULT_CONFIDENCE)
                    };
                    bank.labels.len()
                ];
                for (label, cost) in costs {
                    of_classes[class("classes.cost", label, bank)?] = Cost {
                        wrong: cost.wrong,
                        refused: cost.refused,
                    };
                }
                (Target::Costs(of_classes), 0.0)
            }
        };
        let resolved = confidence.resolve(&target, DEFAULT_TARGET_LEVEL, None);
        if matches!(target, Target::Costs(_)) {
            self.of_classes = resolved.iter().map(threshold).collect();
            return Ok(());
        }
        let Some(resolved) = resolved.first() else {
            return Ok(());
        };
        self.threshold = threshold(resolved).max(FLOOR);
        if !resolved.reached {
            #[expect(clippy::cast_possible_truncation, reason = "thresholds are in f32")]
            let least = least as f32;
            self.threshold = self.threshold.max(least);
            self.warning = Some(unreached(wanted, resolved, self.threshold));
        }
        Ok(())
    }
}

/// A softmax over one class is 1, whatever the image shows.
fn lone_class(bank: &ClassBank) -> Option<String> {
    let [label] = &bank.labels[..] else {
        return None;
    };
    let blind = bank.confidence.is_none() && bank.support.is_none();
    blind.then(|| {
        format!(
            "`{label}` is the only class, so every image is called that; add a class for what else may be seen, or make a class bank from images"
        )
    })
}

fn threshold(resolved: &Resolved) -> f32 {
    resolved.at.map_or(1.0, |at| at.threshold)
}

fn unreached(wanted: &Wanted<'_>, resolved: &Resolved, threshold: f32) -> String {
    let shown = resolved.at.map_or_else(String::new, |at| {
        format!(
            "; at {:.2} it shows a risk below {:.1} %",
            at.threshold,
            at.bound * 100.0
        )
    });
    format!(
        "`{}` is more than the bank's calibration can show{shown}. Answers are known from a confidence of {threshold:.2} on; calibrate on more images with `constancy calibrate`",
        wanted.key()
    )
}

fn class(key: &'static str, label: &str, bank: &ClassBank) -> Result<usize, RecognizerError> {
    let found = bank.labels.iter().position(|l| l == label);
    found.ok_or_else(|| RecognizerError::NoSuchClass {
        key,
        label: label.into(),
        labels: bank.labels.join(", "),
    })
}
