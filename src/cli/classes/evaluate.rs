//! `constancy classes evaluate`: judges a class bank by held-out images, and proposes thresholds.

mod answers;
mod html;
mod plots;
mod proposals;
mod quality;
mod report;
mod tables;
mod text;
mod thresholds;

use crate::cli::CliError;
use crate::cli::bank_images::Source;
use crate::cli::image_embeddings::{EmbeddingArgs, Families, parse_interventions};
use crate::cli::output::{Failures, Target, check_targets, json_line, write_file};
use crate::recognizer::classifier;
use answers::HeldOut;
use clap::Args;
use constancy_core::classify::DEFAULT_THRESHOLD;
use report::Report;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// Class bank, as written by `constancy classes`
    bank: PathBuf,
    /// Folder of images that the bank was not made from: HELD/CLASS/IMAGE or HELD/ENVIRONMENT/CLASS/IMAGE
    ///
    /// Folders that are no class of the bank show how often it takes something unknown for a class.
    held: PathBuf,
    #[command(flatten)]
    embedding: EmbeddingArgs,
    /// Projection file to apply; defaults to the one in --config, or to none
    #[arg(short, long, conflicts_with = "config")]
    projection: Option<PathBuf>,
    /// Intervention families to apply to each image: comma-separated names, the sets `paper`, `camera` and `all`, or
    /// `none`
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = parse_interventions)]
    interventions: Families,
    /// Least confidence of a known answer, or least score for a bank without confidence, 0 to 1; defaults to the one in
    /// --config, or to 0.5
    #[arg(long, value_parser = parse_threshold)]
    threshold: Option<f32>,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    /// Write the report with plots as a self-contained HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn parse_threshold(given: &str) -> Result<f32, String> {
    match given.parse() {
        Ok(threshold) if (0.0..=1.0).contains(&threshold) => Ok(threshold),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

pub(super) fn run(args: &EvaluateArgs) -> Result<(), CliError> {
    check_targets(args.html.iter().map(|path| Target::File(path)))?;
    let loaded = args.embedding.load()?;
    let projection = loaded.projection(args.projection.as_deref())?;
    let bank = loaded.frame_encoder.load_bank(&args.bank)?;
    let encoder = loaded.frame_encoder.encoder();
    let classifier = classifier(encoder, projection.clone(), bank.clone())?.with_limits(1, 0.0);
    let source = Source {
        embedding: &args.embedding,
        loaded: &loaded,
        projection: projection.as_ref(),
        interventions: &args.interventions,
    };
    let held = HeldOut::gather(&source, &bank, &classifier, &args.held)?;
    if held.own {
        log::warn!(
            "the bank was made from images of {}: these figures are too good; give images that it has not seen",
            args.held.display()
        );
    }
    let configured = loaded.settings.as_ref().map(|s| s.classes.threshold);
    let threshold = args.threshold.or(configured).unwrap_or(DEFAULT_THRESHOLD);
    let report = Report::new(args, &source, &bank, &held, threshold)?;
    if let Some(path) = &args.html {
        write_file(path, html::page(&report).as_bytes())?;
    }
    if args.json {
        json_line(&report)?;
    } else {
        text::print(&report)?;
    }
    Failures::new(held.unreadable, held.total).into_result()
}

#[cfg(test)]
mod tests {
    use super::parse_threshold;

    #[test]
    fn a_threshold_is_a_share() {
        assert_eq!(parse_threshold("0.25"), Ok(0.25));
        for refused in ["1.1", "-0.1", "NaN", "half"] {
            assert!(parse_threshold(refused).is_err(), "{refused}");
        }
    }
}
