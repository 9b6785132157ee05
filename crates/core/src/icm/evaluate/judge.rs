//! One target: choose a map on the sources, learn from the sources, count right answers on the
//! target.

use super::plan::{Candidates, FamilySet, Plan, Predictor, Row};
use crate::icm::fit::Fitter;
use crate::icm::head::{Examples, FittedHead, Method};
use crate::icm::held_out::{HeldOut, hits};
use crate::icm::labelled::{EnvironmentMoments, Labelled};
use crate::icm::logistic::DEFAULT_C;
use crate::icm::map_set::MapSet;
use crate::icm::moments::Moments;
use crate::icm::pooled_moments::PooledMoments;
use crate::icm::select::{
    Criterion, Grid, PENALTIES, Sampling, Scores, SearchSpace, SelectError, Selection,
    agreement_scores, environment_scores, identification_scores, intervention_scores,
    penalty_by_environment,
};
use crate::icm::spec::{MapKind, MapSpec};

/// One row on one target.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub row: Row,
    pub map: MapSpec,
    /// For each image of the target, 1 if it was classified correctly, and 0 if not.
    pub hits: Vec<f64>,
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
    let shared = seen.shared_moments(&all);
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
    let choices = choices(&seen, &by_environment, plan, &choosing_methods(&methods))?;
    let mut outcomes: Vec<Vec<Outcome>> = plan.predictors.iter().map(|_| Vec::new()).collect();
    let mut spectra = Vec::new();
    for (set, families) in plan.sets.iter().enumerate() {
        let names = family_names(families);
        let space = SearchSpace {
            families: &names,
            grid: &Grid::new([]),
        };
        let allowed = |name: &str| space.allows(seen.images(), name);
        let fitter = Fitter::pooled(PooledMoments(&moments), allowed)?;
        let chosen: Vec<&Choice> = choices.iter().filter(|choice| choice.set == set).collect();
        let maps = ChosenMaps::fit(&fitter, &chosen, set == 0)?;
        spectra.push(maps.spectrum());
        for ((&predictor, method), outcomes) in
            plan.predictors.iter().zip(&methods).zip(&mut outcomes)
        {
            outcomes.extend(maps.outcomes(sources, target, (predictor, method), &chosen)?);
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
        .map(|(families, grid)| SearchSpace { families, grid })
        .collect();
    let sampling = Sampling::new(plan.seed);
    let mut choices = Vec::new();
    for criterion in &plan.criteria {
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

/// The candidates that suit the number of pairs in a set of families.
fn grid(sources: &Labelled, set: &FamilySet) -> Grid {
    let families = sources
        .images()
        .families()
        .iter()
        .filter(|f| set.families.contains(&f.name));
    let pairs = families.map(|family| family.of.len() as u64).sum();
    Grid::suited(sources.images().originals().width(), pairs)
}

/// The maps that were chosen for one set of families, each once, the identity first.
struct ChosenMaps {
    fitted: Vec<MapSet>,
    specs: Vec<MapSpec>,
    /// Whether the raw embeddings have an outcome here.
    raw: bool,
}

impl ChosenMaps {
    fn fit(fitter: &Fitter, chosen: &[&Choice], raw: bool) -> Result<Self, SelectError> {
        let mut specs = vec![MapSpec::IDENTITY];
        for choice in chosen {
            let spec = choice.selection.chosen.map;
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        let candidates: Vec<(usize, MapSpec)> = specs.iter().copied().enumerate().collect();
        let mut failed = None;
        let fitted = MapSet::fit(fitter, &candidates, |_, error| failed = Some(error))?;
        failed.map_or(Ok(Self { fitted, specs, raw }), |error| Err(error.into()))
    }

    /// The eigenvalues of Δ̃, largest first. The identity comes first, and its objective is −Δ / tr
    /// Δ.
    fn spectrum(&self) -> Vec<f64> {
        let Some(set) = self.fitted.first() else {
            return Vec::new();
        };
        let width = set.eigenvalues().len() as f64;
        set.eigenvalues()
            .iter()
            .rev()
            .map(|&value| (-f64::from(value) * width).max(0.0))
            .collect()
    }

    /// The outcomes of one predictor: of the raw embeddings if wanted, and of every choice.
    fn outcomes(
        &self,
        sources: &Labelled,
        target: &HeldOut,
        (predictor, method): (Predictor, &Method),
        chosen: &[&Choice],
    ) -> Result<Vec<Outcome>, SelectError> {
        let identity = self.raw || chosen.iter().any(|c| !c.selection.improves());
        let counted = self.hits(sources, target, method, identity)?;
        let outcome = |row, map| {
            let index = self.specs.iter().position(|spec| *spec == map);
            let hits = index.and_then(|index| counted[index].clone());
            hits.map(|hits| Outcome { row, map, hits })
                .ok_or(SelectError::NoScores)
        };
        let mut outcomes = Vec::new();
        if self.raw {
            outcomes.push(outcome(Row::raw(predictor), MapSpec::IDENTITY)?);
        }
        for choice in chosen {
            let row = Row {
                predictor,
                candidates: choice.candidates,
                set: Some(choice.set),
                criterion: Some(choice.selection.criterion),
            };
            outcomes.push(outcome(row, choice.selection.chosen.map)?);
        }
        Ok(outcomes)
    }

    /// The hits on the target under each map; those of the identity only if wanted.
    fn hits(
        &self,
        sources: &Labelled,
        target: &HeldOut,
        method: &Method,
        identity: bool,
    ) -> Result<Vec<Option<Vec<f64>>>, SelectError> {
        let mut counted: Vec<Option<Vec<f64>>> = vec![None; self.specs.len()];
        for set in &self.fitted {
            let examples = Examples::new(
                set,
                &sources.images().originals().columns_f32(),
                sources.classes(),
            );
            let columns = set.coordinates(&target.embeddings().columns_f32());
            let mut previous: Option<FittedHead<f32>> = None;
            for (index, weights) in set.maps.iter().filter(|(index, _)| *index > 0 || identity) {
                let head = examples.fit(set, weights, method, previous.as_ref())?;
                let named = head.predict(&weights.apply(&columns));
                counted[*index] = Some(hits(&named, target.classes()));
                previous = Some(head);
            }
        }
        Ok(counted)
    }
}
