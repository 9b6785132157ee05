//! `constancy classes`: creates a class bank, or judges one.

mod evaluate;
mod from_images;

use super::CliError;
use super::bank_images::Source;
use super::calibrate::{Unnamed, describe};
use super::image_embeddings::{EmbeddingArgs, Families, parse_interventions};
use super::model_args::LabelArgs;
use super::output::{Failures, Target, check_targets, line, write_file};
use crate::recognizer::IDENTITY;
use clap::{Args, Subcommand};
use constancy_core::classify::{ClassBank, Space, Support};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group = clap::ArgGroup::new("from").required(true).args(["labels", "from_images"]))]
pub(super) struct ClassesArgs {
    #[command(subcommand)]
    command: Option<ClassesCommand>,
    #[command(flatten)]
    embedding: EmbeddingArgs,
    /// Projection file to apply; defaults to the one in --config, or to none
    #[arg(short, long, conflicts_with = "config")]
    projection: Option<PathBuf>,
    #[command(flatten)]
    labels: LabelArgs,
    /// Folder with one subfolder of example images per class, named after the class
    #[arg(long, value_name = "DIR")]
    from_images: Option<PathBuf>,
    /// Use only the first N images of each class, in order of name
    #[arg(long, value_name = "N", requires = "from_images", value_parser = clap::value_parser!(u32).range(1..))]
    per_class: Option<u32>,
    /// Intervention families to apply to each example: comma-separated names, the sets `paper`, `camera` and `all`, or
    /// `none`
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = parse_interventions)]
    interventions: Families,
    /// Folder of at least 20 typical images, unsorted or with one subfolder per class, to calibrate on; needs --labels
    #[arg(
        long,
        value_name = "DIR",
        requires = "labels",
        conflicts_with = "from_images"
    )]
    like: Option<PathBuf>,
    /// Class bank to write
    #[arg(short, long, default_value = "classes.safetensors")]
    output: PathBuf,
}

#[derive(Debug, Subcommand)]
enum ClassesCommand {
    /// Judge a class bank by held-out images, and propose thresholds
    Evaluate(evaluate::EvaluateArgs),
}

pub(super) fn run(args: &ClassesArgs) -> Result<(), CliError> {
    if let Some(ClassesCommand::Evaluate(args)) = &args.command {
        return evaluate::run(args);
    }
    check_targets([Target::File(&args.output)])?;
    let labels = args.labels.labels()?;
    let loaded = args.embedding.load()?;
    let projection = loaded.projection(args.projection.as_deref())?;
    let source = Source {
        embedding: &args.embedding,
        loaded: &loaded,
        projection: projection.as_ref(),
        interventions: &args.interventions,
    };
    let (bank, failures) = match (&args.from_images, labels) {
        (Some(folder), _) => from_images::bank(&source, folder, args.per_class)?,
        (None, Some(labels)) => {
            let mut bank = loaded.bank_from_labels(&labels, &args.labels.prompts)?;
            let failures = match &args.like {
                Some(folder) => with_calibration(&source, &mut bank, folder)?,
                None => Failures::NONE,
            };
            (bank, failures)
        }
        (None, None) => {
            return Err(CliError::Usage(
                "no classes are named; give --labels or --from-images".into(),
            ));
        }
    };
    write_file(&args.output, &bank.to_bytes()?)?;
    report(&args.output, &bank)?;
    failures.into_result()
}

fn report(output: &Path, bank: &ClassBank) -> Result<(), CliError> {
    line(&format!(
        "{}: {} classes ({}){}{}",
        output.display(),
        bank.labels.len(),
        bank.labels.join(", "),
        if bank.confidence.is_some() {
            "; calibrated"
        } else {
            ""
        },
        describe(bank),
    ))
}

/// Calibrates a bank of labels on images like those that it will see, and measures what is unlike them.
fn with_calibration(
    source: &Source<'_>,
    bank: &mut ClassBank,
    folder: &Path,
) -> Result<Failures, CliError> {
    let images = source.judged(&bank.labels, folder, &Unnamed::Unsorted)?;
    let embeddings: Vec<Vec<f32>> = images.embedded.originals().rows().collect();
    let space = Space {
        projection: source.projection.map(|p| p.projection.clone()),
        whitening: None,
    };
    let digest = source.projection.map_or(IDENTITY, |p| &p.digest);
    bank.support = Support::measure_nearest(&embeddings, &bank.rows, &space, digest);
    if bank.support.is_none() {
        return Err(CliError::Usage(format!(
            "--like {} has too few images; at least 20 are needed",
            folder.display()
        )));
    }
    source.calibrate(bank, &images)?;
    Ok(images.failures)
}
