//! What answers are worth: how many are right, whether their confidence is true, and whether it ranks them.

use super::answers::Answer;
use constancy_core::classify::Share;
use constancy_core::reliability::{Bin, Ranked, RiskAtCoverage, suited_bins};
use constancy_core::stats::{Interval, wilson};
use serde::Serialize;
use std::collections::BTreeMap;

/// A curve of more points is thinned.
const MOST_POINTS: usize = 200;

/// The quality of answers to images of the bank's classes.
#[derive(Debug, Serialize)]
pub(super) struct Quality {
    pub answers: usize,
    pub accuracy: Interval,
    /// ECE of what is stated, and what a true confidence would show by chance.
    pub calibration_error: f64,
    pub chance_error: f64,
    /// The reliability diagram, the most confident first.
    pub bins: Vec<Bin>,
    /// The area under the risk–coverage curve. Images that are unlike everything in the bank rank last.
    pub aurc: f64,
    pub accuracy_at_80: f64,
    pub curve: Vec<RiskAtCoverage>,
    /// The curve at every tenth of the answers.
    pub tenths: Vec<RiskAtCoverage>,
}

impl Quality {
    /// `None` without answers.
    pub(super) fn of(answers: &[Answer]) -> Option<Self> {
        let pairs = |value: fn(&Answer) -> f32| -> Vec<(f64, bool)> {
            let pair = |a: &Answer| (f64::from(value(a)), a.right());
            answers.iter().map(pair).collect()
        };
        let stated = Ranked::new(&pairs(|a| a.stated))?;
        let ranked = Ranked::new(&pairs(|a| a.outcome.confidence))?;
        let accuracy = share(answers, Answer::right)?;
        let bins = suited_bins(answers.len());
        let tenth = |n: u32| {
            let coverage = f64::from(n) / 10.0;
            RiskAtCoverage {
                coverage,
                risk: 1.0 - ranked.accuracy_at(coverage),
                score: ranked.threshold_at(coverage),
            }
        };
        Some(Self {
            answers: answers.len(),
            calibration_error: stated.calibration_error(bins),
            chance_error: stated.chance_error(bins),
            bins: bins_of(answers, &stated, bins),
            aurc: ranked.aurc(),
            accuracy_at_80: ranked.accuracy_at(0.8),
            curve: thinned(ranked.curve()),
            tenths: (1..=10).map(tenth).collect(),
            accuracy,
        })
    }
}

/// The share of hits with Wilson's interval at 95 %; `None` without answers. Answers of one image under several
/// interventions count as [`Share`] says.
pub(super) fn share<'a>(
    answers: impl IntoIterator<Item = &'a Answer>,
    hit: impl Fn(&Answer) -> bool,
) -> Option<Interval> {
    let mut images: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    let mut repeated = false;
    for answer in answers {
        let (all, hits) = images.entry(answer.outcome.image).or_default();
        repeated |= *all > 0.0;
        *all += 1.0;
        *hits += if hit(answer) { 1.0 } else { 0.0 };
    }
    if images.is_empty() {
        return None;
    }
    let images: Vec<(f64, f64)> = images.into_values().collect();
    if repeated {
        let Share {
            estimate,
            effective,
        } = Share::of(&images);
        return Some(wilson(estimate * effective, effective));
    }
    let hits: f64 = images.iter().map(|i| i.1).sum();
    Some(wilson(hits, images.len() as f64))
}

/// The bins of a reliability diagram. Their intervals allow for answers that are not independent.
fn bins_of(answers: &[Answer], stated: &Ranked, bins: usize) -> Vec<Bin> {
    let mut rest = stated.order();
    let mut bins = stated.bins(bins);
    for bin in &mut bins {
        let (own, others) = rest.split_at(bin.answers.min(rest.len()));
        rest = others;
        bin.right = share(own.iter().map(|&i| &answers[i]), Answer::right).unwrap_or(bin.right);
    }
    bins
}

/// Evenly spaced points of a curve, with its last.
fn thinned(curve: Vec<RiskAtCoverage>) -> Vec<RiskAtCoverage> {
    let step = curve.len().div_ceil(MOST_POINTS).max(1);
    let last = curve.len().saturating_sub(1);
    let points = curve.into_iter().enumerate();
    points
        .filter(|(i, _)| i % step == 0 || *i == last)
        .map(|(_, point)| point)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use constancy_core::classify::Outcome;

    fn answer(image: u32, right: bool, stated: f32, family: Option<usize>) -> Answer {
        let outcome = Outcome {
            confidence: stated,
            image,
            answer: 0,
            truth: Some(u32::from(!right)),
            changed: family.is_some(),
        };
        Answer {
            outcome,
            stated,
            family,
            environment: 0,
        }
    }

    #[test]
    fn figures_are_those_of_a_hand_count() {
        let answers = [(0.9, true), (0.8, true), (0.6, false), (0.4, true)];
        let answers: Vec<Answer> = (0..)
            .zip(answers)
            .map(|(i, (stated, right))| answer(i, right, stated, None))
            .collect();
        let quality = Quality::of(&answers).unwrap();
        assert_eq!(quality.accuracy, wilson(3.0, 4.0));
        assert!((quality.calibration_error - 0.075).abs() < 1e-6);
        assert!((quality.aurc - (1.0 / 3.0 + 0.25) / 4.0).abs() < 1e-6);
        // Of four, 80 % are all four.
        assert!((quality.accuracy_at_80 - 0.75).abs() < 1e-6);
        assert_eq!(quality.tenths.len(), 10);
        assert!((quality.tenths[4].score - 0.8).abs() < 1e-6 && quality.tenths[4].risk < 1e-9);
        assert!(Quality::of(&[]).is_none());
    }

    #[test]
    fn an_unfamiliar_image_ranks_last_and_keeps_what_it_states() {
        let mut answers = vec![answer(0, false, 0.99, None), answer(1, true, 0.7, None)];
        answers[0].outcome.confidence = 0.0;
        let quality = Quality::of(&answers).unwrap();
        assert!(
            (quality.aurc - 0.25).abs() < 1e-9,
            "right first, then wrong"
        );
        assert!((quality.bins[0].confidence - 0.845).abs() < 1e-6);
    }

    #[test]
    fn several_answers_of_an_image_are_worth_no_more_than_the_image() {
        let once: Vec<Answer> = (0..30).map(|i| answer(i, i < 20, 0.5, None)).collect();
        let often: Vec<Answer> = (0..300)
            .map(|i| answer(i % 30, i % 30 < 20, 0.5, Some(0)))
            .collect();
        let width = |answers: &[Answer]| {
            let Interval { low, high, .. } = share(answers, Answer::right).unwrap();
            high - low
        };
        assert!(width(&often) >= width(&once));
        let bin = |answers: &[Answer]| Quality::of(answers).unwrap().bins[0].right;
        assert!(bin(&often).low <= bin(&once).low);
    }
}
