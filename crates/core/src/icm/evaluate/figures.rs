//! From counts to figures: accuracies and gains over the raw embeddings, with intervals.

use super::plan::{Candidates, Row};
use super::trust::{Batch, Judged, OpenScores, Trust, trust};
use crate::icm::interval::Bootstrap;
use crate::stats::{Interval, wilson};
use serde::Serialize;

/// Below so many images, or so many right or wrong answers, a bootstrap is too sure of itself, and an
/// accuracy has Wilson's interval.
const FEW_IMAGES: f64 = 100.0;
const FEW_ANSWERS: f64 = 10.0;

/// One row's counts on one group of images.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// The name of the environment or the family.
    pub name: String,
    /// The maps that were chosen for it, as text, each once.
    pub maps: Vec<String>,
    /// For each image, the share `0..=1` of right answers.
    pub hits: Vec<f64>,
    /// The answers with what ranks them; one batch for each draw of images to learn from.
    pub batches: Vec<Batch>,
    /// How classes rank that nobody knew, where that was asked.
    pub open: Option<OpenScores>,
}

/// Rows by groups; every row has the same groups in the same order.
#[derive(Debug, Clone, Default)]
pub struct Scoreboard {
    pub rows: Vec<(Row, Vec<Group>)>,
    /// Whether all groups have the same images in the same order, each under another family of
    /// interventions. The bootstrap then draws images for all groups together.
    pub same_images: bool,
}

/// Accuracy on some images, and its gain over the raw embeddings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    pub name: String,
    pub images: usize,
    /// `0..=1`.
    pub accuracy: Interval,
    /// The gain image by image; `None` for the raw embeddings themselves.
    pub gain: Option<Interval>,
    pub maps: Vec<String>,
    /// By ranker; empty where nothing ranks.
    pub trust: Vec<Trust>,
}

impl Figure {
    /// Whether the whole interval of the gain is below 0.
    #[must_use]
    pub fn loses(&self) -> bool {
        self.gain.is_some_and(|gain| gain.high < 0.0)
    }
}

/// The figures of one row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    pub row: Row,
    pub groups: Vec<Figure>,
    /// The mean over groups.
    pub mean: Figure,
}

/// The figures of the row with index `row`; `None` if there is none, or a group is empty.
#[must_use]
pub fn figures_of(board: &Scoreboard, row: usize, bootstrap: &Bootstrap) -> Option<Figures> {
    let (row, groups) = board.rows.get(row)?;
    let of_raw = |r: &Row| r.predictor == row.predictor && r.candidates == Candidates::Raw;
    let before = board
        .rows
        .iter()
        .find(|(r, _)| of_raw(r))
        .map(|(_, groups)| groups);
    let before = before.filter(|_| row.candidates != Candidates::Raw);
    let judged: Vec<Judged<'_>> = groups.iter().map(Group::judged).collect();
    let (of_groups, of_mean) = trust(&judged, board.same_images, bootstrap);
    let one = |(i, trust): (usize, Vec<Trust>)| {
        let group = std::slice::from_ref(&groups[i]);
        let before = before.map(|groups| std::slice::from_ref(&groups[i]));
        let (name, maps) = (groups[i].name.clone(), groups[i].maps.clone());
        figure((name, maps), group, before, trust, (false, bootstrap))
    };
    let mean = figure(
        ("mean".into(), Vec::new()),
        groups,
        before.map(Vec::as_slice),
        of_mean,
        (board.same_images, bootstrap),
    )?;
    Some(Figures {
        row: *row,
        groups: of_groups
            .into_iter()
            .enumerate()
            .map(one)
            .collect::<Option<_>>()?,
        mean,
    })
}

impl Group {
    fn judged(&self) -> Judged<'_> {
        Judged {
            images: self.hits.len(),
            batches: &self.batches,
            open: self.open.as_ref(),
        }
    }
}

/// The figure of some groups, and of the same before; the mean over images that all share if
/// `same_images`.
fn figure(
    (name, maps): (String, Vec<String>),
    after: &[Group],
    before: Option<&[Group]>,
    trust: Vec<Trust>,
    (same_images, bootstrap): (bool, &Bootstrap),
) -> Option<Figure> {
    let hits = |groups: &[Group]| -> Vec<Vec<f64>> {
        if same_images {
            vec![over_groups(groups)]
        } else {
            groups.iter().map(|group| group.hits.clone()).collect()
        }
    };
    let after = hits(after);
    Some(Figure {
        name,
        images: after.iter().map(Vec::len).sum(),
        accuracy: accuracy(&after, bootstrap)?,
        gain: before.and_then(|before| bootstrap.difference(&hits(before), &after)),
        maps,
        trust,
    })
}

/// The mean accuracy of groups: by bootstrap, or, if one of them is small, from Wilson's interval of
/// each, whose half widths add up like errors (Zou and Donner, *Statistics in Medicine* 27, 2008).
fn accuracy(groups: &[Vec<f64>], bootstrap: &Bootstrap) -> Option<Interval> {
    let resampled = bootstrap.mean(groups)?;
    let few = |hits: &Vec<f64>| {
        let (right, all) = (hits.iter().sum::<f64>(), hits.len() as f64);
        // Means over several answers vary less than one answer does.
        let single = hits
            .iter()
            .all(|&hit| hit == 0.0 || (hit - 1.0).abs() < f64::EPSILON);
        single && all < FEW_IMAGES || right.min(all - right) < FEW_ANSWERS
    };
    if !groups.iter().any(few) {
        return Some(resampled);
    }
    let share = |hits: &Vec<f64>| wilson(hits.iter().sum(), hits.len() as f64);
    let shares: Vec<Interval> = groups.iter().map(share).collect();
    let half = |width: &dyn Fn(&Interval) -> f64| {
        let squares = shares.iter().map(|share| width(share).powi(2));
        squares.sum::<f64>().sqrt() / shares.len() as f64
    };
    Some(Interval {
        low: resampled.estimate - half(&|share| share.estimate - share.low),
        high: resampled.estimate + half(&|share| share.high - share.estimate),
        ..resampled
    })
}

/// The mean over groups, image by image.
fn over_groups(groups: &[Group]) -> Vec<f64> {
    let images = groups.iter().map(|g| g.hits.len()).min().unwrap_or(0);
    let mean = |i: usize| groups.iter().map(|g| g.hits[i]).sum::<f64>() / groups.len() as f64;
    (0..images).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icm::evaluate::plan::Predictor;

    fn board(same_images: bool, raw: &[&[f64]], icm: &[&[f64]]) -> Scoreboard {
        let row = |candidates| Row {
            predictor: Predictor::ClassMeans,
            candidates,
            set: None,
            criterion: None,
            map: None,
            calibrated: None,
        };
        let groups = |hits: &[&[f64]]| {
            let group = |(i, hits): (usize, &&[f64])| Group {
                name: i.to_string(),
                hits: hits.to_vec(),
                ..Group::default()
            };
            hits.iter().enumerate().map(group).collect()
        };
        let rows = vec![
            (row(Candidates::Raw), groups(raw)),
            (row(Candidates::Icm), groups(icm)),
        ];
        Scoreboard { rows, same_images }
    }

    fn figures(board: &Scoreboard) -> Vec<Figures> {
        (0..board.rows.len())
            .filter_map(|row| figures_of(board, row, &Bootstrap::new(1)))
            .collect()
    }

    #[test]
    fn gains_are_paired_with_the_raw_row() {
        let board = board(
            false,
            &[&[0.0, 1.0, 0.0, 1.0], &[1.0, 1.0]],
            &[&[1.0, 1.0, 0.0, 1.0], &[0.0, 0.0]],
        );
        let found = figures(&board);
        assert_eq!((found[0].mean.gain, found[0].groups[0].gain), (None, None));
        let gain = |figure: &Figure| figure.gain.unwrap().estimate;
        assert!(
            (gain(&found[1].groups[0]) - 0.25).abs() < 1e-12
                && (gain(&found[1].mean) + 0.375).abs() < 1e-12
        );
        assert!(found[1].groups[1].loses() && !found[1].groups[0].loses());
        assert_eq!((found[1].groups[0].images, found[1].mean.images), (4, 6));
    }

    #[test]
    fn small_groups_have_wilsons_interval() {
        let all_right: Vec<f64> = vec![1.0; 20];
        let found = figures(&board(false, &[&all_right, &all_right], &[]));
        let (one, mean) = (found[0].groups[0].accuracy, found[0].mean.accuracy);
        // Wilson's lower bound for 20 of 20 is 0.839, and two such groups know more than one.
        assert!(
            (one.low - 0.8389).abs() < 1e-4 && one.high > 0.999,
            "{one:?}"
        );
        assert!(
            (1.0 - mean.low - (1.0 - one.low) / 2f64.sqrt()).abs() < 1e-9,
            "{mean:?}"
        );
        let many: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let one = figures(&board(false, &[&many], &[]))[0].mean.accuracy;
        assert_eq!(Some(one), Bootstrap::new(1).mean(&[many]), "{one:?}");
    }

    #[test]
    fn images_shared_by_all_groups_are_drawn_together() {
        // One image is right under every family, the other under none: the families agree fully.
        let hits: &[&[f64]] = &[&[1.0, 0.0, 1.0, 0.0], &[1.0, 0.0, 1.0, 0.0]];
        let width = |same| {
            let mean = figures(&board(same, hits, hits)).remove(0).mean.accuracy;
            mean.high - mean.low
        };
        assert!(
            width(true) > 1.2 * width(false),
            "{} and {}",
            width(true),
            width(false)
        );
    }
}
