//! One target: choose on the sources, learn from the sources, count on the target.

use super::{Candidates, FamilySet, Plan, Predictor, Row};
use crate::icm::fit::Fitter;
use crate::icm::labelled::{EnvironmentMoments, HeldOut, Labelled, hits};
use crate::icm::logistic::DEFAULT_C;
use crate::icm::map_set::{DirectionWeights, Examples, MapSet};
use crate::icm::moments::{Moments, Parts};
use crate::icm::predict::{Learnt, Method};
use crate::icm::select::{
    Criterion, Grid, Identification, PENALTIES, Question, Scores, SelectError, Selection,
    by_environments, by_interventions, identify, penalty_by_environment,
};
use crate::icm::spec::{MapKind, MapSpec};

/// One row on one target.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub row: Row,
    pub map: MapSpec,
    /// Per image of the target, 1 where it was named right, and 0 where not.
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

/// Everything about one target.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// In the same order for every target of a plan, the raw one of each predictor first.
    pub outcomes: Vec<Outcome>,
    /// Class of each image of the target.
    pub classes: Vec<usize>,
    pub choices: Vec<Choice>,
    /// Of each set, the eigenvalues of Δ̃, whose mean is 1, the largest first.
    pub spectra: Vec<Vec<f64>>,
    /// The probe's C, where there was a probe.
    pub c: Option<f64>,
}

/// Judges by `target` what can be fitted, chosen and learnt with `sources`. `moments` are those of their environments, as
/// far as the plan lets them be [seen](Plan::seen); of others there may be some, too, so that targets can share them.
pub fn judge(
    sources: &Labelled,
    target: &HeldOut,
    plan: &Plan,
    moments: &[EnvironmentMoments],
) -> Result<Verdict, SelectError> {
    let known = plan.seen(sources);
    let used = known.used_environments();
    let by_environment: Vec<&EnvironmentMoments> = moments
        .iter()
        .filter(|m| used.contains(&m.environment))
        .collect();
    let all: Vec<usize> = (0..known.classes().len()).collect();
    let shared = known.moments_of_no_environment(&all);
    let moments: Vec<&Moments> = by_environment
        .iter()
        .map(|m| &m.moments)
        .chain([&shared])
        .collect();
    let c = plan
        .predictors
        .contains(&Predictor::Probe)
        .then(|| penalty(&known, plan))
        .transpose()?;
    let methods = methods(plan, c);
    let choices = choices(&known, &by_environment, plan, &choosers(&methods))?;
    let mut outcomes: Vec<Vec<Outcome>> = plan.predictors.iter().map(|_| Vec::new()).collect();
    let mut spectra = Vec::new();
    for (set, families) in plan.sets.iter().enumerate() {
        let question = families
            .families
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>();
        let question = Question {
            families: &question,
            grid: &Grid::new([]),
        };
        let fitter =
            Fitter::over_parts(Parts(&moments), |name| question.knows(known.images(), name))?;
        let chosen: Vec<&Choice> = choices.iter().filter(|choice| choice.set == set).collect();
        let fitted = Fitted::new(&fitter, &chosen, set == 0)?;
        spectra.push(fitted.spectrum());
        for ((&predictor, method), outcomes) in
            plan.predictors.iter().zip(&methods).zip(&mut outcomes)
        {
            fitted.count(sources, target, (predictor, method), &chosen, outcomes)?;
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

/// The probe's C: the one that was given, else the sources' choice, else, where they are one environment, the usual one.
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

/// How classes are told apart where maps are chosen by labels: in every way but by a probe, which learns anew what each
/// map left and hides what it took; by that where there is no other.
fn choosers(methods: &[Method]) -> Vec<Method> {
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

/// One map by every criterion for every set, and one more of the soft ones alone.
fn choices(
    sources: &Labelled,
    moments: &[&EnvironmentMoments],
    plan: &Plan,
    methods: &[Method],
) -> Result<Vec<Choice>, SelectError> {
    let suited = |set: &FamilySet| {
        let families = sources
            .images()
            .families()
            .iter()
            .filter(|f| set.families.contains(&f.name));
        let pairs = families.map(|family| family.of.len() as u64).sum();
        Grid::suited(sources.images().originals().width(), pairs)
    };
    let grids: Vec<Grid> = plan.sets.iter().map(suited).collect();
    let names: Vec<Vec<&str>> = plan
        .sets
        .iter()
        .map(|s| s.families.iter().map(String::as_str).collect())
        .collect();
    let questions: Vec<Question<'_>> = names
        .iter()
        .zip(&grids)
        .map(|(families, grid)| Question { families, grid })
        .collect();
    let mut choices = Vec::new();
    for criterion in &plan.criteria {
        let scores: Vec<Scores> = match criterion {
            Criterion::Identification => identify(
                sources.images(),
                &questions,
                &Identification::new(plan.seed),
            )?,
            Criterion::LeftOutEnvironment => {
                let of_methods = by_environments(sources, moments, &questions, methods)?;
                of_methods.into_iter().filter_map(Scores::pooled).collect()
            }
            Criterion::LeftOutIntervention => {
                let how = Identification::new(plan.seed);
                let of_methods = by_interventions(sources, &questions, methods, &how)?;
                of_methods.into_iter().filter_map(Scores::pooled).collect()
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

/// The maps of one set that were chosen, each once.
struct Fitted {
    maps: Vec<MapSet>,
    specs: Vec<MapSpec>,
    /// Whether the raw embeddings are judged here.
    raw: bool,
}

impl Fitted {
    fn new(fitter: &Fitter, chosen: &[&Choice], raw: bool) -> Result<Self, SelectError> {
        let mut specs = vec![MapSpec::IDENTITY];
        for choice in chosen {
            let spec = choice.selection.chosen.map;
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        let candidates: Vec<(usize, MapSpec)> = specs.iter().copied().enumerate().collect();
        let mut failed = None;
        let maps = MapSet::fit(fitter, &candidates, |_, error| failed = Some(error))?;
        failed.map_or(Ok(Self { maps, specs, raw }), |error| Err(error.into()))
    }

    /// Of Δ̃: the identity is fitted by the variance of interventions alone, and first.
    fn spectrum(&self) -> Vec<f64> {
        let Some(maps) = self.maps.first() else {
            return Vec::new();
        };
        let width = maps.eigenvalues().len() as f64;
        maps.eigenvalues()
            .iter()
            .rev()
            .map(|&value| (-f64::from(value) * width).max(0.0))
            .collect()
    }

    /// Counts the target's images that are named right under every choice.
    fn count(
        &self,
        sources: &Labelled,
        target: &HeldOut,
        (predictor, method): (Predictor, &Method),
        chosen: &[&Choice],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), SelectError> {
        let mut counted: Vec<Option<Vec<f64>>> = vec![None; self.specs.len()];
        for maps in &self.maps {
            let examples = Examples::new(
                maps,
                &sources.images().originals().rough(),
                sources.classes(),
            );
            let judged = maps.coordinates(&target.embeddings().rough());
            let mut before: Option<Learnt<f32>> = None;
            let wanted = |(index, _): &&(usize, DirectionWeights)| {
                *index > 0 || self.raw || chosen.iter().any(|c| !c.selection.improves())
            };
            for (index, lens) in maps.lenses.iter().filter(wanted) {
                let learnt = examples.learn(maps, lens, method, before.as_ref())?;
                counted[*index] =
                    Some(hits(&learnt.predict(&lens.look(&judged)), target.classes()));
                before = Some(learnt);
            }
        }
        let hits_of = |spec: &MapSpec| {
            let index = self.specs.iter().position(|s| s == spec)?;
            counted[index].clone()
        };
        if self.raw {
            let hits = hits_of(&MapSpec::IDENTITY).ok_or(SelectError::NoScores)?;
            outcomes.push(Outcome {
                row: Row::raw(predictor),
                map: MapSpec::IDENTITY,
                hits,
            });
        }
        for choice in chosen {
            let map = choice.selection.chosen.map;
            let criterion = Some(choice.selection.criterion);
            let row = Row {
                predictor,
                candidates: choice.candidates,
                set: Some(choice.set),
                criterion,
            };
            outcomes.push(Outcome {
                row,
                map,
                hits: hits_of(&map).ok_or(SelectError::NoScores)?,
            });
        }
        Ok(())
    }
}
