//! `constancy classes evaluate`: judges a class bank by held-out images, and proposes thresholds.

mod answers;
mod args;
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
use crate::cli::output::{Failures, Target, check_targets, json_line, write_file};
use crate::recognizer::{Limits, classifier};
use answers::HeldOut;
use report::Report;

pub(super) use args::EvaluateArgs;

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
    let limits = match &loaded.settings {
        Some(settings) if args.threshold.is_none() => Limits::of(&settings.classes, &bank)?,
        _ => Limits::usual(&bank),
    };
    let threshold = args.threshold.unwrap_or(limits.threshold);
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
