//! With labels: does what was learnt in the other environments hold in the one that was left out?

use super::{Board, Criterion, Grid, SelectError, SelectWarning, Selection};
use crate::icm::Embeddings;
use crate::icm::fit::Fitter;
use crate::icm::predict::{Head, Method};
use crate::icm::sources::Labelled;
use crate::icm::spec::MapSpec;

/// No image leaves its encoder here, so any name will do.
const SAME_ENCODER: &str = "";

/// Chooses by accuracy on each environment, with map and classes learnt from the others. Environments count alike.
pub fn by_environment(sources: &Labelled, grid: &Grid, method: &Method) -> Result<Selection, SelectError> {
    let mut environments = sources.environments().to_vec();
    environments.sort_unstable();
    environments.dedup();
    if let [] | [_] = environments[..] {
        let environment = environments.first().map_or_else(String::new, |&e| sources.environment_names()[e].clone());
        return Err(SelectError::OneEnvironment { environment });
    }
    let mut board = Board::new(grid, environments.len());
    let mut warnings = Vec::new();
    for (group, &environment) in environments.iter().enumerate() {
        let (left_out, rest) = split(sources, environment, &mut warnings)?;
        let learnt = sources.pick(&rest);
        let judged = sources.images().originals().pick(&left_out);
        let fitter = Fitter::new(&learnt.images().moments(SAME_ENCODER))?;
        if let Some(warning) = fitter.warning().map(SelectWarning::Fit).filter(|w| !warnings.contains(w)) {
            warnings.push(warning);
        }
        for maps in board.fit(&fitter)? {
            let examples = maps.spectrum.coordinates(learnt.images().originals().columns());
            let judged = maps.spectrum.coordinates(judged.columns());
            let method = match method {
                Method::ZeroShot(text) => {
                    Method::ZeroShot(Embeddings { columns: maps.spectrum.coordinates(text.columns()) })
                }
                other => other.clone(),
            };
            for (index, lens) in &maps.lenses {
                let head = Head::fit(&method, &examples, learnt.classes(), |columns| lens.look(columns))?;
                let named = head.predict(&lens.look(&judged));
                let hit = |(named, &image): (&usize, &usize)| {
                    if *named == sources.classes()[image] { 1.0 } else { 0.0 }
                };
                board.groups[*index][group] = named.iter().zip(&left_out).map(hit).collect();
            }
        }
    }
    board.choose(Criterion::LeftOutEnvironment, warnings)
}

/// The probe's C, of `penalties`, with which it names most images of left-out environments under `map`; the smallest
/// of those that are as good as each other.
pub fn penalty_by_environment(sources: &Labelled, map: &MapSpec, penalties: &[f64]) -> Result<f64, SelectError> {
    let mut best: Option<(f64, f64)> = None;
    for &c in penalties {
        let selection = by_environment(sources, &Grid::new([*map]), &Method::Probe { c })?;
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
