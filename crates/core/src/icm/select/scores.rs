//! The scores of all candidates, and the rule that chooses among them.

use super::error::SelectError;
use super::selection::{Criterion, MIN_GAIN_ERRORS, SelectWarning, Selection, Trial};
use crate::icm::interval::{differences, mean_and_error};
use crate::icm::spec::{MapKind, MapSpec};

/// The scores of one candidate on the images that all are scored on, and how much it removes.
#[derive(Debug, Clone)]
pub(in crate::icm) struct CandidateScores {
    pub map: MapSpec,
    /// `[group][image]`.
    pub groups: Vec<Vec<f64>>,
    /// The mean number of removed directions over fits.
    pub removed: f64,
}

/// The scores of all candidates on the same images by one measure; the identity comes first.
#[derive(Debug, Clone)]
pub(in crate::icm) struct Scores {
    criterion: Criterion,
    candidates: Vec<CandidateScores>,
    warnings: Vec<SelectWarning>,
}

impl Scores {
    pub(in crate::icm) fn new(
        criterion: Criterion,
        candidates: Vec<CandidateScores>,
        warnings: Vec<SelectWarning>,
    ) -> Self {
        Self {
            criterion,
            candidates,
            warnings,
        }
    }

    /// The mean of several measures of the same candidates and images; `None` without any.
    pub(in crate::icm) fn pooled(measures: Vec<Self>) -> Option<Self> {
        let share = (measures.len() as f64).recip();
        let mut measures = measures.into_iter();
        let mut pooled = measures.next()?;
        let for_each_value = |scores: &mut Self, f: &mut dyn FnMut(&mut f64)| {
            scores
                .candidates
                .iter_mut()
                .flat_map(|s| &mut s.groups)
                .flatten()
                .for_each(f);
        };
        for mut other in measures {
            let mut values = Vec::new();
            for_each_value(&mut other, &mut |value| values.push(*value));
            let mut values = values.into_iter();
            for_each_value(&mut pooled, &mut |sum| {
                *sum += values.next().unwrap_or_default();
            });
        }
        for_each_value(&mut pooled, &mut |sum| *sum *= share);
        Some(pooled)
    }

    /// The same scores under another name.
    pub(super) fn named(self, criterion: Criterion) -> Self {
        Self { criterion, ..self }
    }

    /// Each candidate's mean loss against the identity.
    pub(super) fn costs(&self) -> Vec<(MapSpec, f64)> {
        let identity = self
            .candidates
            .first()
            .map(|s| s.groups.as_slice())
            .unwrap_or_default();
        let cost = |s: &CandidateScores| {
            Some((s.map, mean_and_error(&differences(&s.groups, identity)?)?.0))
        };
        self.candidates.iter().filter_map(cost).collect()
    }

    /// Drops `maps` and adds `warning`.
    pub(in crate::icm) fn drop_maps(&mut self, maps: &[MapSpec], warning: &SelectWarning) {
        self.candidates.retain(|s| !maps.contains(&s.map));
        self.warnings.push(warning.clone());
    }

    /// Chooses among the candidates that `wanted` accepts, and the identity. See [`super`] for the
    /// rule.
    pub(in crate::icm) fn choose(
        &self,
        wanted: impl Fn(&MapSpec) -> bool,
    ) -> Result<Selection, SelectError> {
        let identity = &self.candidates.first().ok_or(SelectError::NoScores)?.groups;
        let wanted: Vec<&CandidateScores> = self
            .candidates
            .iter()
            .filter(|s| s.map.kind == MapKind::Identity || wanted(&s.map))
            .collect();
        let trials: Option<Vec<Trial>> = wanted
            .iter()
            .map(|candidate| self.trial(candidate, identity))
            .collect();
        let trials = trials.ok_or(SelectError::NoScores)?;
        let identity = trials.first().ok_or(SelectError::NoScores)?.clone();
        let chosen = gentlest_of_the_best(&trials, &wanted).unwrap_or(&identity);
        Ok(Selection {
            criterion: self.criterion,
            chosen: chosen.clone(),
            identity,
            trials,
            warnings: self.warnings.clone(),
        })
    }

    fn trial(&self, scored: &CandidateScores, identity: &[Vec<f64>]) -> Option<Trial> {
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
            Criterion::HeldOutImages if gains.len() > 1 => over_images.max(over_groups),
            // Groups here are halves scored under different families: their difference means
            // nothing.
            Criterion::Identification
            | Criterion::LeftOutIntervention
            | Criterion::Agreement
            | Criterion::HeldOutImages => over_images,
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

/// The trial that removes the fewest directions among those as good as the best, of the trials that
/// improve on the identity; `None` if none improves.
fn gentlest_of_the_best<'a>(trials: &'a [Trial], scores: &[&CandidateScores]) -> Option<&'a Trial> {
    let improving = || {
        trials
            .iter()
            .zip(scores)
            .filter(|(t, _)| t.gain > MIN_GAIN_ERRORS * t.gain_error)
    };
    let (_, best) = improving().max_by(|(a, _), (b, _)| a.score.total_cmp(&b.score))?;
    let behind = |s: &CandidateScores| mean_and_error(&differences(&s.groups, &best.groups)?);
    improving()
        .filter(|(_, s)| behind(s).is_some_and(|(behind, error)| behind <= error))
        .map(|(trial, _)| trial)
        .min_by(|a, b| a.removed.total_cmp(&b.removed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A candidate that hits the first `hits` of 100 images.
    fn scored(map: MapSpec, removed: f64, hits: usize) -> CandidateScores {
        scored_at(map, removed, 0..hits)
    }

    /// A candidate that hits these of 100 images.
    fn scored_at(map: MapSpec, removed: f64, hits: std::ops::Range<usize>) -> CandidateScores {
        let groups = vec![
            (0..100)
                .map(|i| if hits.contains(&i) { 1.0 } else { 0.0 })
                .collect(),
        ];
        CandidateScores {
            map,
            groups,
            removed,
        }
    }

    fn scores(criterion: Criterion, scored: Vec<CandidateScores>) -> Scores {
        Scores::new(criterion, scored, Vec::new())
    }

    fn chosen(scored: Vec<CandidateScores>) -> Selection {
        scores(Criterion::Identification, scored)
            .choose(|_| true)
            .unwrap()
    }

    #[test]
    fn the_gentlest_of_the_best_is_taken() {
        let selection = chosen(vec![
            scored(MapSpec::IDENTITY, 0.0, 40),
            scored(MapSpec::without(5), 5.0, 60),
            scored(MapSpec::without(7), 7.0, 77),
            scored_at(MapSpec::soft(1.0), 9.0, 5..83),
            scored(MapSpec::without(50), 50.0, 80),
        ]);
        // The soft map wins 3 and loses 5 against the best: 2 ± 2.8. The other wins none and loses
        // 3: 3 ± 1.7.
        assert_eq!(selection.chosen.map, MapSpec::soft(1.0));
        let words = selection.to_string();
        assert!(
            words.contains("rises from 40.0 % to 78.0 % (by 38.0 ± 5.8 points)"),
            "{words}"
        );
    }

    #[test]
    fn the_identity_is_kept_if_no_map_improves_and_the_result_says_so() {
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
    fn a_map_that_helps_in_one_environment_and_hurts_in_another_is_not_chosen() {
        let hits = |counts: [usize; 3]| {
            counts
                .map(|hits| scored(MapSpec::IDENTITY, 0.0, hits).groups.remove(0))
                .to_vec()
        };
        let candidates = || {
            let map = |map, counts| CandidateScores {
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
    fn a_choice_among_some_candidates_includes_the_identity() {
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
    fn costly_maps_are_dropped_with_a_warning() {
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
        scores.drop_maps(&[MapSpec::soft(1.0)], &SelectWarning::Costly { maps: 1 });
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
        let values = &pooled.candidates[0].groups[0];
        assert_eq!((values[0], values[20], values[60]), (1.0, 0.5, 0.0));
        assert!(Scores::pooled(Vec::new()).is_none());
    }
}
