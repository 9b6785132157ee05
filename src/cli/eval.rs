//! `constancy eval`: measures how much a projection gains on images that nothing was learnt from.

mod args;
mod cells;
mod csv;
mod examples;
mod html;
mod inputs;
mod markdown;
mod plots;
mod protocol;
mod report;
mod tables;
mod text;

use super::CliError;
use super::output::{Target, check_targets, json_line, write_file};
use std::time::Instant;

pub(super) use args::EvalArgs;

pub(super) fn run(args: &EvalArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let files = [&args.csv, &args.markdown, &args.html];
    check_targets(files.into_iter().flatten().map(|path| Target::File(path)))?;
    let inputs = inputs::EvalInputs::gather(args)?;
    let report = protocol::run(args, &inputs, start)?;
    for warning in &report.warnings {
        log::warn!("{warning}");
    }
    if let Some(path) = &args.csv {
        write_file(path, csv::table(&report).as_bytes())?;
    }
    if let Some(path) = &args.markdown {
        write_file(path, markdown::page(&report).as_bytes())?;
    }
    if let Some(path) = &args.html {
        let examples = examples::examples(args, &inputs)?;
        write_file(path, html::page(&report, &examples).as_bytes())?;
    }
    if args.json {
        json_line(&report)?;
    } else {
        text::print(&report)?;
    }
    match inputs.stats.unreadable {
        0 => Ok(()),
        failed => Err(CliError::SomeFailed {
            failed,
            total: inputs.images.len() + failed,
        }),
    }
}
