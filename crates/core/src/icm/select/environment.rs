//! With labels: does what was learnt in the other environments hold in the one that was left out?

use super::scores::{Board, Scores};
use super::{Criterion, Grid, Question, SelectError, SelectWarning, Selection};
use crate::icm::fit::Fitter;
use crate::icm::labelled::{EnvironmentMoments, Labelled, hits};
use crate::icm::map_set::Examples;
use crate::icm::moments::{Moments, Parts};
use crate::icm::predict::{Learnt, Method};
use nalgebra::DMatrix;

/// Chooses by accuracy on each environment, with map and classes learnt from the others, in the mean of `methods`.
/// Environments count alike.
pub fn by_environment(
    sources: &Labelled,
    grid: &Grid,
    methods: &[Method],
) -> Result<Selection, SelectError> {
    let families = sources.families();
    let question = Question {
        families: &families,
        grid,
    };
    let moments = sources.moments_by_environment();
    let moments: Vec<&EnvironmentMoments> = moments.iter().collect();
    let mut scores = by_environments(sources, &moments, &[question], methods)?;
    scores
        .pop()
        .and_then(Scores::pooled)
        .ok_or(SelectError::NoScores)?
        .choose(|_| true)
}

/// What each of several questions' candidates score with each method, `[question][method]`; they share what is common
/// to them. `moments` are those of the environments of `sources`.
pub(in crate::icm) fn by_environments(
    sources: &Labelled,
    moments: &[&EnvironmentMoments],
    questions: &[Question<'_>],
    methods: &[Method],
) -> Result<Vec<Vec<Scores>>, SelectError> {
    let mut boards: Vec<Board<'_>> = questions
        .iter()
        .map(|q| Board::new(q.grid, methods.len(), Vec::new()))
        .collect();
    for environment in environments(sources)? {
        let part = Part::new(sources, environment)?;
        if let Some(alone) = part.one_class(sources, environment) {
            for board in &mut boards {
                part.warnings
                    .iter()
                    .chain([&alone])
                    .for_each(|w| board.warn(w.clone()));
            }
            continue;
        }
        let shared = sources.moments_of_no_environment(&part.others);
        let of_others = moments
            .iter()
            .filter(|m| m.environment != environment)
            .map(|m| &m.moments);
        let moments: Vec<&Moments> = of_others.chain([&shared]).collect();
        for (question, board) in questions.iter().zip(&mut boards) {
            part.warnings.iter().for_each(|w| board.warn(w.clone()));
            let fitter = Fitter::over_parts(Parts(&moments), |name| {
                question.knows(sources.images(), name)
            })?;
            part.judge(&fitter, methods, board)?;
        }
    }
    Ok(boards
        .into_iter()
        .map(|board| board.finish(Criterion::LeftOutEnvironment))
        .collect())
}

/// The probe's C, of `penalties`, with which it names most images of left-out environments when it learns from
/// embeddings as they are; the smallest of those that are as good as each other. MapSet are to be compared under one C.
pub fn penalty_by_environment(sources: &Labelled, penalties: &[f64]) -> Result<f64, SelectError> {
    let environments = environments(sources)?;
    let mut scores = vec![0.0; penalties.len()];
    for environment in environments {
        let part = Part::new(sources, environment)?;
        if part.one_class(sources, environment).is_some() {
            continue;
        }
        let probes = Learnt::probes(&part.examples, &part.labels, penalties)?;
        for (learnt, score) in probes.iter().zip(&mut scores) {
            let hits = part.hits(&learnt.predict(&part.judged));
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
struct Part {
    /// The others' images, by their index among all.
    others: Vec<usize>,
    /// The same, `[D, n]`.
    examples: DMatrix<f32>,
    labels: Vec<usize>,
    /// `[D, m]`, the environment's images whose class the others know.
    judged: DMatrix<f32>,
    truth: Vec<usize>,
    warnings: Vec<SelectWarning>,
}

impl Part {
    fn new(sources: &Labelled, environment: usize) -> Result<Self, SelectError> {
        let mut warnings = Vec::new();
        let (judged, examples) = split(sources, environment, &mut warnings)?;
        let columns = |picked: &[usize]| sources.images().originals().pick(picked).rough();
        let classes = |picked: &[usize]| picked.iter().map(|&i| sources.classes()[i]).collect();
        Ok(Self {
            examples: columns(&examples),
            labels: classes(&examples),
            judged: columns(&judged),
            truth: classes(&judged),
            others: examples,
            warnings,
        })
    }

    /// What to say where nothing can be learnt from the others, as their images are of one class.
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

    /// One group of scores for every candidate of every method.
    fn judge(
        &self,
        fitter: &Fitter,
        methods: &[Method],
        board: &mut Board<'_>,
    ) -> Result<(), SelectError> {
        for maps in board.fit(fitter)? {
            let examples = Examples::new(&maps, &self.examples, &self.labels);
            let judged = maps.coordinates(&self.judged);
            for (method, scores) in methods.iter().zip(&mut board.groups) {
                let mut before = None;
                for (index, lens) in &maps.lenses {
                    let learnt = examples.learn(&maps, lens, method, before.as_ref())?;
                    scores[*index].push(self.hits(&learnt.predict(&lens.look(&judged))));
                    before = Some(learnt);
                }
            }
        }
        Ok(())
    }

    fn hits(&self, named: &[usize]) -> Vec<f64> {
        hits(named, &self.truth)
    }
}

/// The images of an environment whose class the others know, and the images of the others.
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
