//! What the candidates of a choice scored so far.

use super::{Criterion, Grid, Scored, SelectError, SelectWarning, Selection, choose};
use crate::icm::fit::{FitError, Fitter};
use crate::icm::lens::Maps;
use crate::icm::spec::MapSpec;

/// Scores of every candidate under each of several measures.
pub(super) struct Board<'a> {
    candidates: &'a [MapSpec],
    /// `[measure][candidate][group][image]`.
    pub groups: Vec<Vec<Vec<Vec<f64>>>>,
    /// Directions removed, summed over fits.
    removed: Vec<f64>,
    fits: usize,
    failed: Vec<Option<FitError>>,
    pub warnings: Vec<SelectWarning>,
}

impl<'a> Board<'a> {
    /// Every candidate's scores of every measure begin as `groups`.
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

    /// Fits every candidate that has not failed before; one that cannot be fitted to a part of the images is out.
    pub(super) fn fit(&mut self, fitter: &Fitter) -> Result<Vec<Maps>, FitError> {
        if let Some(warning) = fitter.warning() {
            self.warn(SelectWarning::Fit(warning));
        }
        let candidates = self.candidates.iter().copied().enumerate();
        let candidates: Vec<_> = candidates.filter(|(i, _)| self.failed[*i].is_none()).collect();
        let maps = Maps::fit(fitter, &candidates, |index, error| self.failed[index] = Some(error))?;
        self.fits += 1;
        for (index, lens) in maps.iter().flat_map(|m| &m.lenses) {
            self.removed[*index] += lens.removed();
        }
        Ok(maps)
    }

    pub(super) fn warn(&mut self, warning: SelectWarning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// One choice per measure.
    pub(super) fn choose(self, criterion: Criterion) -> Result<Vec<Selection>, SelectError> {
        let mut warnings = self.warnings;
        for (&map, failed) in self.candidates.iter().zip(&self.failed) {
            warnings.extend(failed.clone().map(|reason| SelectWarning::Skipped { map, reason }));
        }
        let fits = self.fits.max(1) as f64;
        let scored = |groups: Vec<Vec<Vec<f64>>>| {
            let all = self.candidates.iter().zip(groups).zip(&self.removed).zip(&self.failed);
            let good = all.filter(|(_, failed)| failed.is_none());
            good.map(|(((&map, groups), removed), _)| Scored { map, groups, removed: removed / fits }).collect()
        };
        self.groups.into_iter().map(|groups| choose(criterion, scored(groups), warnings.clone())).collect()
    }
}
