//! `constancy eval`: how much a projection gains where nothing was learnt, by protocols of the field, with intervals.

mod csv;
mod data;
mod html;
mod markdown;
mod pictures;
mod protocol;
mod report;
mod svg;
mod text;

use super::CliError;
use super::image_embeddings::{EmbeddingArgs, Families, Select, families};
use super::output::{json_line, write_file};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// A folder ENVIRONMENT/CLASS/IMAGE (DomainBed's layout); with --hold-out-families CLASS/IMAGE will do
    folder: PathBuf,
    #[command(flatten)]
    embedding: EmbeddingArgs,
    /// Interventions that maps are fitted to, separated by commas: names, or the sets `paper`, `camera` and `all`.
    /// `same-class` beside them makes pairs of images of one class as well. Repeat it to compare several; unless given,
    /// all, paper and camera, or, with --hold-out-families, camera with and without same-class
    #[arg(long = "interventions", value_name = "LIST", value_parser = family_set)]
    sets: Vec<FamilyList>,
    /// What chooses maps, on the sources alone; both where there are three environments or more
    #[arg(long, value_enum, value_delimiter = ',', value_name = "BY")]
    select: Vec<Select>,
    /// How classes are told apart; class means and probe, and zero-shot where the model has a text tower
    #[arg(long, value_enum, value_delimiter = ',', value_name = "HOW")]
    predictors: Vec<PredictorArg>,
    /// A prompt template for zero-shot with {} for the class; repeat it to average over several
    #[arg(
        long = "prompt",
        value_name = "TEMPLATE",
        default_value = "a photo of a {}"
    )]
    prompts: Vec<String>,
    /// The probe's C; chosen by the sources' environments, or 0.316 where there is one, unless given
    #[arg(long, value_name = "C")]
    c: Option<f64>,
    /// Open classes: fit and choose with the first half of the classes, judge by all of them
    #[arg(long, conflicts_with = "hold_out_families")]
    open: bool,
    /// Instead of environments, leave out each family of interventions (`camera` unless --interventions names others):
    /// learn from a few images, and judge by the others under that family
    #[arg(long)]
    hold_out_families: bool,
    /// With --hold-out-families: images of each class to learn from
    #[arg(long, value_name = "K", default_value_t = 20, requires = "hold_out_families", value_parser = clap::value_parser!(u32).range(4..))]
    per_class: u32,
    /// With --hold-out-families: how often those are drawn
    #[arg(long, value_name = "N", default_value_t = 5, requires = "hold_out_families", value_parser = clap::value_parser!(u32).range(1..=1000))]
    draws: u32,
    /// FrameInput at no more than N images of each class in each environment, drawn by the seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// One JSON object on stdout instead of tables
    #[arg(long)]
    json: bool,
    /// Every figure as a line of a table for spreadsheets
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Tables as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// A report with plots and pictures of the interventions, in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A set of families, and how it was asked for.
#[derive(Debug, Clone)]
struct FamilyList {
    name: String,
    families: Families,
}

fn family_set(list: &str) -> Result<FamilyList, String> {
    Ok(FamilyList {
        name: list.trim().into(),
        families: families(list)?,
    })
}

/// What `--predictors` offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PredictorArg {
    /// The nearest prompt of the text tower
    ZeroShot,
    /// The nearest mean of a class's images
    Means,
    /// Logistic regression
    Probe,
}

pub(super) fn run(args: &EvalArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let subject = data::Subject::embed_images(args)?;
    let report = protocol::run(args, &subject, start)?;
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
        let pictures = pictures::examples(args, &subject)?;
        write_file(path, html::page(&report, &pictures).as_bytes())?;
    }
    if args.json {
        json_line(&report)?;
    } else {
        text::print(&report)?;
    }
    match subject.unreadable {
        0 => Ok(()),
        failed => Err(CliError::SomeFailed {
            failed,
            total: subject.images.len() + failed,
        }),
    }
}
