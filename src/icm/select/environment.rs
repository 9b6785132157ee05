//! With labels: does what was learnt in the other environments hold in the one that was left out?

use super::board::Board;
use super::{Criterion, Grid, Question, SelectError, SelectWarning, Selection};
use crate::icm::fit::Fitter;
use crate::icm::lens::Examples;
use crate::icm::moments::Moments;
use crate::icm::predict::Method;
use crate::icm::sources::Labelled;
use crate::icm::spec::MapSpec;
use nalgebra::DMatrix;

/// No image leaves its encoder here, so any name will do.
const SAME_ENCODER: &str = "";

/// Chooses by accuracy on each environment, with map and classes learnt from the others. Environments count alike.
pub fn by_environment(sources: &Labelled, grid: &Grid, method: &Method) -> Result<Selection, SelectError> {
    let families: Vec<&str> = sources.images().families().iter().map(|f| f.name.as_str()).collect();
    let question = Question { families: &families, grid };
    let mut selections = by_environments(sources, &[question], std::slice::from_ref(method))?;
    selections.pop().and_then(|mut of| of.pop()).ok_or(SelectError::NoScores)
}

/// The same for several questions and methods, `[question][method]`, which share what is common to them.
pub(in crate::icm) fn by_environments(
    sources: &Labelled,
    questions: &[Question<'_>],
    methods: &[Method],
) -> Result<Vec<Vec<Selection>>, SelectError> {
    let environments = environments(sources)?;
    let mut boards: Vec<Board<'_>> = questions.iter().map(|q| Board::new(q.grid, methods.len(), Vec::new())).collect();
    let moments = sources.images().moments(SAME_ENCODER);
    for environment in environments {
        let (part, warnings) = Part::new(sources, environment, &moments)?;
        for (question, board) in questions.iter().zip(&mut boards) {
            warnings.iter().for_each(|w| board.warn(w.clone()));
            part.judge(question, methods, board)?;
        }
    }
    boards.into_iter().map(|board| board.choose(Criterion::LeftOutEnvironment)).collect()
}

/// The environments that have images; at least two.
fn environments(sources: &Labelled) -> Result<Vec<usize>, SelectError> {
    let mut environments = sources.environments().to_vec();
    environments.sort_unstable();
    environments.dedup();
    if let [] | [_] = environments[..] {
        let environment = environments.first().map_or_else(String::new, |&e| sources.environment_names()[e].clone());
        return Err(SelectError::OneEnvironment { environment });
    }
    Ok(environments)
}

/// An environment that is left out, and what is learnt from the others.
struct Part {
    moments: Moments,
    /// `[D, n]`.
    examples: DMatrix<f32>,
    labels: Vec<usize>,
    /// `[D, m]`.
    judged: DMatrix<f32>,
    truth: Vec<usize>,
}

impl Part {
    fn new(
        sources: &Labelled,
        environment: usize,
        moments: &Moments,
    ) -> Result<(Self, Vec<SelectWarning>), SelectError> {
        let mut warnings = Vec::new();
        let (left_out, rest) = split(sources, environment, &mut warnings)?;
        let of_environment = |&i: &usize| sources.environments()[i] == environment;
        let all: Vec<usize> = (0..sources.classes().len()).filter(of_environment).collect();
        let columns = |images: &[usize]| sources.images().originals().pick(images).rough();
        let classes = |images: &[usize]| images.iter().map(|&i| sources.classes()[i]).collect();
        let part = Self {
            moments: moments.without(&sources.images().pick(&all).moments(SAME_ENCODER)),
            examples: columns(&rest),
            labels: classes(&rest),
            judged: columns(&left_out),
            truth: classes(&left_out),
        };
        Ok((part, warnings))
    }

    /// One group of scores for every candidate of every method.
    fn judge(&self, question: &Question<'_>, methods: &[Method], board: &mut Board<'_>) -> Result<(), SelectError> {
        let fitter = Fitter::over(&self.moments, |name| question.families.contains(&name))?;
        for maps in board.fit(&fitter)? {
            let examples = Examples::new(&maps, &self.examples, &self.labels);
            let judged = maps.coordinates(&self.judged);
            for (method, scores) in methods.iter().zip(&mut board.groups) {
                let mut before = None;
                for (index, lens) in &maps.lenses {
                    let learnt = examples.learn(&maps, lens, method, before.as_ref())?;
                    let named = learnt.predict(&lens.look(&judged));
                    let hit = |(named, truth): (&usize, &usize)| if named == truth { 1.0 } else { 0.0 };
                    scores[*index].push(named.iter().zip(&self.truth).map(hit).collect());
                    before = Some(learnt);
                }
            }
        }
        Ok(())
    }
}

/// The probe's C, of `penalties`, with which it names most images of left-out environments under `map`; the smallest
/// of those that are as good as each other.
pub fn penalty_by_environment(sources: &Labelled, map: &MapSpec, penalties: &[f64]) -> Result<f64, SelectError> {
    let families: Vec<&str> = sources.images().families().iter().map(|f| f.name.as_str()).collect();
    let grid = Grid::new([*map]);
    let methods: Vec<Method> = penalties.iter().map(|&c| Method::Probe { c }).collect();
    let selections = by_environments(sources, &[Question { families: &families, grid: &grid }], &methods)?;
    let mut best: Option<(f64, f64)> = None;
    for (&c, selection) in penalties.iter().zip(selections.iter().flatten()) {
        let score = selection.trials.last().ok_or(SelectError::NoScores)?.score;
        let better = |(known, least): (f64, f64)| score > known || (score >= known && c < least);
        if best.is_none_or(better) {
            best = Some((score, c));
        }
    }
    best.map(|(_, c)| c).ok_or(SelectError::NoScores)
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
            warnings.push(SelectWarning::OnlyIn { environment: name(), class: class_name.clone() });
        }
    }
    if left_out.is_empty() { Err(SelectError::NothingInCommon { environment: name() }) } else { Ok((left_out, rest)) }
}
