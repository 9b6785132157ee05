//! What is called known at thresholds, and how much of it is wrong.

use super::answers::{Answer, HeldOut};
use super::quality::share;
use constancy_core::classify::{ClassBank, DEFAULT_TARGET_LEVEL, OpenSet, Target, Threshold};
use constancy_core::stats::Interval;
use serde::Serialize;

/// The thresholds that every bank is asked about.
const FIXED: [f32; 7] = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];
/// The least shares of right answers that thresholds are looked for.
pub(super) const PRECISIONS: [f64; 3] = [0.9, 0.95, 0.99];

/// Where a threshold comes from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    Fixed,
    /// The threshold that figures by class go by.
    Set,
    /// The bank's calibration, for at least this share of right answers.
    Bank {
        precision: f64,
        stated_risk: f64,
    },
}

/// One threshold.
#[derive(Debug, Serialize)]
pub(super) struct AtThreshold {
    pub threshold: f32,
    pub origin: Origin,
    pub as_they_are: Known,
    pub under_interventions: Option<Known>,
    /// The risk of images as they are or under interventions, whichever is worse: a target holds for both.
    pub worst_risk: Option<Interval>,
    /// Images that are no class of the bank.
    pub unknown: Unknown,
}

/// Answers to images of the bank's classes.
#[derive(Debug, Serialize)]
pub(super) struct Known {
    /// The share called known.
    pub coverage: Interval,
    /// How many these are.
    pub answers: usize,
    /// The share of wrong ones among these; `None` without any.
    pub risk: Option<Interval>,
}

/// False accepts.
#[derive(Debug, Serialize)]
pub(super) struct Unknown {
    /// The share called known; `None` without such images.
    pub as_they_are: Option<Interval>,
    pub under_interventions: Option<Interval>,
    /// What the bank states of images as they are: the share of its own classes' images that were called known while each
    /// was left out. The interval is that of the next class.
    pub stated: Option<Interval>,
    /// The same under interventions.
    pub stated_under_interventions: Option<Interval>,
}

impl Known {
    /// `None` without answers.
    pub(super) fn at(answers: &[Answer], threshold: f32) -> Option<Self> {
        let known = |a: &&Answer| a.outcome.accepted(threshold);
        Some(Self {
            coverage: share(answers, |a| known(&a))?,
            answers: answers.iter().filter(known).count(),
            risk: share(answers.iter().filter(known), |a| !a.right()),
        })
    }
}

/// All thresholds, ascending.
pub(super) fn thresholds(bank: &ClassBank, held: &HeldOut, set: f32) -> Vec<AtThreshold> {
    let (clean, changed) = (held.as_they_are(), held.changed());
    let unknown = |changed: bool| held.those(|a| !a.of_bank() && a.family.is_some() == changed);
    let (unknown, unknown_changed) = (unknown(false), unknown(true));
    let row = |(threshold, origin): (f32, Origin)| {
        let accepted = |answers: &[Answer]| share(answers, |a| a.outcome.accepted(threshold));
        let stated = |changed: bool| {
            let OpenSet {
                rate, low, high, ..
            } = bank.confidence.as_ref()?.open_set(threshold, changed)?;
            let estimate = rate;
            Some(Interval {
                estimate,
                low,
                high,
            })
        };
        let as_they_are = Known::at(&clean, threshold)?;
        let under_interventions = Known::at(&changed, threshold);
        let risks = [
            as_they_are.risk,
            under_interventions.as_ref().and_then(|k| k.risk),
        ];
        let worst_risk = risks
            .into_iter()
            .flatten()
            .max_by(|a, b| a.estimate.total_cmp(&b.estimate));
        Some(AtThreshold {
            threshold,
            origin,
            as_they_are,
            under_interventions,
            worst_risk,
            unknown: Unknown {
                as_they_are: accepted(&unknown),
                under_interventions: accepted(&unknown_changed),
                stated: stated(false),
                stated_under_interventions: changed.first().and_then(|_| stated(true)),
            },
        })
    };
    let mut asked = asked(bank, set);
    asked.sort_by(|a, b| a.0.total_cmp(&b.0));
    asked.into_iter().filter_map(row).collect()
}

fn asked(bank: &ClassBank, set: f32) -> Vec<(f32, Origin)> {
    let fixed = FIXED.into_iter().filter(|t| t.to_bits() != set.to_bits());
    let mut all: Vec<(f32, Origin)> = fixed.map(|t| (t, Origin::Fixed)).collect();
    all.push((set, Origin::Set));
    all.extend(PRECISIONS.into_iter().filter_map(|precision| {
        let at = stated(bank, precision)?;
        let stated_risk = at.bound;
        let origin = Origin::Bank {
            precision,
            stated_risk,
        };
        Some((at.threshold, origin))
    }));
    all
}

/// The threshold from which the bank's calibration shows this share of right answers.
fn stated(bank: &ClassBank, precision: f64) -> Option<Threshold> {
    let confidence = bank.confidence.as_ref()?;
    let target = Target::Precision(precision);
    let resolved = confidence.resolve(&target, DEFAULT_TARGET_LEVEL, None);
    resolved.into_iter().find(|r| r.reached)?.at
}

/// The shares of right answers that the bank's calibration shows from no threshold on.
pub(super) fn unreached(bank: &ClassBank) -> Vec<f64> {
    let missing = PRECISIONS.into_iter();
    let missing = missing.filter(|&p| bank.confidence.is_some() && stated(bank, p).is_none());
    missing.collect()
}
