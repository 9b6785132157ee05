//! The report. `--json` prints it as it is; text and HTML are made from it.

use super::answers::{Answer, HeldOut};
use super::args::EvaluateArgs;
use super::proposals::{Proposal, proposals};
use super::quality::{Quality, share};
use super::thresholds::{AtThreshold, Known, thresholds, unreached};
use crate::cli::CliError;
use crate::cli::bank_images::Source;
use crate::cli::reports::Made;
use crate::files::lossy;
use crate::recognizer::IDENTITY;
use constancy_core::classify::ClassBank;
use constancy_core::stats::Interval;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a bank's answers to held-out images are worth. All shares are `0..=1`, all intervals enclose 95 %.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Incremented with every incompatible change.
    schema: u32,
    #[serde(flatten)]
    pub made: Made,
    #[serde(serialize_with = "lossy")]
    pub bank: PathBuf,
    #[serde(serialize_with = "lossy")]
    pub held: PathBuf,
    pub model: String,
    pub model_sha256: String,
    /// Digest of the projection, or `identity`.
    pub projection: String,
    pub seed: u64,
    /// What thresholds are on: `confidence`, or `score` for a bank that has none.
    pub judged_by: &'static str,
    /// The least confidence, or score, of a known answer in the figures by class and by family.
    pub threshold: f32,
    /// Whether the bank was made from these images, so that all figures are too good.
    pub made_from_held: bool,
    /// Images of the bank's classes, and of none.
    pub images: usize,
    pub unknown_images: usize,
    pub unreadable: usize,
    pub environments: Vec<Group>,
    /// Names of folders that are no class of the bank.
    pub unknown: Vec<String>,
    pub as_they_are: Quality,
    pub under_interventions: Option<Quality>,
    /// The bank's labels, in its order.
    pub labels: Vec<String>,
    pub classes: Vec<ClassFigures>,
    /// The most frequent first, right ones among them.
    pub confusion: Vec<Confused>,
    pub thresholds: Vec<AtThreshold>,
    /// Shares of right answers that the bank's own calibration shows from no threshold on.
    pub unreached: Vec<f64>,
    /// The worst first.
    pub families: Vec<Group>,
    pub proposals: Vec<Proposal>,
}

/// Answers of one environment or under one family of interventions.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub name: String,
    pub images: usize,
    pub accuracy: Interval,
    #[serde(flatten)]
    pub known: Known,
}

/// One class, as its images are.
#[derive(Debug, Serialize)]
pub(super) struct ClassFigures {
    pub class: String,
    pub images: usize,
    /// The share of its images that are answered by it; `None` without images.
    pub recall: Option<Interval>,
    /// The share of its images that are called known, by whatever class.
    pub known: Option<Interval>,
    /// How many images are answered by it, and the share of right answers among them. Images of no class count as wrong.
    pub answers: usize,
    pub precision: Option<Interval>,
}

/// How many images of a class, as they are, are answered by which.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Confused {
    /// `None`: no class of the bank.
    pub class: Option<String>,
    pub answer: String,
    pub images: usize,
}

impl Report {
    pub(super) fn new(
        args: &EvaluateArgs,
        source: &Source<'_>,
        bank: &ClassBank,
        held: &HeldOut,
        threshold: f32,
    ) -> Result<Self, CliError> {
        let encoder = source.loaded.frame_encoder.encoder();
        let as_they_are = held.as_they_are();
        let unknown_images = held.those(|a| a.family.is_none() && !a.of_bank()).len();
        let quality = Quality::of(&as_they_are);
        Ok(Self {
            schema: 1,
            made: Made::now(),
            bank: args.bank.clone(),
            held: args.held.clone(),
            model: encoder.manifest().encoder.name.clone(),
            model_sha256: encoder.sha256().into(),
            projection: source.projection.map_or(IDENTITY, |p| &p.digest).to_owned(),
            seed: source.embedding.seed,
            judged_by: if bank.confidence.is_some() {
                "confidence"
            } else {
                "score"
            },
            threshold,
            made_from_held: held.own,
            images: as_they_are.len(),
            unknown_images,
            unreadable: held.unreadable,
            environments: environments(held, threshold),
            unknown: held.unknown.clone(),
            as_they_are: quality.ok_or(CliError::SomeFailed {
                failed: held.unreadable,
                total: held.total,
            })?,
            under_interventions: Quality::of(&held.changed()),
            labels: bank.labels.clone(),
            classes: classes(bank, held, threshold),
            confusion: confusion(bank, held),
            thresholds: thresholds(bank, held, threshold),
            unreached: unreached(bank),
            families: families(held, threshold),
            proposals: proposals(&bank.labels, &held.answers),
        })
    }
}

fn group(name: &str, answers: &[Answer], threshold: f32) -> Option<Group> {
    Some(Group {
        name: name.into(),
        images: answers.len(),
        accuracy: share(answers, Answer::right)?,
        known: Known::at(answers, threshold)?,
    })
}

/// Each environment as its images are, in order of name.
fn environments(held: &HeldOut, threshold: f32) -> Vec<Group> {
    let answers = held.as_they_are();
    let of = |(i, name): (usize, &String)| {
        let own = answers.iter().filter(|a| a.environment == i);
        group(name, &own.copied().collect::<Vec<_>>(), threshold)
    };
    held.environments
        .iter()
        .enumerate()
        .filter_map(of)
        .collect()
}

fn families(held: &HeldOut, threshold: f32) -> Vec<Group> {
    let of = |(i, name): (usize, &String)| {
        let own = held.those(|a| a.family == Some(i) && a.of_bank());
        group(name, &own, threshold)
    };
    let mut all: Vec<Group> = held.families.iter().enumerate().filter_map(of).collect();
    all.sort_by(|a, b| a.accuracy.estimate.total_cmp(&b.accuracy.estimate));
    all
}

fn classes(bank: &ClassBank, held: &HeldOut, threshold: f32) -> Vec<ClassFigures> {
    let answers = held.those(|a| a.family.is_none());
    let of = |(class, label): (u32, &String)| {
        let own = || {
            answers
                .iter()
                .filter(move |a| a.outcome.truth == Some(class))
        };
        let named = || answers.iter().filter(move |a| a.outcome.answer == class);
        ClassFigures {
            class: label.clone(),
            images: own().count(),
            recall: share(own(), Answer::right),
            known: share(own(), |a| a.outcome.accepted(threshold)),
            answers: named().count(),
            precision: share(named(), Answer::right),
        }
    };
    (0..).zip(&bank.labels).map(of).collect()
}

fn confusion(bank: &ClassBank, held: &HeldOut) -> Vec<Confused> {
    let mut counts: BTreeMap<(Option<u32>, u32), usize> = BTreeMap::new();
    for Answer { outcome, .. } in held.answers.iter().filter(|a| a.family.is_none()) {
        *counts.entry((outcome.truth, outcome.answer)).or_default() += 1;
    }
    let label = |class: u32| bank.labels[class as usize].clone();
    let confused = |((truth, answer), images): ((Option<u32>, u32), usize)| Confused {
        class: truth.map(label),
        answer: label(answer),
        images,
    };
    let mut all: Vec<Confused> = counts.into_iter().map(confused).collect();
    all.sort_by_key(|c| std::cmp::Reverse(c.images));
    all
}
