//! One target: choose a map on the sources, learn from the sources, count right answers on the
//! target.

use super::calibrated::{CalibratedOn, Calibrating};
use super::chosen_maps::{Answers, ChosenMaps, Judging};
use super::plan::{Candidates, FamilySet, Plan, Predictor, Row};
use crate::icm::fit::Fitter;
use crate::icm::head::Method;
use crate::icm::held_out::HeldOut;
use crate::icm::labelled::{EnvironmentMoments, Labelled};
use crate::icm::logistic::DEFAULT_C;
use crate::icm::moments::{Moments, SAME_CLASS};
use crate::icm::pooled_moments::PooledMoments;
use crate::icm::select::{
    Criterion, Grid, PENALTIES, Sampling, Scores, SearchSpace, SelectError, Selection,
    agreement_scores, environment_scores, identification_scores, intervention_scores,
    penalty_by_environment,
};
use crate::icm::spec::{MapKind, MapSpec};
use crate::icm::whitening::{Covariances, Evidence, choose_strengths};

/// One row on one target.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub row: Row,
    pub map: MapSpec,
    pub answers: Answers,
}

/// How one map was chosen.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Index into [`Plan::sets`].
    pub set: usize,
    pub candidates: Candidates,
    pub selection: Selection,
}

/// The results on one target.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// In the same order for every target of a plan; the raw outcome of each predictor comes first.
    pub outcomes: Vec<Outcome>,
    /// The class of each image of the target.
    pub classes: Vec<usize>,
    pub choices: Vec<Choice>,
    /// For each set, the eigenvalues of Δ̃, largest first; their mean is 1.
    pub spectra: Vec<Vec<f64>>,
    /// The probe's C, if there was a probe.
    pub c: Option<f64>,
}

/// Fits, chooses and learns with `sources`, and counts right answers on `target`. `moments` are
/// those of the sources' environments, as far as the plan lets them be [seen](Plan::seen); those of
/// other environments are ignored, so that targets can share them.
pub fn judge(
    sources: &Labelled,
    target: &HeldOut,
    plan: &Plan,
    moments: &[EnvironmentMoments],
) -> Result<Verdict, SelectError> {
    let seen = plan.seen(sources);
    let used = seen.used_environments();
    let by_environment: Vec<&EnvironmentMoments> = moments
        .iter()
        .filter(|m| used.contains(&m.environment))
        .collect();
    let all: Vec<usize> = (0..seen.classes().len()).collect();
    let shared = seen.shared_moments(&all, true);
    let moments: Vec<&Moments> = by_environment
        .iter()
        .map(|m| &m.moments)
        .chain([&shared])
        .collect();
    let c = plan
        .predictors
        .contains(&Predictor::Probe)
        .then(|| penalty(&seen, plan))
        .transpose()?;
    let methods = methods(plan, c);
    let judging = Judging {
        sources,
        target,
        methods: &methods,
        logit_scale: plan.logit_scale,
        known_classes: plan.known_classes,
    };
    let choices = if plan.maps.is_empty() {
        choices(&seen, &by_environment, plan, &choosing_methods(&methods))?
    } else {
        Vec::new()
    };
    let calibrating = Calibrating {
        sources,
        target,
        logit_scale: plan.logit_scale,
        frames: plan.calibrate,
        seed: plan.seed,
    };
    let mut outcomes: Vec<Vec<Outcome>> = plan.predictors.iter().map(|_| Vec::new()).collect();
    let mut spectra = Vec::new();
    for (set, families) in plan.sets.iter().enumerate() {
        let names = family_names(families);
        let space = SearchSpace {
            families: &names,
            grid: &Grid::new([]),
            other_pairs: false,
        };
        let allowed = |name: &str| space.allows(seen.images(), name);
        let mut fitter = Fitter::pooled(PooledMoments(&moments), allowed)?;
        let rows = rows_of_set(plan, &choices, set);
        if rows.iter().any(|(_, map)| is_whitened(map)) {
            let width = seen.images().originals().width();
            let pooled = PooledMoments(&moments);
            if let Some(covariances) = Covariances::pooled(pooled, width, allowed) {
                fitter = fitter.with_covariances(covariances);
            }
        }
        let maps = ChosenMaps::fit(&fitter, rows.iter().map(|(_, map)| *map))?;
        spectra.push(maps.spectrum());
        let identity = rows.iter().any(|(_, map)| *map == MapSpec::IDENTITY);
        let answers = maps.answers(&judging, identity)?;
        for (method, (&predictor, outcomes)) in
            plan.predictors.iter().zip(&mut outcomes).enumerate()
        {
            // Class means and not names chose the whitening.
            let of_others = |row: &Row| {
                predictor == Predictor::ZeroShot && row.candidates == Candidates::Whitened
            };
            for &(row, map) in rows.iter().filter(|(row, _)| !of_others(row)) {
                let of_map = maps
                    .index(&map)
                    .and_then(|index| answers[index].get(method));
                let answers = of_map.ok_or(SelectError::NoScores)?.clone();
                let row = Row { predictor, ..row };
                outcomes.push(Outcome { row, map, answers });
                if plan.calibrate > 0 && row.set.is_some() && predictor != Predictor::Probe {
                    let calibrated = calibrating.answers(&fitter.fit(&map)?, &methods[method])?;
                    for (on, answers) in CalibratedOn::EACH.into_iter().zip(calibrated) {
                        let calibrated = Some(on);
                        let row = Row { calibrated, ..row };
                        outcomes.push(Outcome { row, map, answers });
                    }
                }
            }
        }
    }
    Ok(Verdict {
        outcomes: outcomes.into_iter().flatten().collect(),
        classes: target.classes().to_vec(),
        choices,
        spectra,
        c,
    })
}

/// The rows of one set of families with their maps; the raw embeddings come with the first set. The
/// predictor is yet to be set.
fn rows_of_set(plan: &Plan, choices: &[Choice], set: usize) -> Vec<(Row, MapSpec)> {
    let raw = Row::raw(Predictor::ClassMeans);
    let chosen = choices.iter().filter(|choice| choice.set == set);
    let chosen = chosen.map(|choice| {
        let row = Row {
            candidates: choice.candidates,
            set: Some(set),
            criterion: Some(choice.selection.criterion),
            ..raw
        };
        (row, choice.selection.chosen.map)
    });
    let given = plan
        .maps
        .iter()
        .map(|&map| (Row::given(raw.predictor, set, map), map));
    let first = (set == 0).then_some((raw, MapSpec::IDENTITY));
    first.into_iter().chain(chosen).chain(given).collect()
}

fn is_whitened(map: &MapSpec) -> bool {
    matches!(map.kind, MapKind::Whitened(_))
}

fn family_names(set: &FamilySet) -> Vec<&str> {
    set.families.iter().map(String::as_str).collect()
}

/// The probe's C: the plan's, or else the choice by the sources' environments, or else, if they are
/// one environment, the default.
fn penalty(sources: &Labelled, plan: &Plan) -> Result<f64, SelectError> {
    match plan
        .c
        .map_or_else(|| penalty_by_environment(sources, &PENALTIES), Ok)
    {
        Err(SelectError::OneEnvironment { .. }) => Ok(DEFAULT_C),
        other => other,
    }
}

fn methods(plan: &Plan, c: Option<f64>) -> Vec<Method> {
    let method = |predictor: &Predictor| match predictor {
        Predictor::ZeroShot => plan.text.clone().map(Method::ZeroShot),
        Predictor::ClassMeans => Some(Method::ClassMeans),
        Predictor::Probe => c.map(|c| Method::Probe { c }),
    };
    plan.predictors.iter().filter_map(method).collect()
}

/// The methods that score maps when labels choose them: all but the probe, which adapts to what
/// each map keeps and so hides what the map removes. The probe is used only if there is no other
/// method.
fn choosing_methods(methods: &[Method]) -> Vec<Method> {
    let others: Vec<Method> = methods
        .iter()
        .filter(|m| !matches!(m, Method::Probe { .. }))
        .cloned()
        .collect();
    if others.is_empty() {
        methods.to_vec()
    } else {
        others
    }
}

/// Chooses a map for every criterion and set, and another among the soft ones alone.
fn choices(
    sources: &Labelled,
    moments: &[&EnvironmentMoments],
    plan: &Plan,
    methods: &[Method],
) -> Result<Vec<Choice>, SelectError> {
    let grids: Vec<Grid> = plan.sets.iter().map(|set| grid(sources, set)).collect();
    let names: Vec<Vec<&str>> = plan.sets.iter().map(family_names).collect();
    let spaces: Vec<SearchSpace<'_>> = names
        .iter()
        .zip(&grids)
        .map(|(families, grid)| SearchSpace {
            families,
            grid,
            other_pairs: false,
        })
        .collect();
    let sampling = Sampling::new(plan.seed);
    let mut choices = Vec::new();
    for criterion in &plan.criteria {
        if *criterion == Criterion::HeldOutImages {
            choices.extend(whitenings(sources, moments, &names, plan.seed)?);
            continue;
        }
        let pooled = |of_methods: Vec<Vec<Scores>>| -> Vec<Scores> {
            of_methods.into_iter().filter_map(Scores::pooled).collect()
        };
        let scores = match criterion {
            Criterion::Identification => {
                identification_scores(sources.images(), &spaces, &sampling)?
            }
            Criterion::LeftOutEnvironment => {
                pooled(environment_scores(sources, moments, &spaces, methods)?)
            }
            Criterion::LeftOutIntervention => {
                pooled(intervention_scores(sources, &spaces, methods, &sampling)?)
            }
            Criterion::Agreement => {
                let text = methods.iter().find_map(|method| match method {
                    Method::ZeroShot(text) => Some(text),
                    _ => None,
                });
                let text = text.ok_or(SelectError::NoText)?;
                agreement_scores(sources.images(), text, &spaces, &sampling)?
            }
            Criterion::HeldOutImages => continue,
        };
        for (set, scores) in scores.iter().enumerate() {
            let soft = |map: &MapSpec| matches!(map.kind, MapKind::Soft { .. });
            choices.push(Choice {
                set,
                candidates: Candidates::Icm,
                selection: scores.choose(|_| true)?,
            });
            choices.push(Choice {
                set,
                candidates: Candidates::Soft,
                selection: scores.choose(soft)?,
            });
        }
    }
    Ok(choices)
}

/// Chooses a whitening for every set; one for sets that differ in [`SAME_CLASS`] alone, which is the
/// covariance within classes.
fn whitenings(
    sources: &Labelled,
    moments: &[&EnvironmentMoments],
    sets: &[Vec<&str>],
    seed: u64,
) -> Result<Vec<Choice>, SelectError> {
    let interventions = |set: &Vec<&'_ str>| -> Vec<String> {
        let others = set.iter().filter(|family| **family != SAME_CLASS);
        others.map(ToString::to_string).collect()
    };
    let mut choices = Vec::new();
    for (set, names) in sets.iter().enumerate() {
        let families = interventions(names);
        if sets[..set]
            .iter()
            .any(|other| interventions(other) == families)
        {
            continue;
        }
        let selection = choose_strengths(&Evidence {
            images: sources,
            moments,
            families: names,
            seed,
        })?;
        choices.push(Choice {
            set,
            candidates: Candidates::Whitened,
            selection,
        });
    }
    Ok(choices)
}

/// The candidates that suit the number of pairs in a set of families.
fn grid(sources: &Labelled, set: &FamilySet) -> Grid {
    let images = sources.images();
    let wanted = |name: &str| set.families.iter().any(|family| family == name);
    Grid::suited(images.originals().width(), images.pairs_of(wanted))
}
