//! From what a configuration asks of answers to the least confidence at which they are called known.

use super::error::RecognizerError;
use crate::config::{ClassSettings, Wanted};
use constancy_core::classify::{
    ClassBank, Confidence, Cost, DEFAULT_CONFIDENCE, DEFAULT_TARGET_LEVEL, DEFAULT_THRESHOLD,
    OpenSet, Resolved, Target, Threshold,
};

/// With fewer classes, one left out leaves nothing to choose from.
const LEAST_CLASSES: usize = 3;

/// When an answer is called known.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The least confidence or, without calibration, the least score, `0..=1`.
    pub threshold: f32,
    /// The same for answers that name a class, in the bank's order; empty if the classes do not differ.
    pub of_classes: Vec<f32>,
    /// What calibration does not show of what was asked for, or why every answer is known.
    pub warning: Option<String>,
    /// What a target rests on, for a person.
    pub basis: Option<String>,
    /// How often an image of a class that the bank does not have is known, for a person; `None` without calibration.
    pub unknown: Option<String>,
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
        limits.unknown = unknown(bank, limits.least());
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
            basis: None,
            unknown: unknown(bank, threshold),
        }
    }

    /// The lowest threshold of any class.
    fn least(&self) -> f32 {
        let lowest = self.of_classes.iter().copied().reduce(f32::min);
        lowest.unwrap_or(self.threshold)
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
            Wanted::FalseAccept(rate) => {
                if confidence.unseen.is_empty() {
                    return Err(not_measured(bank));
                }
                (Target::FalseAccept(rate), 1.0 - rate)
            }
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
            self.basis = Some(format!(
                "`{}`: 1 - refused / wrong of each class, on a confidence calibrated on {} images",
                wanted.key(),
                confidence.basis.images
            ));
            return Ok(());
        }
        let Some(resolved) = resolved.first() else {
            return Ok(());
        };
        self.threshold = threshold(resolved);
        self.basis = resolved.at.map(|at| shown(wanted, &at));
        if !resolved.reached {
            #[expect(clippy::cast_possible_truncation, reason = "thresholds are in f32")]
            let least = least as f32;
            self.threshold = self.threshold.max(least);
            self.warning = Some(unreached(wanted, resolved, self.threshold));
            self.basis = Some(format!("calibration does not show `{}`", wanted.key()));
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

/// What calibration shows of a target that is reached.
fn shown(wanted: &Wanted<'_>, at: &Threshold) -> String {
    let (risk, bound) = (at.risk * 100.0, at.bound * 100.0);
    let images = at.images;
    let what = match wanted {
        Wanted::FalseAccept(_) => format!(
            "of {images:.0} images of classes that were left out, {risk:.1} % are known, in the mean of such classes at most {bound:.1} %"
        ),
        Wanted::Precision(_) | Wanted::Costs(_) => format!(
            "of the known answers of calibration (worth {images:.0} images), {risk:.1} % are wrong, at most {bound:.1} %"
        ),
    };
    format!("`{}`: {what}, by 95 % of chances", wanted.key())
}

fn unreached(wanted: &Wanted<'_>, resolved: &Resolved, threshold: f32) -> String {
    let key = wanted.key();
    let at = resolved
        .at
        .map(|at| (at.threshold, at.risk * 100.0, at.bound * 100.0));
    let (shown, mend) = match (wanted, at) {
        (Wanted::FalseAccept(_), Some((at, risk, bound))) => (
            format!(
                "; at {at:.2}, {risk:.1} % of the images of classes that were left out are known, of classes like these up to {bound:.1} %"
            ),
            "the fewer the classes, the less they say of others: a bank of more classes shows more",
        ),
        (_, Some((at, _, bound))) => (
            format!("; at {at:.2} it shows a risk below {bound:.1} %"),
            "calibrate on more images with `constancy calibrate`",
        ),
        (_, None) => (
            String::new(),
            "calibrate on more images with `constancy calibrate`",
        ),
    };
    format!(
        "`{key}` is more than the bank's calibration can show{shown}. Answers are known from a confidence of {threshold:.2} on; {mend}"
    )
}

/// Why nobody knows how often an unknown class is accepted.
fn not_measured(bank: &ClassBank) -> RecognizerError {
    let classes = bank.labels.len();
    if classes < LEAST_CLASSES {
        RecognizerError::FewClasses { classes }
    } else {
        RecognizerError::NoneLeftOut
    }
}

/// How often an image of a class that the bank does not have is known from a threshold on.
fn unknown(bank: &ClassBank, threshold: f32) -> Option<String> {
    let confidence = bank.confidence.as_ref()?;
    Some(match confidence.open_set(threshold, false) {
        Some(OpenSet {
            rate,
            high,
            classes,
            ..
        }) => format!(
            "of images of a class that it does not have, {:.0} % are known ({classes} classes were left out in turn), of the next one up to {:.0} %",
            rate * 100.0,
            high * 100.0
        ),
        None if bank.labels.len() < LEAST_CLASSES => format!(
            "how often it takes another class for one of these is not known: measuring that takes {LEAST_CLASSES} classes"
        ),
        None => "how often it takes another class for one of these is not known: measuring that takes calibration images in one folder per class".into(),
    })
}

fn class(key: &'static str, label: &str, bank: &ClassBank) -> Result<usize, RecognizerError> {
    let found = bank.labels.iter().position(|l| l == label);
    found.ok_or_else(|| RecognizerError::NoSuchClass {
        key,
        label: label.into(),
        labels: bank.labels.join(", "),
    })
}
