//! How far the answers of a row can be trusted: calibration, ranking, and classes that nobody knew,
//! for every [`Ranker`].

use super::ranker::Ranker;
use crate::icm::interval::Bootstrap;
use crate::numeric::Rng;
use crate::reliability::{Ranked, suited_bins};
use crate::stats::{Interval, quantile, wilson};
use serde::Serialize;

/// The coverage at which accuracy is reported, and the share of known classes that the threshold for
/// false accepts keeps.
pub const COVERAGE: f64 = 0.8;
/// Resamples for the intervals: enough for their first digit, at a quarter of the time that accuracies take.
const DRAWS: usize = 500;

/// Answers of one head on images of one group.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Index of each answer's image among the group's.
    pub images: Vec<usize>,
    pub right: Vec<bool>,
    /// `[ranker][answer]`, in the order of [`Ranker::ALL`].
    pub scores: Vec<Vec<f64>>,
}

/// Scores by a head that does not know all classes, `[ranker][image]`.
#[derive(Debug, Clone, Default)]
pub struct OpenScores {
    /// Of images whose class it knows.
    pub known: Vec<Vec<f64>>,
    /// Of the others.
    pub unknown: Vec<Vec<f64>>,
}

/// How far one ranker's numbers can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trust {
    pub ranker: Ranker,
    /// The expected calibration error, for rankers that are probabilities.
    pub ece: Option<Interval>,
    /// What a true confidence would show by chance in the same bins.
    pub ece_by_chance: Option<f64>,
    /// The area under the risk–coverage curve.
    pub aurc: Interval,
    /// The share of right answers among the 80 % that rank highest.
    pub accuracy_at_80: Interval,
    /// The share of images of unknown classes that the threshold accepts which keeps 80 % of those
    /// of known classes.
    pub false_accepts: Option<Interval>,
}

/// A group as far as trust is concerned.
#[derive(Clone, Copy)]
pub(super) struct Judged<'a> {
    pub images: usize,
    pub batches: &'a [Batch],
    pub open: Option<&'a OpenScores>,
}

/// ECE, AURC, accuracy at [`COVERAGE`].
type Measures = [f64; 3];

/// The measures of a group by one ranker, and those of its resamples.
struct Sampled {
    ranker: Ranker,
    estimate: Measures,
    by_chance: f64,
    draws: Vec<Measures>,
    /// Accepted and all images of unknown classes.
    accepted: Option<[f64; 2]>,
}

/// The trust of each group, and of the mean over groups. With `same_images` all groups are resampled
/// alike.
pub(super) fn trust(
    groups: &[Judged<'_>],
    same_images: bool,
    bootstrap: &Bootstrap,
) -> (Vec<Vec<Trust>>, Vec<Trust>) {
    let mut of_groups = vec![Vec::new(); groups.len()];
    let mut of_mean = Vec::new();
    for (index, ranker) in Ranker::ALL.into_iter().enumerate() {
        let sampled: Option<Vec<Sampled>> = (0..groups.len())
            .map(|i| {
                let stream = if same_images { 0 } else { i as u64 };
                let seed = bootstrap.seed.wrapping_add(stream << 32);
                sample(&groups[i], (index, ranker), seed)
            })
            .collect();
        let Some(sampled) = sampled.filter(|sampled| !sampled.is_empty()) else {
            continue;
        };
        for (trust, sampled) in of_groups.iter_mut().zip(&sampled) {
            trust.push(of(&[sampled], bootstrap.level));
        }
        of_mean.push(of(&sampled.iter().collect::<Vec<_>>(), bootstrap.level));
    }
    (of_groups, of_mean)
}

/// `None` if a batch has no answer or a number is missing.
fn sample(group: &Judged<'_>, (index, ranker): (usize, Ranker), seed: u64) -> Option<Sampled> {
    let batches = group.batches.iter().map(|batch| {
        let scores = batch.scores.get(index)?.iter().copied();
        let answers: Vec<(f64, bool)> = scores.zip(batch.right.iter().copied()).collect();
        Some((Ranked::new(&answers)?, batch))
    });
    let batches: Vec<(Ranked, &Batch)> = batches.collect::<Option<_>>()?;
    if batches.is_empty() {
        return None;
    }
    let mut rng = Rng::new(seed);
    let draws = (0..DRAWS).map(|_| {
        let mut counts = vec![0; group.images];
        for _ in 0..group.images {
            counts[rng.count(0, group.images - 1)] += 1;
        }
        measures(&batches, &counts)
    });
    let chance = |(ranked, batch): &(Ranked, &Batch)| ranked.chance_error(bins(batch));
    Some(Sampled {
        ranker,
        estimate: measures(&batches, &vec![1; group.images]),
        by_chance: batches.iter().map(chance).sum::<f64>() / batches.len() as f64,
        draws: draws.collect(),
        accepted: group.open.map(|open| accepted(open, index)),
    })
}

fn bins(batch: &Batch) -> usize {
    suited_bins(batch.right.len())
}

/// The mean over batches, where each image counts as often as `counts` says.
fn measures(batches: &[(Ranked, &Batch)], counts: &[u32]) -> Measures {
    let mut sum = [0.0; 3];
    for (ranked, batch) in batches {
        let times: Vec<u32> = ranked
            .order()
            .iter()
            .map(|&answer| counts[batch.images[answer]])
            .collect();
        sum[0] += ranked.calibration_error_of(&times, bins(batch));
        sum[1] += ranked.aurc_of(&times);
        sum[2] += ranked.accuracy_at_of(&times, COVERAGE);
    }
    sum.map(|value| value / batches.len() as f64)
}

/// How many of the unknown reach the threshold that keeps [`COVERAGE`] of the known, and how many
/// there are.
fn accepted(open: &OpenScores, index: usize) -> [f64; 2] {
    let unknown = open.unknown.get(index).map_or(&[][..], Vec::as_slice);
    let known: Vec<(f64, bool)> = open
        .known
        .get(index)
        .into_iter()
        .flatten()
        .map(|&s| (s, true))
        .collect();
    let threshold = Ranked::new(&known).map_or(f64::INFINITY, |known| known.threshold_at(COVERAGE));
    let passed = unknown.iter().filter(|&&score| score >= threshold).count();
    [passed as f64, unknown.len() as f64]
}

/// The trust of the mean over groups.
fn of(groups: &[&Sampled], level: f64) -> Trust {
    let count = groups.len() as f64;
    let mean =
        |value: &dyn Fn(&Sampled) -> f64| groups.iter().map(|g| value(g)).sum::<f64>() / count;
    let interval = |measure: usize| {
        let estimate = mean(&|group| group.estimate[measure]);
        let draws = (0..DRAWS).map(|i| mean(&|group| group.draws[i][measure]));
        around(estimate, draws.collect(), level)
    };
    let ranker = groups[0].ranker;
    let probability = ranker.is_probability();
    let accepted: Option<Vec<[f64; 2]>> = groups.iter().map(|group| group.accepted).collect();
    let pooled = |counts: Vec<[f64; 2]>| {
        let sum = |i: usize| counts.iter().map(|c| c[i]).sum::<f64>();
        wilson(sum(0), sum(1))
    };
    Trust {
        ranker,
        ece: probability.then(|| interval(0)),
        ece_by_chance: probability.then(|| mean(&|group| group.by_chance)),
        aurc: interval(1),
        accuracy_at_80: interval(2),
        false_accepts: accepted.map(pooled),
    }
}

/// The percentile interval of the draws, moved so that their mean is the estimate: a resample repeats
/// images, and so shows more miscalibration than there is.
fn around(estimate: f64, mut draws: Vec<f64>, level: f64) -> Interval {
    draws.sort_by(f64::total_cmp);
    let shift = estimate - draws.iter().sum::<f64>() / draws.len() as f64;
    let tail = (1.0 - level) / 2.0;
    let bound = |share: f64| (quantile(&draws, share) + shift).clamp(0.0, 1.0);
    Interval {
        estimate,
        low: bound(tail).min(estimate),
        high: bound(1.0 - tail).max(estimate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers whose first ranker is right with its probability, and whose other rankers know nothing.
    fn batch(count: usize, seed: u64) -> Batch {
        let mut rng = Rng::new(seed);
        let mut draw = || f64::from(rng.between(0.0, 1.0));
        let scores: Vec<f64> = (0..count).map(|_| draw()).collect();
        let right = scores.iter().map(|&p| draw() < p).collect();
        let mut all = vec![vec![0.5; count]; Ranker::ALL.len()];
        all[0] = scores;
        Batch {
            images: (0..count).collect(),
            right,
            scores: all,
        }
    }

    fn judged(batches: &[Batch]) -> Judged<'_> {
        Judged {
            images: batches[0].right.len(),
            batches,
            open: None,
        }
    }

    #[test]
    fn a_true_confidence_is_found_true_and_ranks_best() {
        let batches = [batch(600, 3)];
        let (groups, mean) = trust(&[judged(&batches)], false, &Bootstrap::new(1));
        assert_eq!((groups.len(), groups[0].len()), (1, Ranker::ALL.len()));
        assert_eq!(groups[0], mean, "the mean of one group is that group");
        let [softmax, fitted, margin] = [&mean[0], &mean[1], &mean[2]];
        let ece = softmax.ece.unwrap();
        assert!(
            ece.estimate < 2.0 * softmax.ece_by_chance.unwrap(),
            "{ece:?}"
        );
        assert!(
            softmax.aurc.high < margin.aurc.low,
            "{softmax:?} {margin:?}"
        );
        assert!(softmax.accuracy_at_80.estimate > fitted.accuracy_at_80.estimate);
        assert_eq!((margin.ece, margin.false_accepts), (None, None));
    }

    #[test]
    fn groups_of_the_same_images_are_resampled_alike() {
        let batches = [batch(200, 4)];
        let groups = [judged(&batches); 4];
        let width = |same| {
            let (_, mean) = trust(&groups, same, &Bootstrap::new(1));
            mean[0].aurc.high - mean[0].aurc.low
        };
        assert!(width(true) > 1.5 * width(false));
    }

    #[test]
    fn false_accepts_are_counted_at_the_threshold_that_keeps_most_known() {
        let known: Vec<f64> = (0..10).map(f64::from).collect();
        let open = OpenScores {
            known: vec![known; Ranker::ALL.len()],
            unknown: vec![vec![1.9, 2.0, 7.0, -1.0]; Ranker::ALL.len()],
        };
        let batches = [batch(20, 5)];
        let group = Judged {
            open: Some(&open),
            ..judged(&batches)
        };
        let (groups, mean) = trust(&[group, group], false, &Bootstrap::new(1));
        // Eight of ten known reach 2, and two of four unknown.
        let (one, both) = (
            groups[0][0].false_accepts.unwrap(),
            mean[0].false_accepts.unwrap(),
        );
        assert!((one.estimate - 0.5).abs() < 1e-12 && (both.estimate - 0.5).abs() < 1e-12);
        assert!(both.high - both.low < one.high - one.low);
    }

    #[test]
    fn nothing_can_be_said_without_answers() {
        let empty = [Batch::default()];
        let group = Judged {
            images: 0,
            batches: &empty,
            open: None,
        };
        assert_eq!(
            trust(&[group], false, &Bootstrap::new(1)),
            (vec![Vec::new()], Vec::new())
        );
    }
}
