//! How often an image of a class that the bank does not have would be called known.

use super::outcome::Outcome;
use super::share::{Share, kish};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The level of each bound: the interval holds 95 %.
const BOUND_LEVEL: f64 = 0.975;

/// How often images of unseen classes are accepted: each class was left out in turn, and its images were answered by the
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OpenSet {
    /// The least confidence of a known answer.
    pub threshold: f32,
    pub images: usize,
    pub classes: usize,
    /// The share of answers accepted; classes count equally.
    pub rate: f64,
    /// The interval of the rate at 95 %. Its width comes from the differences between classes: the next class is another.
    /// `high` allows for the one class that was missing among those that could accept.
    pub low: f64,
    pub high: f64,
    /// The class that is accepted most often when it is unknown, by its index in the bank, and how often.
    pub worst: (u32, f64),
}

impl OpenSet {
    /// The rate at a threshold, from what was answered to images of classes left out; `None` if nothing was.
    ///
    /// ```
    /// use constancy_core::classify::{OpenSet, Outcome};
    ///
    /// let outcome = |image: u32| Outcome {
    ///     confidence: if image % 10 == 0 { 0.9 } else { 0.2 },
    ///     image,
    ///     answer: 0,
    ///     truth: Some(1 + image % 5),
    ///     changed: false,
    /// };
    /// let unseen: Vec<Outcome> = (0..200).map(outcome).collect();
    /// let at = OpenSet::at(&unseen, 0.8).ok_or("no class was left out")?;
    /// assert!((at.rate - 0.1).abs() < 1e-9 && at.low < 0.1 && at.high > 0.1);
    /// assert_eq!(at.worst, (1, 0.5));
    /// # Ok::<(), &str>(())
    /// ```
    #[must_use]
    pub fn at(unseen: &[Outcome], threshold: f32) -> Option<Self> {
        let mut classes: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for outcome in unseen {
            let (total, hits) = classes.entry(outcome.truth?).or_default();
            *total += 1.0;
            *hits += if outcome.accepted(threshold) {
                1.0
            } else {
                0.0
            };
        }
        let images = unseen
            .iter()
            .map(|o| o.image)
            .collect::<BTreeSet<_>>()
            .len();
        let rates = classes.values().map(|(total, hits)| (1.0, hits / total));
        let share = Share::capped(&rates.collect::<Vec<_>>(), images_worth(unseen));
        let worst = classes
            .iter()
            .map(|(&class, (total, hits))| (class, hits / total));
        Some(Self {
            threshold,
            images,
            classes: classes.len(),
            rate: share.estimate,
            low: share.lower(BOUND_LEVEL),
            high: with_one_more(share.upper(BOUND_LEVEL), classes.len()),
            worst: worst.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?,
        })
    }
}

/// The rate if one more than `classes − 1` classes could accept an image, each by itself.
fn with_one_more(rate: f64, classes: usize) -> f64 {
    let others = (classes as f64 - 1.0).max(1.0);
    1.0 - (1.0 - rate).powf((others + 1.0) / others)
}

/// The effective number of images.
fn images_worth(outcomes: &[Outcome]) -> f64 {
    let mut images: BTreeMap<u32, f64> = BTreeMap::new();
    for outcome in outcomes {
        *images.entry(outcome.image).or_default() += 1.0;
    }
    kish(images.into_values())
}
