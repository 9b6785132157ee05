//! How often an image of a class that the bank does not have would be called known.

use super::next_class::ClassRates;
use super::outcome::Outcome;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The interval holds 95 %.
const TAIL: f64 = 0.025;

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
    /// Where the rate of the next unseen class lies with a probability of 95 %, if it is a class like these. Few classes,
    /// and classes that differ, leave much open. `high` allows for the one class that was missing among those that could
    /// accept.
    pub low: f64,
    pub high: f64,
    /// The class that is accepted most often when it is unknown, by its index in the bank, and how often.
    pub worst: (u32, f64),
}

impl OpenSet {
    /// The rate at a threshold, from what was answered to images of classes left out, as they are or `changed` by
    /// interventions; `None` if nothing was.
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
    /// let at = OpenSet::at(&unseen, 0.8, false).ok_or("no class was left out")?;
    /// assert!((at.rate - 0.1).abs() < 1e-9 && at.worst == (1, 0.5));
    /// // The next class may be one like the worst.
    /// assert!(at.low < 0.1 && at.high > 0.5);
    /// assert_eq!(OpenSet::at(&unseen, 0.8, true), None);
    /// # Ok::<(), &str>(())
    /// ```
    #[must_use]
    pub fn at(unseen: &[Outcome], threshold: f32, changed: bool) -> Option<Self> {
        let left_out = LeftOut::of(unseen, changed, |o| o.accepted(threshold));
        let (class, hits, images) = *left_out.classes.iter().max_by(|a, b| {
            let rate = |c: &(u32, f64, f64)| c.1 / c.2;
            rate(a).total_cmp(&rate(b)).then(b.0.cmp(&a.0))
        })?;
        let next = left_out.rates();
        let rate = left_out.rate();
        Some(Self {
            threshold,
            images: left_out.images,
            classes: left_out.classes.len(),
            rate,
            low: next.next_below(TAIL).min(rate),
            high: left_out
                .with_one_more(next.next_below(1.0 - TAIL))
                .max(rate),
            worst: (class, hits / images),
        })
    }
}

/// Classes that were left out, and how many of their images were accepted.
pub(super) struct LeftOut {
    /// Class, hits and images. An image under several interventions is a hit in parts.
    classes: Vec<(u32, f64, f64)>,
    pub images: usize,
}

impl LeftOut {
    /// Counts the outcomes that are `changed`, or those that are not.
    pub(super) fn of(unseen: &[Outcome], changed: bool, hit: impl Fn(&Outcome) -> bool) -> Self {
        let mut images: BTreeMap<(u32, u32), (f64, f64)> = BTreeMap::new();
        for outcome in unseen.iter().filter(|o| o.changed == changed) {
            if let Some(class) = outcome.truth {
                let (all, hits) = images.entry((class, outcome.image)).or_default();
                *all += 1.0;
                *hits += if hit(outcome) { 1.0 } else { 0.0 };
            }
        }
        let mut classes: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for ((class, _), (all, hits)) in &images {
            let (hit, of) = classes.entry(*class).or_default();
            *hit += hits / all;
            *of += 1.0;
        }
        let distinct: BTreeSet<u32> = images.keys().map(|(_, image)| *image).collect();
        Self {
            classes: classes.into_iter().map(|(c, (h, n))| (c, h, n)).collect(),
            images: distinct.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The share of hits; classes count equally. 0 without classes.
    pub(super) fn rate(&self) -> f64 {
        let sum: f64 = self.classes.iter().map(|(_, hits, of)| hits / of).sum();
        sum / self.classes.len().max(1) as f64
    }

    pub(super) fn rates(&self) -> ClassRates {
        ClassRates::of(self.classes.iter().map(|(_, hits, of)| (*hits, *of)))
    }

    /// The rate if one more class could accept an image than there were while one was left out, each by itself.
    pub(super) fn with_one_more(&self, rate: f64) -> f64 {
        let others = (self.classes.len() as f64 - 1.0).max(1.0);
        1.0 - (1.0 - rate).powf((others + 1.0) / others)
    }
}
