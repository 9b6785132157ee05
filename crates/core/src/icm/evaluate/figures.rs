//! From counts to figures: accuracies and gains over the raw embeddings, with intervals.

use super::plan::{Candidates, Row};
use crate::icm::interval::Bootstrap;
use crate::stats::Interval;
use serde::Serialize;

/// One row's counts on one group of images.
#[derive(Debug, Clone)]
pub struct Group {
    /// The name of the environment or the family.
    pub name: String,
    /// The maps that were chosen for it, as text, each once.
    pub maps: Vec<String>,
    /// For each image, the share `0..=1` of right answers.
    pub hits: Vec<f64>,
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
