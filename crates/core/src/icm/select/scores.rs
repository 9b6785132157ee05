//! What the candidates of a choice scored, while they are judged and when all are.

use super::{Criterion, Grid, SURE, SelectError, SelectWarning, Selection, Trial};
use crate::icm::fit::{FitError, Fitter};
use crate::icm::interval::{differences, mean_and_error};
use crate::icm::map_set::MapSet;
use crate::icm::spec::{MapKind, MapSpec};

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
    pub(super) fn fit(&mut self, fitter: &Fitter) -> Result<Vec<MapSet>, FitError> {
        if let Some(warning) = fitter.warning() {
            self.warn(SelectWarning::Fit(warning));
        }
        let candidates = self.candidates.iter().copied().enumerate();
        let candidates: Vec<_> = candidates
            .filter(|(i, _)| self.failed[*i].is_none())
            .collect();
        let maps = MapSet::fit(fitter, &candidates, |index, error| {
            self.failed[index] = Some(error)
        })?;
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

    /// One result per measure.
    pub(super) fn finish(self, criterion: Criterion) -> Vec<Scores> {
        let mut warnings = self.warnings;
        for (&map, failed) in self.candidates.iter().zip(&self.failed) {
            warnings.extend(
                failed
                    .clone()
                    .map(|reason| SelectWarning::Skipped { map, reason }),
            );
        }
        let fits = self.fits.max(1) as f64;
        let scored = |groups: Vec<Vec<Vec<f64>>>| {
            let all = self
                .candidates
                .iter()
                .zip(groups)
                .zip(&self.removed)
                .zip(&self.failed);
            let good = all.filter(|(_, failed)| failed.is_none());
            good.map(|(((&map, groups), removed), _)| Scored {
                map,
                groups,
                removed: removed / fits,
            })
            .collect()
        };
        let scores = |groups| Scores {
            criterion,
            scored: scored(groups),
            warnings: warnings.clone(),
        };
        self.groups.into_iter().map(scores).collect()
    }
}

/// What one candidate scored on the images by which all are judged, and how much it removed.
#[derive(Debug, Clone)]
struct Scored {
    map: MapSpec,
    /// `[group][image]`.
    groups: Vec<Vec<f64>>,
    removed: f64,
}

/// What every candidate scored on the same images.
#[derive(Debug, Clone)]
pub(in crate::icm) struct Scores {
    criterion: Criterion,
    scored: Vec<Scored>,
    warnings: Vec<SelectWarning>,
}

impl Scores {
    /// The means of several measures on the same candidates and images; `None` of none.
    pub(in crate::icm) fn pooled(measures: Vec<Self>) -> Option<Self> {
        let share = (measures.len() as f64).recip();
        let mut measures = measures.into_iter();
        let mut pooled = measures.next()?;
        let all = |scores: &mut Self, f: &mut dyn FnMut(&mut f64)| {
            scores
                .scored
                .iter_mut()
                .flat_map(|s| &mut s.groups)
                .flatten()
                .for_each(f);
        };
        for mut other in measures {
            let mut values = Vec::new();
            all(&mut other, &mut |value| values.push(*value));
            let mut values = values.into_iter();
            all(&mut pooled, &mut |sum| {
                *sum += values.next().unwrap_or_default()
            });
        }
        all(&mut pooled, &mut |sum| *sum *= share);
        Some(pooled)
    }

    /// What each candidate loses against the identity, in the mean.
    pub(super) fn costs(&self) -> Vec<(MapSpec, f64)> {
        let identity = self
            .scored
            .first()
            .map(|s| s.groups.as_slice())
            .unwrap_or_default();
        let cost =
            |s: &Scored| Some((s.map, mean_and_error(&differences(&s.groups, identity)?)?.0));
        self.scored.iter().filter_map(cost).collect()
    }

    /// Without `maps`, of which `warning` tells.
    pub(super) fn leave_out(&mut self, maps: &[MapSpec], warning: &SelectWarning) {
        self.scored.retain(|s| !maps.contains(&s.map));
        self.warnings.push(warning.clone());
    }

    /// Chooses among the candidates that are wanted, and the identity.
    pub(in crate::icm) fn choose(
        &self,
        wanted: impl Fn(&MapSpec) -> bool,
    ) -> Result<Selection, SelectError> {
        let identity = &self.scored.first().ok_or(SelectError::NoScores)?.groups;
        let wanted: Vec<&Scored> = self
            .scored
            .iter()
            .filter(|s| s.map.kind == MapKind::Identity || wanted(&s.map))
            .collect();
        let trials: Option<Vec<Trial>> = wanted
            .iter()
            .map(|scored| self.trial(scored, identity))
            .collect();
        let trials = trials.ok_or(SelectError::NoScores)?;
        let identity = trials.first().ok_or(SelectError::NoScores)?.clone();
        let harmless = || {
            trials
                .iter()
                .zip(&wanted)
                .filter(|(t, _)| t.gain > SURE * t.gain_error)
        };
        let best = harmless().max_by(|(a, _), (b, _)| a.score.total_cmp(&b.score));
        let chosen = best.and_then(|(_, best)| {
            let behind = |s: &Scored| mean_and_error(&differences(&s.groups, &best.groups)?);
            let as_good = harmless()
                .filter(|(_, s)| behind(s).is_some_and(|(behind, error)| behind <= error));
            as_good
                .map(|(t, _)| t)
                .min_by(|a, b| a.removed.total_cmp(&b.removed))
        });
        let chosen = chosen.unwrap_or(&identity).clone();
        Ok(Selection {
            criterion: self.criterion,
            chosen,
            identity,
            trials,
            warnings: self.warnings.clone(),
        })
    }

    fn trial(&self, scored: &Scored, identity: &[Vec<f64>]) -> Option<Trial> {
        let (score, error) = mean_and_error(&scored.groups)?;
        let gains = differences(identity, &scored.groups)?;
        let (gain, over_images) = mean_and_error(&gains)?;
        let means: Vec<f64> = gains
            .iter()
            .map(|group| group.iter().sum::<f64>() / group.len() as f64)
            .collect();
        let (_, over_groups) = mean_and_error(&[means])?;
        let gain_error = match self.criterion {
            Criterion::LeftOutEnvironment => over_images.max(over_groups),
            // Groups here are halves that are asked about different families: they differ, and say nothing by it.
            Criterion::Identification | Criterion::LeftOutIntervention => over_images,
        };
        Some(Trial {
            map: scored.map,
            score,
            error,
            gain,
            gain_error,
            removed: scored.removed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A candidate that hits the first `hits` of 100 images.
    fn scored(map: MapSpec, removed: f64, hits: usize) -> Scored {
        scored_at(map, removed, 0..hits)
    }

    /// A candidate that hits these of 100 images.
    fn scored_at(map: MapSpec, removed: f64, hits: std::ops::Range<usize>) -> Scored {
        let groups = vec![
            (0..100)
                .map(|i| if hits.contains(&i) { 1.0 } else { 0.0 })
                .collect(),
        ];
        Scored {
            map,
            groups,
            removed,
        }
    }

    fn scores(criterion: Criterion, scored: Vec<Scored>) -> Scores {
        Scores {
            criterion,
            scored,
            warnings: Vec::new(),
        }
    }

    fn chosen(scored: Vec<Scored>) -> Selection {
        scores(Criterion::Identification, scored)
            .choose(|_| true)
            .unwrap()
    }

    #[test]
    fn the_gentlest_of_those_as_good_as_the_best_is_taken() {
        let selection = chosen(vec![
            scored(MapSpec::IDENTITY, 0.0, 40),
            scored(MapSpec::without(5), 5.0, 60),
            scored(MapSpec::without(7), 7.0, 77),
            scored_at(MapSpec::soft(1.0), 9.0, 5..83),
            scored(MapSpec::without(50), 50.0, 80),
        ]);
        // The soft map wins 3 and loses 5 against the best: 2 ± 2.8. The other wins none and loses 3: 3 ± 1.7.
        assert_eq!(selection.chosen.map, MapSpec::soft(1.0));
        let words = selection.to_string();
        assert!(
            words.contains("rises from 40.0 % to 78.0 % (by 38.0 ± 5.8 points)"),
            "{words}"
        );
    }

    #[test]
    fn what_does_no_good_is_not_shipped_and_the_result_says_so() {
        let selection = chosen(vec![
            scored(MapSpec::IDENTITY, 0.0, 60),
            scored(MapSpec::without(5), 5.0, 63),
            scored(MapSpec::without(50), 50.0, 30),
        ]);
        assert!(!selection.improves());
        let words = selection.to_string();
        assert!(
            words.starts_with("identity: no map improves identification"),
            "{words}"
        );
        assert!(
            words.contains(
                "`without the 5 most variant directions`, changes it by +3.0 ± 1.7 points"
            ),
            "{words}"
        );
    }

    #[test]
    fn what_helps_in_one_environment_and_hurts_in_another_is_no_evidence() {
        let hits = |counts: [usize; 3]| {
            counts
                .map(|hits| scored(MapSpec::IDENTITY, 0.0, hits).groups.remove(0))
                .to_vec()
        };
        let candidates = || {
            let map = |map, counts| Scored {
                map,
                groups: hits(counts),
                removed: 1.0,
            };
            vec![
                map(MapSpec::IDENTITY, [50, 50, 50]),
                map(MapSpec::soft(1.0), [45, 80, 49]),
            ]
        };
        assert!(
            !scores(Criterion::LeftOutEnvironment, candidates())
                .choose(|_| true)
                .unwrap()
                .improves()
        );
        assert!(
            scores(Criterion::Identification, candidates())
                .choose(|_| true)
                .unwrap()
                .improves()
        );
    }

    #[test]
    fn some_candidates_can_be_asked_for_and_the_identity_is_one_of_them() {
        let all = vec![
            scored(MapSpec::IDENTITY, 0.0, 40),
            scored(MapSpec::without(5), 5.0, 80),
            scored(MapSpec::soft(1.0), 9.0, 60),
        ];
        let selection = scores(Criterion::Identification, all)
            .choose(|map| *map == MapSpec::soft(1.0))
            .unwrap();
        assert_eq!(
            (selection.trials.len(), selection.chosen.map),
            (2, MapSpec::soft(1.0))
        );
    }

    #[test]
    fn what_costs_too_much_is_left_out_and_told() {
        let all = vec![
            scored(MapSpec::IDENTITY, 0.0, 90),
            scored(MapSpec::soft(1.0), 9.0, 80),
        ];
        let mut scores = scores(Criterion::LeftOutIntervention, all);
        let costs = scores.costs();
        assert!(
            costs[0].1.abs() < 1e-12 && (costs[1].1 - 0.1).abs() < 1e-12,
            "{costs:?}"
        );
        scores.leave_out(&[MapSpec::soft(1.0)], &SelectWarning::Costly { maps: 1 });
        let selection = scores.choose(|_| true).unwrap();
        assert_eq!((selection.trials.len(), selection.warnings.len()), (1, 1));
        let words = selection.warnings[0].to_string();
        assert!(
            words.contains("1 maps") && words.contains("1 point on images as they are"),
            "{words}"
        );
    }

    #[test]
    fn measures_are_pooled_image_by_image() {
        let measure = |hits| {
            scores(
                Criterion::Identification,
                vec![scored(MapSpec::IDENTITY, 0.0, hits)],
            )
        };
        let pooled = Scores::pooled(vec![measure(10), measure(50)]).unwrap();
        let values = &pooled.scored[0].groups[0];
        assert_eq!((values[0], values[20], values[60]), (1.0, 0.5, 0.0));
        assert!(Scores::pooled(Vec::new()).is_none());
    }
}
