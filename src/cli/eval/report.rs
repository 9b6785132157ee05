//! Everything that is told of an evaluation; `--json` prints it, and the other forms are made of it.

use super::EvalArgs;
use super::data::Subject;
use constancy_core::icm::evaluate::{Candidates, FamilySet, Figures, Predictor, Row, Verdict};
use constancy_core::icm::{Criterion, Selection};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What was judged, how, and what came of it. All shares are `0..=1`, all intervals enclose 95 %.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Raised when a reader of this would have to change.
    schema: u32,
    constancy: &'static str,
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
    /// The probe's C, by target, where the sources chose it.
    pub penalties: BTreeMap<String, f64>,
    pub choices: Vec<ChoiceReport>,
    /// Of each set, the eigenvalues of Δ scaled to mean 1, in the mean over targets, the largest first.
    pub spectra: Vec<Vec<f64>>,
    pub warnings: Vec<String>,
    pub embeddings: Embedded,
    pub seconds: Seconds,
}

#[derive(Debug, Serialize)]
pub(super) struct Model {
    pub name: String,
    pub sha256: String,
    pub width: usize,
}

/// Figures on some of the images.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub title: String,
    pub figures: Vec<Figures>,
}

/// How one map was chosen.
#[derive(Debug, Serialize)]
pub(super) struct ChoiceReport {
    /// The environment, or the family, that was left out; of the first draw where there are several.
    pub target: String,
    pub set: usize,
    pub candidates: Candidates,
    pub selection: Selection,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Seconds {
    /// Until all embeddings were there.
    pub embedding: f64,
    pub judging: f64,
    pub total: f64,
}

/// Where embeddings came from.
#[derive(Debug, Serialize)]
pub(super) struct Embedded {
    pub from_cache: usize,
    pub computed: usize,
}

impl Report {
    pub(super) fn new(args: &EvalArgs, subject: &Subject) -> Self {
        let encoder = subject.crowd.frame_encoder.encoder();
        let manifest = encoder.manifest();
        let protocol = match (args.hold_out_families, args.open) {
            (true, _) => format!(
                "{} images per class to learn from, {} draws; the others are judged under interventions of a family that the fit did not see",
                args.per_class, args.draws
            ),
            (false, true) => {
                "each environment is left out in turn; fit and choice know the first half of the classes".into()
            }
            (false, false) => "each environment is left out in turn".to_owned(),
        };
        Self {
            schema: 1,
            constancy: env!("CARGO_PKG_VERSION"),
            folder: args.folder.clone(),
            protocol,
            model: Model {
                name: manifest.encoder.name.clone(),
                sha256: encoder.sha256().into(),
                width: manifest.output.width,
            },
            images: subject.images.len(),
            unreadable: subject.unreadable,
            environments: subject.labelled.environment_names().to_vec(),
            classes: subject.labelled.class_names().to_vec(),
            seed: args.embedding.seed,
            sets: subject.sets.clone(),
            predictors: subject.predictors.clone(),
            sections: Vec::new(),
            penalties: BTreeMap::new(),
            choices: Vec::new(),
            spectra: Vec::new(),
            warnings: subject.warnings.clone(),
            embeddings: Embedded {
                from_cache: subject.tally.known,
                computed: subject.tally.computed,
            },
            seconds: Seconds {
                embedding: subject.tally.took.as_secs_f64(),
                ..Seconds::default()
            },
        }
    }

    /// Remembers what a target's choices warned of, each once.
    pub(super) fn warn(&mut self, verdict: &Verdict) {
        for warning in verdict
            .choices
            .iter()
            .flat_map(|choice| &choice.selection.warnings)
        {
            let warning = format!("while choosing: {warning}");
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// A row's name in few words: which maps, fitted to what, chosen by what.
    pub(super) fn row_name(&self, row: &Row) -> String {
        let set = row.set.map(|set| self.sets[set].name.as_str());
        let parts = [
            Some(row.candidates.to_string()),
            set.map(String::from),
            row.criterion.map(|c| by(c).to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// The rows of a section that are about one predictor.
    pub(super) fn rows(section: &Section, predictor: Predictor) -> Vec<&Figures> {
        section
            .figures
            .iter()
            .filter(|f| f.row.predictor == predictor)
            .collect()
    }

    /// What falls behind the raw embeddings beyond doubt, row by row, in words.
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

/// What chose a map, in a word.
pub(super) fn by(criterion: Criterion) -> &'static str {
    match criterion {
        Criterion::Identification => "by identification",
        Criterion::LeftOutEnvironment => "by environments",
        Criterion::LeftOutIntervention => "by interventions",
    }
}

/// A share with its interval, in per cent.
pub(super) fn percent(interval: constancy_core::icm::Interval) -> String {
    format!(
        "{:.1} ({:.1} to {:.1})",
        interval.estimate * 100.0,
        interval.low * 100.0,
        interval.high * 100.0
    )
}

/// A difference of shares with its interval, in points.
pub(super) fn points(interval: constancy_core::icm::Interval) -> String {
    format!(
        "{:+.1} ({:+.1} to {:+.1})",
        interval.estimate * 100.0,
        interval.low * 100.0,
        interval.high * 100.0
    )
}

/// One predictor's figures as rows of cells, the heading first: rows are maps where there are few groups, and groups
/// where there are many.
pub(super) fn table(report: &Report, rows: &[&Figures]) -> Vec<Vec<String>> {
    const FEW: usize = 6;
    let Some(first) = rows.first() else {
        return Vec::new();
    };
    let name = |figures: &&Figures| report.row_name(&figures.row);
    if first.groups.len() <= FEW {
        let alone = first.groups.len() == 1;
        let means = if alone { &[][..] } else { &["mean"][..] };
        let names = first
            .groups
            .iter()
            .map(|g| g.name.as_str())
            .chain(means.iter().copied());
        let head = ["maps"]
            .into_iter()
            .chain(names)
            .chain(["gain on raw"])
            .map(String::from)
            .collect();
        let row = |figures: &&Figures| {
            let groups = figures
                .groups
                .iter()
                .chain((!alone).then_some(&figures.mean))
                .map(|g| percent(g.accuracy));
            let gain = figures.mean.gain.map_or_else(String::new, points);
            [name(figures)]
                .into_iter()
                .chain(groups)
                .chain([gain])
                .collect()
        };
        return [head].into_iter().chain(rows.iter().map(row)).collect();
    }
    let gains = |f: &&Figures| f.row.candidates != Candidates::Raw;
    let mut head = vec!["family".to_owned()];
    head.extend(rows.iter().map(name));
    head.extend(
        rows.iter()
            .filter(|f| gains(f))
            .map(|f| format!("gain of {}", name(f))),
    );
    let line = |label: &str, pick: &dyn Fn(&Figures) -> constancy_core::icm::evaluate::Figure| {
        let accuracies = rows.iter().map(|f| percent(pick(f).accuracy));
        let gained = rows.iter().filter_map(|f| pick(f).gain.map(points));
        [label.to_owned()]
            .into_iter()
            .chain(accuracies)
            .chain(gained)
            .collect::<Vec<_>>()
    };
    let groups =
        (0..first.groups.len()).map(|i| line(&first.groups[i].name, &|f| f.groups[i].clone()));
    [head]
        .into_iter()
        .chain(groups)
        .chain([line("mean", &|f| f.mean.clone())])
        .collect()
}
