//! What the two protocols share: their errors, and what their verdicts add up to.

use super::figures::{Group, Scoreboard};
use super::judge::{Choice, Outcome, Verdict};
use super::plan::{Candidates, Row};
use crate::icm::interventions::SourceError;
use crate::icm::select::SelectError;
use std::collections::BTreeMap;
use thiserror::Error;

/// Why a protocol cannot be run.
#[derive(Debug, Error)]
pub enum ProtocolError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error("half of {classes} classes is too few to learn from; at least 3 classes are needed")]
    FewClasses { classes: usize },
    #[error(
        "class `{class}` has {images} images; learning from {per_class} leaves none to judge by: add images, or learn from fewer"
    )]
    FewImages {
        class: String,
        images: usize,
        per_class: usize,
    },
    #[error(
        "all images are learnt from as one environment, which cannot be left out; choose by identification or by interventions"
    )]
    NoSourceEnvironments,
}

/// What the verdicts on all targets add up to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    pub sections: Vec<Section>,
    pub choices: Vec<TargetChoice>,
    /// The probe's C by target; empty where the protocol uses one C for all targets.
    pub penalties: BTreeMap<String, f64>,
    /// For each set, the eigenvalues of Δ̃, averaged over targets, in descending order. Their mean
    /// is 1.
    pub spectra: Vec<Vec<f64>>,
    /// Without duplicates.
    pub warnings: Vec<String>,
}

/// The hits on some of the images, under a title.
#[derive(Debug, Clone)]
pub struct Section {
    pub title: &'static str,
    pub board: Scoreboard,
}

/// The map that was chosen for one target.
#[derive(Debug, Clone)]
pub struct TargetChoice {
    /// The environment or family that was left out.
    pub target: String,
    pub choice: Choice,
}

pub(super) fn target_choices(target: &str, verdict: &Verdict) -> Vec<TargetChoice> {
    let named = |choice: &Choice| TargetChoice {
        target: target.to_owned(),
        choice: choice.clone(),
    };
    verdict.choices.iter().map(named).collect()
}

/// The mean over targets of each set's eigenvalues.
pub(super) fn mean_spectra(verdicts: &[Verdict]) -> Vec<Vec<f64>> {
    let Some(first) = verdicts.first() else {
        return Vec::new();
    };
    let mut means = first.spectra.clone();
    for (set, mean) in means.iter_mut().enumerate() {
        for (i, value) in mean.iter_mut().enumerate() {
            *value =
                verdicts.iter().map(|v| v.spectra[set][i]).sum::<f64>() / verdicts.len() as f64;
        }
    }
    means
}

/// Appends what the choices warned of, each warning once.
pub(super) fn add_warnings(warnings: &mut Vec<String>, verdicts: &[Verdict]) {
    let choices = verdicts.iter().flat_map(|verdict| &verdict.choices);
    for warning in choices.flat_map(|choice| &choice.selection.warnings) {
        let warning = format!("while choosing: {warning}");
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

/// A scoreboard with the rows of every verdict; `groups` gives the groups of a row by its index.
/// The choice among soft maps has no row of its own where it is the choice among all.
pub(super) fn scoreboard(
    verdicts: &[Verdict],
    same_images: bool,
    groups: impl Fn(usize) -> Vec<Group>,
) -> Scoreboard {
    let outcomes = verdicts.first().map_or(&[][..], |first| &first.outcomes);
    let same_maps = |one: usize, other: usize| {
        let mut outcomes = verdicts.iter().map(|verdict| &verdict.outcomes);
        outcomes.all(|outcomes| outcomes[one].map == outcomes[other].map)
    };
    let twin = |i: usize, candidates: Candidates| {
        let wanted = Row {
            candidates,
            ..outcomes[i].row
        };
        let twin = outcomes.iter().position(|outcome| outcome.row == wanted);
        twin.is_some_and(|twin| same_maps(i, twin))
    };
    let row = |i: usize| {
        let row = outcomes[i].row;
        let candidates = match row.candidates {
            Candidates::Soft if twin(i, Candidates::Icm) => return None,
            Candidates::Icm if twin(i, Candidates::Soft) => Candidates::Both,
            own => own,
        };
        Some((Row { candidates, ..row }, groups(i)))
    };
    Scoreboard {
        rows: (0..outcomes.len()).filter_map(row).collect(),
        same_images,
    }
}

/// The maps of `outcomes` of one row, each once, as text; none for the raw embeddings.
pub(super) fn map_names<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Vec<String> {
    let mut names = Vec::new();
    for outcome in outcomes {
        let name = outcome.map.to_string();
        if outcome.row.candidates != Candidates::Raw && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
