//! With labels: does what was learnt in the other environments hold in the one that was left out?

use super::error::SelectError;
use super::grid::Grid;
use super::score_table::ScoreTable;
use super::scores::Scores;
use super::search_space::SearchSpace;
use super::selection::{Criterion, SelectWarning, Selection};
use crate::icm::fit::Fitter;
use crate::icm::head::{Examples, FittedHead, Method};
use crate::icm::held_out::hits;
use crate::icm::labelled::{EnvironmentMoments, Labelled};
use crate::icm::moments::Moments;
use crate::icm::pooled_moments::PooledMoments;
use nalgebra::DMatrix;

/// The probe's C to try: half decades around [`DEFAULT_C`](crate::icm::DEFAULT_C), which is meant
/// for embeddings of length 10, not 1.
pub const PENALTIES: [f64; 7] = [0.1, 0.316, 1.0, 3.16, 10.0, 31.6, 100.0];

/// Chooses by accuracy on each environment, with map and classes learnt from the others, averaged
/// over `methods`. Every environment has the same weight.
pub fn by_environment(
    sources: &Labelled,
    grid: &Grid,
    methods: &[Method],
) -> Result<Selection, SelectError> {
    let families = sources.families();
    let space = SearchSpace {
        families: &families,
        grid,
        other_pairs: true,
    };
    let moments = sources.moments_by_environment();
    let moments: Vec<&EnvironmentMoments> = moments.iter().collect();
    let mut scores = environment_scores(sources, &moments, &[space], methods)?;
    scores
        .pop()
        .and_then(Scores::pooled)
        .ok_or(SelectError::NoScores)?
        .choose(|_| true)
}

/// The scores `[space][method]` of the candidates of several search spaces, which share the splits.
/// `moments` are those of the environments of `sources`.
pub(in crate::icm) fn environment_scores(
    sources: &Labelled,
    moments: &[&EnvironmentMoments],
    spaces: &[SearchSpace<'_>],
    methods: &[Method],
) -> Result<Vec<Vec<Scores>>, SelectError> {
    let mut tables: Vec<ScoreTable<'_>> = spaces
        .iter()
        .map(|space| ScoreTable::new(space.grid, methods.len(), Vec::new()))
        .collect();
    for environment in environments(sources)? {
        let split = LeftOut::new(sources, environment)?;
        let one_class = split.one_class(sources, environment);
        for warning in split.warnings.iter().chain(&one_class) {
            for table in &mut tables {
                table.warn(warning.clone());
            }
        }
        if one_class.is_some() {
            continue;
        }
        let shared = sources.shared_moments(&split.others, sources.has_same_class());
        let of_others = moments
            .iter()
            .filter(|m| m.environment != environment)
            .map(|m| &m.moments);
        let moments: Vec<&Moments> = of_others.chain([&shared]).collect();
        for (space, table) in spaces.iter().zip(&mut tables) {
            let allowed = |name: &str| space.allows(sources.images(), name);
            let fitter = Fitter::pooled(PooledMoments(&moments), allowed)?;
            split.score(&fitter, methods, table)?;
        }
    }
    Ok(tables
        .into_iter()
        .map(|table| table.finish(Criterion::LeftOutEnvironment))
        .collect())
}

/// The C among `penalties` that gives a probe on raw embeddings the best accuracy on left-out
/// environments; the smallest in a tie. All maps are compared under one C.
pub fn penalty_by_environment(sources: &Labelled, penalties: &[f64]) -> Result<f64, SelectError> {
    let environments = environments(sources)?;
    let mut scores = vec![0.0; penalties.len()];
    for environment in environments {
        let split = LeftOut::new(sources, environment)?;
        if split.one_class(sources, environment).is_some() {
            continue;
        }
        let probes = FittedHead::probes(&split.examples, &split.labels, penalties)?;
        for (head, score) in probes.iter().zip(&mut scores) {
            let hits = split.hits(&head.predict(&split.target));
            *score += hits.iter().sum::<f64>() / hits.len() as f64;
        }
    }
    let better = |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1));
    let best = scores
        .into_iter()
        .zip(penalties.iter().copied())
        .max_by(better);
    best.map(|(_, c)| c).ok_or(SelectError::NoScores)
}

/// The environments that have images; at least two.
fn environments(sources: &Labelled) -> Result<Vec<usize>, SelectError> {
    let environments = sources.used_environments();
    if let [] | [_] = environments[..] {
        let environment = environments
            .first()
            .map_or_else(String::new, |&e| sources.environment_names()[e].clone());
        return Err(SelectError::OneEnvironment { environment });
    }
    Ok(environments)
}

/// An environment that is left out, and the examples of the others.
struct LeftOut {
    /// Indices of the others' images among all.
    others: Vec<usize>,
    /// The others' images, `[D, n]`.
    examples: DMatrix<f32>,
    labels: Vec<usize>,
    /// The environment's images of classes that the others have, `[D, m]`.
    target: DMatrix<f32>,
    truth: Vec<usize>,
    warnings: Vec<SelectWarning>,
}

impl LeftOut {
    fn new(sources: &Labelled, environment: usize) -> Result<Self, SelectError> {
        let mut warnings = Vec::new();
        let (target, examples) = split(sources, environment, &mut warnings)?;
        let columns = |picked: &[usize]| sources.images().originals().pick(picked).columns_f32();
        let classes = |picked: &[usize]| picked.iter().map(|&i| sources.classes()[i]).collect();
        Ok(Self {
            examples: columns(&examples),
            labels: classes(&examples),
            target: columns(&target),
            truth: classes(&target),
            others: examples,
            warnings,
        })
    }

    /// A warning if nothing can be learnt from the others because their images are of one class.
    fn one_class(&self, sources: &Labelled, environment: usize) -> Option<SelectWarning> {
        let class = *self.labels.first()?;
        let name = |names: &[String], index: usize| names[index].clone();
        self.labels
            .iter()
            .all(|&label| label == class)
            .then(|| SelectWarning::OneClass {
                environment: name(sources.environment_names(), environment),
                class: name(sources.class_names(), class),
            })
    }

    /// Adds a group of scores for every candidate and method.
    fn score(
        &self,
        fitter: &Fitter,
        methods: &[Method],
        table: &mut ScoreTable<'_>,
    ) -> Result<(), SelectError> {
        for set in table.fit(fitter)? {
            let examples = Examples::new(&set, &self.examples, &self.labels);
            let target = set.coordinates(&self.target);
            for (method, scores) in methods.iter().zip(&mut table.groups) {
                let mut previous = None;
                for (index, weights) in &set.maps {
                    let head = examples.fit(&set, weights, method, previous.as_ref())?;
                    scores[*index].push(self.hits(&head.predict(&weights.apply(&target))));
                    previous = Some(head);
                }
            }
        }
        Ok(())
    }

    fn hits(&self, named: &[usize]) -> Vec<f64> {
        hits(named, &self.truth)
    }
}

/// Indices of an environment's images whose class the others have, and of the others' images.
fn split(
    sources: &Labelled,
    environment: usize,
    warnings: &mut Vec<SelectWarning>,
) -> Result<(Vec<usize>, Vec<usize>), SelectError> {
    let (mut left_out, rest): (Vec<usize>, Vec<usize>) =
        (0..sources.environments().len()).partition(|&i| sources.environments()[i] == environment);
    let name = || sources.environment_names()[environment].clone();
    for (class, class_name) in sources.class_names().iter().enumerate() {
        let of_class = |&i: &usize| sources.classes()[i] == class;
        if left_out.iter().any(of_class) && !rest.iter().any(of_class) {
            left_out.retain(|i| !of_class(i));
            warnings.push(SelectWarning::OnlyIn {
                environment: name(),
                class: class_name.clone(),
            });
        }
    }
    if left_out.is_empty() {
        Err(SelectError::NothingInCommon {
            environment: name(),
        })
    } else {
        Ok((left_out, rest))
    }
}
