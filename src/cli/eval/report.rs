//! The report of an evaluation. `--json` prints it as it is; the other formats are made from it.

use super::args::EvalArgs;
use super::inputs::EvalInputs;
use crate::cli::reports::{Made, points};
use crate::files::lossy;
use constancy_core::icm::evaluate::{Candidates, FamilySet, Figures, Predictor, Row, TargetChoice};
use constancy_core::icm::{Criterion, Selection};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Accuracies and their gains, and how they came about. All shares are `0..=1`, all intervals enclose 95 %.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Incremented with every incompatible change.
    schema: u32,
    #[serde(flatten)]
    pub made: Made,
    #[serde(serialize_with = "lossy")]
    pub folder: PathBuf,
    pub protocol: String,
    pub model: Model,
    pub images: usize,
    pub unreadable: usize,
    pub environments: Vec<String>,
    pub classes: Vec<String>,
    pub seed: u64,
    pub sets: Vec<FamilySet>,
    pub predictors: Vec<Predictor>,
    pub sections: Vec<Section>,
    /// The probe's C by target; empty where one C is used for all.
    pub penalties: BTreeMap<String, f64>,
    pub choices: Vec<ChoiceReport>,
    /// For each set, the eigenvalues of Δ scaled to mean 1, averaged over targets, in descending order.
    pub spectra: Vec<Vec<f64>>,
    pub warnings: Vec<String>,
    pub embeddings: EmbeddingCounts,
    pub seconds: Seconds,
}

#[derive(Debug, Serialize)]
pub(super) struct Model {
    pub name: String,
    pub sha256: String,
    pub width: usize,
    pub logit_scale: f32,
}

/// Figures on some of the images, under a title.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub title: String,
    pub figures: Vec<Figures>,
}

/// How one map was chosen.
#[derive(Debug, Serialize)]
pub(super) struct ChoiceReport {
    /// The environment or family that was left out; with several draws, those of the first are listed.
    pub target: String,
    pub set: usize,
    pub candidates: Candidates,
    pub selection: Selection,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Seconds {
    /// Until all embeddings were available.
    pub embedding: f64,
    pub judging: f64,
    pub total: f64,
}

/// Where embeddings came from.
#[derive(Debug, Serialize)]
pub(super) struct EmbeddingCounts {
    pub from_cache: usize,
    pub computed: usize,
}

impl From<TargetChoice> for ChoiceReport {
    fn from(TargetChoice { target, choice }: TargetChoice) -> Self {
        Self {
            target,
            set: choice.set,
            candidates: choice.candidates,
            selection: choice.selection,
        }
    }
}

impl Report {
    /// A report without figures.
    pub(super) fn new(args: &EvalArgs, inputs: &EvalInputs) -> Self {
        let encoder = inputs.encoder.frame_encoder.encoder();
        let manifest = encoder.manifest();
        Self {
            schema: 2,
            made: Made::now(),
            folder: args.folder.clone(),
            protocol: protocol(args),
            model: Model {
                name: manifest.encoder.name.clone(),
                sha256: encoder.sha256().into(),
                width: manifest.output.width,
                logit_scale: manifest.output.logit_scale,
            },
            images: inputs.images.len(),
            unreadable: inputs.stats.unreadable,
            environments: inputs.labelled.environment_names().to_vec(),
            classes: inputs.labelled.class_names().to_vec(),
            seed: args.embedding.seed,
            sets: inputs.sets.clone(),
            predictors: inputs.predictors.clone(),
            sections: Vec::new(),
            penalties: BTreeMap::new(),
            choices: Vec::new(),
            spectra: Vec::new(),
            warnings: inputs.warnings.clone(),
            embeddings: EmbeddingCounts {
                from_cache: inputs.stats.cached,
                computed: inputs.stats.computed,
            },
            seconds: Seconds {
                embedding: inputs.stats.took.as_secs_f64(),
                ..Seconds::default()
            },
        }
    }

    /// A short name of a row: the candidate maps or the one that was given, the set they are fitted to, and the criterion.
    pub(super) fn row_name(&self, row: &Row) -> String {
        let set = row.set.map(|set| self.sets[set].name.as_str());
        let maps = row.map.map(|map| map.to_string());
        let parts = [
            Some(maps.unwrap_or_else(|| row.candidates.to_string())),
            set.map(String::from),
            row.criterion.map(|c| by(c).to_owned()),
            row.calibrated.map(|on| on.to_string()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// The rows of one predictor in a section.
    pub(super) fn rows(section: &Section, predictor: Predictor) -> Vec<&Figures> {
        section
            .figures
            .iter()
            .filter(|f| f.row.predictor == predictor)
            .collect()
    }

    /// For each row, the groups where it is significantly worse than the raw embeddings, as text.
    pub(super) fn losses(&self, rows: &[&Figures]) -> Vec<String> {
        let words = |figures: &&Figures| {
            let lost = figures.groups.iter().filter(|figure| figure.loses());
            let lost: Vec<String> = lost
                .map(|f| format!("{} {}", f.name, f.gain.map_or_else(String::new, points)))
                .collect();
            (!lost.is_empty())
                .then(|| format!("{}: {}", self.row_name(&figures.row), lost.join(", ")))
        };
        rows.iter().filter_map(words).collect()
    }
}

/// The protocol in a sentence.
fn protocol(args: &EvalArgs) -> String {
    match (args.hold_out_families, args.open) {
        (true, _) => format!(
            "{} images per class to learn from, {} draws; the others are judged under interventions of a family that the fit did not see",
            args.per_class, args.draws
        ),
        (false, true) => {
            "each environment is left out in turn; fit and choice know the first half of the classes".into()
        }
        (false, false) => match &args.source {
            Some(source) => format!("everything is learnt from {source}; the others are targets"),
            None => "each environment is left out in turn".into(),
        },
    }
}

/// A criterion in two words.
pub(super) fn by(criterion: Criterion) -> &'static str {
    match criterion {
        Criterion::Identification => "by identification",
        Criterion::LeftOutEnvironment => "by environments",
        Criterion::LeftOutIntervention => "by interventions",
        Criterion::Agreement => "by agreement",
        Criterion::HeldOutImages => "by held-out images",
    }
}
