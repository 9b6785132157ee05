//! Runs the protocol that the arguments ask for on all cores, and puts its figures into the report.

use super::args::EvalArgs;
use super::inputs::EvalInputs;
use super::report::{ChoiceReport, Report, Section};
use crate::cli::CliError;
use crate::cli::output::progress;
use crate::embedding_cache::EmbedError;
use constancy_core::icm::evaluate::{
    self, FewShot, Figures, LeaveOneEnvironmentOut, LeaveOneFamilyOut, Plan, ProtocolError,
    Scoreboard, Summary, figures_of,
};
use constancy_core::icm::{Bootstrap, MapSpec};
use constancy_engine::performance_cores;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

pub(super) fn run(
    args: &EvalArgs,
    inputs: &EvalInputs,
    start: Instant,
) -> Result<Report, CliError> {
    let mut report = Report::new(args, inputs);
    let judging = Instant::now();
    let plan = plan(args, inputs)?;
    let summary = if args.hold_out_families {
        families(args, inputs, plan)?
    } else {
        environments(args, inputs, plan)?
    };
    add(&mut report, summary, &Bootstrap::new(args.embedding.seed))?;
    report.seconds.judging = judging.elapsed().as_secs_f64();
    report.seconds.total = start.elapsed().as_secs_f64();
    Ok(report)
}

fn plan(args: &EvalArgs, inputs: &EvalInputs) -> Result<Plan, CliError> {
    let output = &inputs.encoder.frame_encoder.encoder().manifest().output;
    let maps = args.maps.iter().map(|sweep| sweep.maps(output.width));
    let maps: Vec<Vec<MapSpec>> = maps
        .collect::<Result<_, _>>()
        .map_err(|error| CliError::Usage(format!("--map: {error}")))?;
    Ok(Plan {
        maps: maps.into_iter().flatten().collect(),
        logit_scale: output.logit_scale.into(),
        sets: inputs.sets.clone(),
        criteria: args.select.iter().map(|&by| by.into()).collect(),
        predictors: inputs.predictors.clone(),
        text: inputs.text.clone(),
        c: args.c,
        known_classes: None,
        calibrate: args.calibrate.map_or(0, |n| n as usize),
        seed: args.embedding.seed,
    })
}

fn environments(args: &EvalArgs, inputs: &EvalInputs, plan: Plan) -> Result<Summary, CliError> {
    let protocol = LeaveOneEnvironmentOut::new(&inputs.labelled, plan, args.open);
    let mut protocol = protocol.map_err(refused)?;
    if let Some(source) = &args.source {
        protocol = protocol.from_source(source).map_err(refused)?;
    }
    let targets = protocol.targets().len();
    let moments = in_parallel("moments", protocol.parts(), |i| Ok(protocol.moments(i)))?;
    let verdicts = in_parallel("environments", targets, |i| {
        protocol.judge(i, &moments).map_err(refused)
    })?;
    Ok(protocol.summary(&verdicts))
}

fn families(args: &EvalArgs, inputs: &EvalInputs, plan: Plan) -> Result<Summary, CliError> {
    let few_shot = FewShot {
        per_class: args.per_class as usize,
        draws: args.draws as usize,
    };
    let protocol = LeaveOneFamilyOut::new(&inputs.labelled, plan, few_shot).map_err(refused)?;
    let verdicts = in_parallel("targets", protocol.tasks(), |i| {
        protocol.judge(i).map_err(refused)
    })?;
    Ok(protocol.summary(&verdicts))
}

/// The protocol's error, with the argument that caused it.
fn refused(error: ProtocolError) -> CliError {
    match error {
        ProtocolError::Source(error) => EmbedError::Source(error).into(),
        ProtocolError::Select(error) => error.into(),
        ProtocolError::FewClasses { .. } => CliError::Usage(format!("--open: {error}")),
        ProtocolError::FewImages { .. } => CliError::Usage(format!("--per-class: {error}")),
        ProtocolError::NoSourceEnvironments => CliError::Usage(format!(
            "--select environments with --hold-out-families: {error}"
        )),
    }
}

fn add(report: &mut Report, summary: Summary, bootstrap: &Bootstrap) -> Result<(), CliError> {
    report.choices = summary
        .choices
        .into_iter()
        .map(ChoiceReport::from)
        .collect();
    report.penalties = summary.penalties;
    report.spectra = summary.spectra;
    report.warnings.extend(summary.warnings);
    for evaluate::Section { title, board } in summary.sections {
        report.sections.push(Section {
            title: title.into(),
            figures: figures(&board, bootstrap)?,
        });
    }
    Ok(())
}

/// The figures of every row whose groups all have images.
fn figures(board: &Scoreboard, bootstrap: &Bootstrap) -> Result<Vec<Figures>, CliError> {
    let rows = in_parallel("intervals", board.rows.len(), |row| {
        Ok(figures_of(board, row, bootstrap))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Runs `count` tasks on all performance cores and returns their results in order; the first error ends the run.
fn in_parallel<T: Send>(
    what: &str,
    count: usize,
    task: impl Fn(usize) -> Result<T, CliError> + Sync,
) -> Result<Vec<T>, CliError> {
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    let bar = progress(count, what, true);
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..performance_cores().min(count) {
            let (send, next, task) = (send.clone(), &next, &task);
            scope.spawn(move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count || send.send((i, task(i))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (i, result) in receive {
            match result {
                Ok(result) => results[i] = Some(result),
                Err(error) => {
                    next.store(count, Ordering::Relaxed);
                    return Err(error);
                }
            }
            bar.inc(1);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(results.into_iter().flatten().collect())
}
