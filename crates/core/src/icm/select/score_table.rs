//! Collects the scores of candidates while they are tried.

use super::grid::Grid;
use super::scores::{CandidateScores, Scores};
use super::selection::{Criterion, SelectWarning};
use crate::icm::fit::{FitError, Fitter};
use crate::icm::map_set::MapSet;
use crate::icm::spec::MapSpec;

/// The scores of every candidate by one or several measures, such as one per method.
pub(super) struct ScoreTable<'a> {
    candidates: &'a [MapSpec],
    /// `[measure][candidate][group][image]`.
    pub groups: Vec<Vec<Vec<Vec<f64>>>>,
    /// Directions that each candidate removed, summed over fits.
    removed: Vec<f64>,
    fits: usize,
    failed: Vec<Option<FitError>>,
    pub warnings: Vec<SelectWarning>,
}

impl<'a> ScoreTable<'a> {
    /// A table in which each candidate's scores by each measure start as `groups`
    /// (`[group][image]`).
    pub(super) fn new(grid: &'a Grid, measures: usize, groups: Vec<Vec<f64>>) -> Self {
        let count = grid.candidates().len();
        Self {
            candidates: grid.candidates(),
            groups: vec![vec![groups; count]; measures],
            removed: vec![0.0; count],
            fits: 0,
            failed: vec![None; count],
            warnings: Vec::new(),
        }
    }

    /// Fits every candidate that has not failed before. A candidate that fails on any part of the
    /// images is dropped.
    pub(super) fn fit(&mut self, fitter: &Fitter) -> Result<Vec<MapSet>, FitError> {
        if let Some(warning) = fitter.warning() {
            self.warn(SelectWarning::Fit(warning));
        }
        let candidates = self.candidates.iter().copied().enumerate();
        let candidates: Vec<_> = candidates
            .filter(|(i, _)| self.failed[*i].is_none())
            .collect();
        let maps = MapSet::fit(fitter, &candidates, |index, error| {
            self.failed[index] = Some(error);
        })?;
        self.fits += 1;
        for (index, weights) in maps.iter().flat_map(|set| &set.maps) {
            self.removed[*index] += weights.removed();
        }
        Ok(maps)
    }

    pub(super) fn warn(&mut self, warning: SelectWarning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The scores by each measure, without the candidates that failed.
    pub(super) fn finish(self, criterion: Criterion) -> Vec<Scores> {
        let mut warnings = self.warnings;
        for (&map, failed) in self.candidates.iter().zip(&self.failed) {
            let skipped = |reason| SelectWarning::Skipped { map, reason };
            warnings.extend(failed.clone().map(skipped));
        }
        let fits = self.fits.max(1) as f64;
        let candidates = |groups: Vec<Vec<Vec<f64>>>| {
            let all = self
                .candidates
                .iter()
                .zip(groups)
                .zip(&self.removed)
                .zip(&self.failed);
            let fitted = all.filter(|(_, failed)| failed.is_none());
            fitted
                .map(|(((&map, groups), removed), _)| CandidateScores {
                    map,
                    groups,
                    removed: removed / fits,
                })
                .collect()
        };
        self.groups
            .into_iter()
            .map(|groups| Scores::new(criterion, candidates(groups), warnings.clone()))
            .collect()
    }
}
