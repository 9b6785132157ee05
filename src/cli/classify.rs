//! `constancy classify`: classifies images.

use super::CliError;
use super::model_args::{LabelArgs, ModelArgs, recognizer};
use super::output::{for_each_image, image_files, json_line, line};
use crate::files::lossy;
use clap::Args;
use constancy_core::classify::{Decision, Reason, Scored};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct ClassifyArgs {
    /// Images or folders of images
    #[arg(required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    labels: LabelArgs,
    /// Class bank, as written by `constancy classes`
    #[arg(long)]
    classes: Option<PathBuf>,
    /// Number of classes to list for each image
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    top: u16,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "lossy")]
    file: &'a Path,
    class: &'a str,
    score: f32,
    confidence: Option<f32>,
    margin: f32,
    known: bool,
    reason: Option<Reason>,
    in_support: Option<bool>,
    shift: Option<f32>,
    top: &'a [Scored],
}

pub(super) fn run(args: &ClassifyArgs) -> Result<(), CliError> {
    let mut recognizer = recognizer(
        &args.model,
        &args.labels,
        args.classes.as_deref(),
        args.top.into(),
    )?;
    let images = image_files(&args.images)?;
    for_each_image(&images, false, |index, frame| {
        let path = &images[index];
        let (decision, _) = recognizer.recognize(frame)?;
        if args.json {
            json(path, &decision)
        } else {
            text(path, &decision)
        }
    })?
    .into_result()
}

fn json(path: &Path, decision: &Decision) -> Result<(), CliError> {
    let best = &decision.top[0];
    json_line(&Line {
        file: path,
        class: &best.class,
        score: best.score,
        confidence: decision.confidence,
        margin: decision.margin,
        known: decision.known,
        reason: decision.reason,
        in_support: decision.in_support,
        shift: decision.shift,
        top: &decision.top,
    })
}

fn text(path: &Path, decision: &Decision) -> Result<(), CliError> {
    let scores: Vec<String> = decision
        .top
        .iter()
        .map(|s| format!("{} {:.3}", s.class, s.score))
        .collect();
    let note = match decision.reason {
        None => "",
        Some(Reason::Unfamiliar) => "  (unknown: unlike the examples)",
        Some(Reason::Drift) => "  (unknown: not sure enough, in light unlike that of the examples)",
        Some(Reason::Ambiguous) => "  (unknown: no class stands out)",
    };
    let confidence = decision
        .confidence
        .map_or_else(String::new, |c| format!("  confidence {c:.2}"));
    line(&format!(
        "{}: {}{confidence}{note}",
        path.display(),
        scores.join(", ")
    ))
}
