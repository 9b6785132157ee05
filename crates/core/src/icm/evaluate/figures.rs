//! From counts to figures: accuracies and gains on the raw embeddings, with intervals.

use super::{Candidates, Row};
use crate::icm::interval::{Bootstrap, Interval};
use serde::Serialize;

/// One row's counts on one group of images.
#[derive(Debug, Clone)]
pub struct Group {
    /// The environment, or the family.
    pub name: String,
    /// The maps that were chosen for it, in words, each once.
    pub maps: Vec<String>,
    /// Per image, `0..=1`: how often it was named right.
    pub hits: Vec<f64>,
}

/// Rows by groups; the groups are the same, and in the same order, in every row.
#[derive(Debug, Clone, Default)]
pub struct Scoreboard {
    pub rows: Vec<(Row, Vec<Group>)>,
    /// Whether all groups are of the same images in the same order, under one family of interventions each: then images
    /// are drawn again for all groups together.
    pub same_images: bool,
}

/// Accuracy on some images, and what it gained on the raw embeddings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    pub name: String,
    pub images: usize,
    /// `0..=1`.
    pub accuracy: Interval,
    /// Image by image against the raw embeddings; none for these themselves.
    pub gain: Option<Interval>,
    pub maps: Vec<String>,
}

impl Figure {
    /// Whether it is worse than the raw embeddings beyond doubt.
    #[must_use]
    pub fn loses(&self) -> bool {
        self.gain.is_some_and(|gain| gain.high < 0.0)
    }
}

/// One row in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    pub row: Row,
    pub groups: Vec<Figure>,
    /// The mean over groups.
    pub mean: Figure,
}

/// The figures of one row, by its index; `None` where a group is empty.
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
    let one = |i: usize| {
        let before = before.map(|groups| vec![groups[i].hits.clone()]);
        figure(
            &groups[i],
            &[groups[i].hits.clone()],
            before.as_deref(),
            bootstrap,
        )
    };
    let hits = |groups: &[Group]| groups.iter().map(|g| g.hits.clone()).collect::<Vec<_>>();
    let joined = |groups: &[Group]| {
        if board.same_images {
            vec![over_groups(groups)]
        } else {
            hits(groups)
        }
    };
    let mean = Group {
        name: "mean".into(),
        maps: Vec::new(),
        hits: Vec::new(),
    };
    let mean = figure(
        &mean,
        &joined(groups),
        before.map(|groups| joined(groups)).as_deref(),
        bootstrap,
    )?;
    Some(Figures {
        row: *row,
        groups: (0..groups.len()).map(one).collect::<Option<_>>()?,
        mean,
    })
}

fn figure(
    group: &Group,
    after: &[Vec<f64>],
    before: Option<&[Vec<f64>]>,
    bootstrap: &Bootstrap,
) -> Option<Figure> {
    Some(Figure {
        name: group.name.clone(),
        images: after.iter().map(Vec::len).sum(),
        accuracy: bootstrap.mean(after)?,
        gain: before.and_then(|before| bootstrap.difference(before, after)),
        maps: group.maps.clone(),
    })
}

/// Image by image, the mean over groups.
fn over_groups(groups: &[Group]) -> Vec<f64> {
    let images = groups.iter().map(|g| g.hits.len()).min().unwrap_or(0);
    let mean = |i: usize| groups.iter().map(|g| g.hits[i]).sum::<f64>() / groups.len() as f64;
    (0..images).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Predictor;
    use super::*;

    fn board(same_images: bool, raw: &[&[f64]], icm: &[&[f64]]) -> Scoreboard {
        let row = |candidates| Row {
            predictor: Predictor::ClassMeans,
            candidates,
            set: None,
            criterion: None,
        };
        let groups = |hits: &[&[f64]]| {
            let group = |(i, hits): (usize, &&[f64])| Group {
                name: i.to_string(),
                maps: vec![],
                hits: hits.to_vec(),
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
    fn images_that_all_groups_share_are_drawn_together() {
        // One image is right under every family, the other under none: families tell the same story twice.
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
