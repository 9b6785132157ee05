//! How far answers can be trusted: is a confidence true, and does a score rank right answers above
//! wrong ones?
//!
//! - Calibration: [`Ranked::bins`] compares confidence with the share of right answers, and
//!   [`Ranked::calibration_error`] sums up the difference (ECE; Naeini et al., AAAI 2015) over bins
//!   of equal mass (Nguyen and O'Connor, EMNLP 2015).
//! - Ranking: [`Ranked::curve`] is the risk among the answers that are kept, by how many are kept,
//!   and [`Ranked::aurc`] the area under it (Geifman and El-Yaniv, NeurIPS 2017).
//!
//! All figures hold for every order of the answers: those of equal score share a bin, and count with
//! the mean over their orders where a curve has to cut between them.

use crate::stats::{Interval, wilson};
use serde::Serialize;

/// The usual number of bins.
pub const BINS: usize = 15;
/// Bins with fewer answers show chance more than calibration.
pub const LEAST_IN_BIN: usize = 20;

/// [`BINS`], or as many as give each [`LEAST_IN_BIN`] answers.
///
/// ```
/// use constancy_core::reliability::suited_bins;
///
/// assert_eq!([suited_bins(10), suited_bins(100), suited_bins(5_000)], [1, 5, 15]);
/// ```
#[must_use]
pub fn suited_bins(answers: usize) -> usize {
    (answers / LEAST_IN_BIN).clamp(1, BINS)
}

/// Answers in descending order of their score.
///
/// ```
/// use constancy_core::reliability::Ranked;
///
/// // Sure and right, sure and right, less sure and wrong, unsure and right.
/// let answers = [(0.9, true), (0.8, true), (0.6, false), (0.4, true)];
/// let ranked = Ranked::new(&answers).ok_or("no answers")?;
/// // Keeping one, two, three or all four, the share of wrong ones is 0, 0, 1/3 and 1/4.
/// assert!((ranked.aurc() - (1.0 / 3.0 + 1.0 / 4.0) / 4.0).abs() < 1e-12);
/// assert_eq!(ranked.accuracy_at(0.5), 1.0);
/// // In one bin: three of four are right, and the mean confidence is 0.675.
/// assert!((ranked.calibration_error(1) - 0.075).abs() < 1e-12);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Index of each answer as it was given.
    order: Vec<usize>,
    scores: Vec<f64>,
    right: Vec<bool>,
    /// Where runs of equal scores end.
    ends: Vec<usize>,
}

/// One point of a risk–coverage curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RiskAtCoverage {
    /// The share of answers that are kept, `0..=1`.
    pub coverage: f64,
    /// The share of wrong ones among them, `0..=1`.
    pub risk: f64,
    /// The score of the last that is kept.
    pub score: f64,
}

/// Answers of similar confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    pub answers: usize,
    /// The mean confidence.
    pub confidence: f64,
    /// The share of right answers, with its Wilson interval.
    pub right: Interval,
}

/// The sums of a bin.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    answers: f64,
    confidence: f64,
    right: f64,
    /// Σ p (1 − p): the variance of the number of right answers if the confidence is true.
    variance: f64,
}

impl Sums {
    fn add(&mut self, score: f64, right: bool, times: f64) {
        self.answers += times;
        self.confidence += times * score;
        self.right += if right { times } else { 0.0 };
        self.variance += times * score * (1.0 - score);
    }

    fn take_in(&mut self, other: &Self) {
        self.answers += other.answers;
        self.confidence += other.confidence;
        self.right += other.right;
        self.variance += other.variance;
    }
}

impl Ranked {
    /// Ranks answers, given as score and whether they were right; `None` if there are none, or a
    /// score is not a number.
    #[must_use]
    pub fn new(answers: &[(f64, bool)]) -> Option<Self> {
        if answers.is_empty() || answers.iter().any(|(score, _)| score.is_nan()) {
            return None;
        }
        let mut order: Vec<usize> = (0..answers.len()).collect();
        // Adding 0 makes −0 and 0 the same score.
        let score = |i: usize| answers[i].0 + 0.0;
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        let scores: Vec<f64> = order.iter().map(|&i| score(i)).collect();
        let last = scores.len() - 1;
        let ends = (0..=last)
            .filter(|&i| i == last || scores[i] > scores[i + 1])
            .map(|i| i + 1)
            .collect();
        let right = order.iter().map(|&i| answers[i].1).collect();
        Some(Self {
            order,
            scores,
            right,
            ends,
        })
    }

    /// Index of each answer as it was given, in the order of the ranking.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The expected calibration error in `bins` bins of equal mass, `0..=1`: the mean, over answers,
    /// of the difference between a bin's confidence and its share of right answers. Scores must be
    /// probabilities.
    #[must_use]
    pub fn calibration_error(&self, bins: usize) -> f64 {
        self.calibration_error_of(&self.once(), bins)
    }

    /// [`Self::calibration_error`] where each answer counts `times`, in the order of the ranking.
    #[must_use]
    pub fn calibration_error_of(&self, times: &[u32], bins: usize) -> f64 {
        let sums = self.sums(times, bins);
        let total: f64 = sums.iter().map(|bin| bin.answers).sum();
        let apart = sums.iter().map(|bin| (bin.right - bin.confidence).abs());
        apart.sum::<f64>() / total.max(1.0)
    }

    /// The calibration error that a true confidence would show by chance, with these scores in these
    /// bins: E|N(0, Σp(1−p))| of each.
    #[must_use]
    pub fn chance_error(&self, bins: usize) -> f64 {
        let sums = self.sums(&self.once(), bins);
        let mean_of_half_normal = (2.0 / std::f64::consts::PI).sqrt();
        let apart = sums
            .iter()
            .map(|bin| bin.variance.max(0.0).sqrt() * mean_of_half_normal);
        apart.sum::<f64>() / self.scores.len() as f64
    }

    /// The bins of a reliability diagram, the most confident first.
    #[must_use]
    pub fn bins(&self, bins: usize) -> Vec<Bin> {
        let bin = |sums: Sums| Bin {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of answers"
            )]
            answers: sums.answers as usize,
            confidence: sums.confidence / sums.answers,
            right: wilson(sums.right, sums.answers),
        };
        self.sums(&self.once(), bins).into_iter().map(bin).collect()
    }

    /// The area under the risk–coverage curve, `0..=1`: the mean share of wrong answers among the
    /// first 1, 2, … all. Less is better; the share of wrong answers overall is what a score without
    /// information gives.
    #[must_use]
    pub fn aurc(&self) -> f64 {
        self.aurc_of(&self.once())
    }

    /// [`Self::aurc`] where each answer counts `times`, in the order of the ranking.
    #[must_use]
    pub fn aurc_of(&self, times: &[u32]) -> f64 {
        let (mut area, mut kept, mut wrong) = (0.0, 0.0, 0.0);
        for (answers, failed) in self.ties(times) {
            for n in 1..=answers {
                let n = f64::from(n);
                area += (wrong + f64::from(failed) * n / f64::from(answers)) / (kept + n);
            }
            kept += f64::from(answers);
            wrong += f64::from(failed);
        }
        if kept > 0.0 { area / kept } else { 0.0 }
    }

    /// The share of right answers among the `coverage` (`0..=1`) with the highest scores; at least
    /// one is kept.
    #[must_use]
    pub fn accuracy_at(&self, coverage: f64) -> f64 {
        self.accuracy_at_of(&self.once(), coverage)
    }

    /// [`Self::accuracy_at`] where each answer counts `times`, in the order of the ranking.
    #[must_use]
    pub fn accuracy_at_of(&self, times: &[u32], coverage: f64) -> f64 {
        let total: u32 = times.iter().sum();
        // A product such as 0.8 · 35 must not round up to one more.
        let wanted = (coverage * f64::from(total) - 1e-9).ceil().max(1.0);
        let (mut kept, mut wrong) = (0.0, 0.0);
        for (answers, failed) in self.ties(times).into_iter().filter(|(n, _)| *n > 0) {
            let taken = f64::from(answers).min(wanted - kept);
            kept += taken;
            wrong += f64::from(failed) * taken / f64::from(answers);
        }
        1.0 - wrong / wanted
    }

    /// The risk–coverage curve, the most confident answers first: one point for each score.
    #[must_use]
    pub fn curve(&self) -> Vec<RiskAtCoverage> {
        let (mut kept, mut wrong) = (0.0, 0.0);
        let ties = self.ties(&self.once()).into_iter().zip(&self.ends);
        ties.map(|((answers, failed), &end)| {
            kept += f64::from(answers);
            wrong += f64::from(failed);
            RiskAtCoverage {
                coverage: kept / self.scores.len() as f64,
                risk: wrong / kept,
                score: self.scores[end - 1],
            }
        })
        .collect()
    }

    /// The least score among the `coverage` (`0..=1`) of answers with the highest: a threshold that
    /// keeps at least as many.
    #[must_use]
    pub fn threshold_at(&self, coverage: f64) -> f64 {
        let wanted = (coverage * self.scores.len() as f64 - 1e-9).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of answers"
        )]
        let last = (wanted.max(1.0) as usize).min(self.scores.len());
        self.scores[last - 1]
    }

    /// Every answer counts once.
    fn once(&self) -> Vec<u32> {
        vec![1; self.scores.len()]
    }

    /// How many answers each score has, and how many of them are wrong.
    fn ties(&self, times: &[u32]) -> Vec<(u32, u32)> {
        let mut start = 0;
        let tie = |&end: &usize| {
            let range = std::mem::replace(&mut start, end)..end;
            range.fold((0, 0), |(answers, wrong), i| {
                let failed = if self.right[i] { 0 } else { times[i] };
                (answers + times[i], wrong + failed)
            })
        };
        self.ends.iter().map(tie).collect()
    }

    /// The sums of at most `bins` bins with an equal share of the answers each, as far as equal
    /// scores allow. None has less than half of its share, unless there is only one.
    fn sums(&self, times: &[u32], bins: usize) -> Vec<Sums> {
        let total: u32 = times.iter().sum();
        let share = f64::from(total) / bins.max(1) as f64;
        let (mut all, mut bin, mut seen, mut start) = (Vec::new(), Sums::default(), 0.0, 0);
        // Bins end at multiples of a share; a large run of equal scores takes several at once.
        let mut until = share;
        for &end in &self.ends {
            for (i, &times) in times.iter().enumerate().take(end).skip(start) {
                bin.add(self.scores[i], self.right[i], times.into());
                seen += f64::from(times);
            }
            start = end;
            if bin.answers > 0.0 && seen + 1e-9 >= until {
                all.push(std::mem::take(&mut bin));
                until = ((seen + 1e-9) / share + 0.5).ceil() * share;
            }
        }
        match all.last_mut() {
            Some(last) if bin.answers < 0.5 * share => last.take_in(&bin),
            _ if bin.answers > 0.0 => all.push(bin),
            _ => {}
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranked(answers: &[(f64, bool)]) -> Ranked {
        Ranked::new(answers).unwrap()
    }

    #[test]
    fn nothing_and_no_number_cannot_be_ranked() {
        assert_eq!(Ranked::new(&[]), None);
        assert_eq!(Ranked::new(&[(0.5, true), (f64::NAN, true)]), None);
    }

    #[test]
    fn a_score_without_information_has_the_risk_of_all_answers() {
        let answers: Vec<(f64, bool)> = (0..10).map(|i| (0.5, i < 7)).collect();
        let ranked = ranked(&answers);
        assert!((ranked.aurc() - 0.3).abs() < 1e-12);
        assert!((ranked.accuracy_at(0.25) - 0.7).abs() < 1e-12);
        assert_eq!(ranked.curve().len(), 1);
        assert_eq!(ranked.bins(5).len(), 1, "equal scores share a bin");
    }

    #[test]
    fn bins_have_equal_mass() {
        let answers: Vec<(f64, bool)> = (0..100).map(|i| (f64::from(i) / 100.0, true)).collect();
        let bins = ranked(&answers).bins(4);
        assert!(bins.iter().all(|bin| bin.answers == 25) && bins.len() == 4);
        assert!((bins[0].confidence - 0.87).abs() < 1e-12, "{bins:?}");
        assert!(bins[0].right.low > 0.8 && bins[0].right.high > 0.999);
    }

    #[test]
    fn equal_scores_leave_no_bin_of_single_answers() {
        // 70 equal scores in the middle take most of four bins of 25.
        let score = |i: u32| {
            if (12..82).contains(&i) {
                0.5
            } else {
                1.0 - f64::from(i) / 100.0
            }
        };
        let answers: Vec<(f64, bool)> = (0..100).map(|i| (score(i), true)).collect();
        let sizes = |bins: usize| -> Vec<usize> {
            ranked(&answers)
                .bins(bins)
                .iter()
                .map(|bin| bin.answers)
                .collect()
        };
        assert_eq!(sizes(4), [82, 18]);
        assert_eq!(sizes(10), [10, 72, 8, 10]);
        assert_eq!(sizes(20), [5, 5, 72, 3, 5, 5, 5]);
        // The last answers are fewer than half of a share.
        let few: Vec<(f64, bool)> = (0..100)
            .map(|i| (if i < 97 { 0.9 } else { 0.1 }, true))
            .collect();
        assert_eq!(ranked(&few).bins(10).len(), 1);
    }

    #[test]
    fn a_coverage_keeps_no_answer_more_by_rounding() {
        let answers: Vec<(f64, bool)> = (0..35).map(|i| (f64::from(35 - i), i < 28)).collect();
        let ranked = ranked(&answers);
        assert!((ranked.accuracy_at(0.8) - 1.0).abs() < 1e-12);
        assert!((ranked.threshold_at(0.8) - 8.0).abs() < 1e-12);
        assert!((ranked.accuracy_at(1.0) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn a_true_confidence_differs_by_chance_alone() {
        let mut rng = crate::numeric::Rng::new(11);
        let mut draw = || f64::from(rng.between(0.0, 1.0));
        let answers: Vec<(f64, bool)> = (0..3_000)
            .map(|_| {
                let p = draw();
                (p, draw() < p)
            })
            .collect();
        let ranked = ranked(&answers);
        let (error, chance) = (ranked.calibration_error(BINS), ranked.chance_error(BINS));
        assert!((error / chance - 1.0).abs() < 0.6, "{error} and {chance}");
        let bold: Vec<(f64, bool)> = answers.iter().map(|(p, r)| (p.sqrt(), *r)).collect();
        assert!(super::Ranked::new(&bold).unwrap().calibration_error(BINS) > 0.1);
    }

    fn answers() -> impl Strategy<Value = Vec<(f64, bool)>> {
        let score = (0_u32..20).prop_map(|n| f64::from(n) / 20.0);
        prop::collection::vec((score, any::<bool>()), 1..80)
    }

    proptest! {
        #[test]
        fn figures_are_shares_and_do_not_depend_on_the_order(answers in answers(), bins in 1_usize..20, by in 0_usize..80) {
            let mut turned = answers.clone();
            turned.rotate_left(by % answers.len());
            let figures = |answers: &[(f64, bool)]| {
                let ranked = ranked(answers);
                [ranked.aurc(), ranked.accuracy_at(0.8), ranked.calibration_error(bins), ranked.chance_error(bins)]
            };
            for (one, other) in figures(&answers).into_iter().zip(figures(&turned)) {
                prop_assert!((one - other).abs() < 1e-9 && (-1e-9..=1.0 + 1e-9).contains(&one), "{one} and {other}");
            }
        }

        #[test]
        fn counting_an_answer_twice_is_giving_it_twice(answers in answers(), bins in 1_usize..8) {
            let ranked = ranked(&answers);
            let times: Vec<u32> = ranked.order().iter().map(|i| [0, 1, 2][i % 3]).collect();
            prop_assume!(times.iter().any(|&t| t > 0));
            let repeated = answers.iter().enumerate().flat_map(|(i, a)| vec![*a; i % 3]).collect::<Vec<_>>();
            let repeated = super::Ranked::new(&repeated).unwrap();
            prop_assert!((ranked.aurc_of(&times) - repeated.aurc()).abs() < 1e-9);
            prop_assert!((ranked.accuracy_at_of(&times, 0.8) - repeated.accuracy_at(0.8)).abs() < 1e-9);
            prop_assert!((ranked.calibration_error_of(&times, bins) - repeated.calibration_error(bins)).abs() < 1e-9);
        }

        #[test]
        fn the_best_order_has_the_least_area(answers in answers()) {
            let best: Vec<_> = answers.iter().map(|(_, r)| (if *r { 1.0 } else { 0.0 }, *r)).collect();
            let worst: Vec<_> = answers.iter().map(|(_, r)| (if *r { 0.0 } else { 1.0 }, *r)).collect();
            let area = ranked(&answers).aurc();
            prop_assert!(ranked(&best).aurc() <= area + 1e-9 && area <= ranked(&worst).aurc() + 1e-9);
        }

        #[test]
        fn a_rising_map_of_the_scores_changes_no_ranking(answers in answers()) {
            let mapped: Vec<_> = answers.iter().map(|(s, r)| (s.mul_add(40.0, -7.0).exp(), *r)).collect();
            prop_assert!((ranked(&mapped).aurc() - ranked(&answers).aurc()).abs() < 1e-9);
        }
    }
}
