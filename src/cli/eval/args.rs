//! The arguments of `constancy eval`.

use crate::cli::captions::CaptionArgs;
use crate::cli::image_embeddings::{CriterionArg, EmbeddingArgs, FamilySelection, parse_families};
use clap::{Args, ValueEnum};
use constancy_core::classify::DEFAULT_PROMPT;
use constancy_core::icm::Sweep;
use constancy_core::icm::captions::CAPTIONS;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(in crate::cli) struct EvalArgs {
    /// Folder laid out as ENVIRONMENT/CLASS/IMAGE, like DomainBed; CLASS/IMAGE is enough with --hold-out-families
    pub folder: PathBuf,
    #[command(flatten)]
    pub embedding: EmbeddingArgs,
    /// Intervention families to fit maps to: comma-separated names, or the sets `paper`, `camera` and `all`
    ///
    /// Add `same-class` to pair images of the same class as well, and `captions` for the pairs of --captions and
    /// --caption-edits. Repeat the option to compare several sets. Defaults to three sets, all, paper and camera; with
    /// --hold-out-families, to camera without and with same-class; with captions, to one set without and with them.
    #[arg(long = "interventions", value_name = "LIST", value_parser = parse_family_set)]
    pub sets: Vec<FamilySetArg>,
    /// Criteria for choosing maps, comma-separated; only source images are used
    ///
    /// Defaults to identification and within-class, plus environments if there are at least three of them. With
    /// --hold-out-families, defaults to identification and within-class.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "BY")]
    pub select: Vec<CriterionArg>,
    /// Evaluate these maps instead of choosing: soft:0.1/1/10, soft:1/3,within:1/10, remove:10/50,
    /// icm:lambda:1/10,rank:256/448 or identity
    ///
    /// Lists are separated by / and combined; `rank` is the number of directions that are left, and λ' may be inf. A
    /// key without values stands for usual ones, as in `icm:lambda,rank`. May be repeated.
    #[arg(long = "map", value_name = "MAPS", conflicts_with = "select")]
    pub maps: Vec<Sweep>,
    #[command(flatten)]
    pub captions: CaptionArgs,
    /// Classifiers to evaluate, comma-separated
    ///
    /// Defaults to means and probe, plus zero-shot if the model has a text tower.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "HOW")]
    pub predictors: Vec<PredictorArg>,
    /// Prompt template for zero-shot, with {} for the class; repeat to average over several templates
    #[arg(
        long = "prompt",
        value_name = "TEMPLATE",
        default_value = DEFAULT_PROMPT
    )]
    pub prompts: Vec<String>,
    /// C of the probe's logistic regression
    ///
    /// Defaults to the value that does best across the source environments, or to 0.316 if there is only one.
    #[arg(long, value_name = "C")]
    pub c: Option<f64>,
    /// Open classes: fit and choose on the first half of the classes, evaluate on all of them
    #[arg(long, conflicts_with = "hold_out_families")]
    pub open: bool,
    /// Hold out intervention families instead of environments
    ///
    /// Each family is held out in turn: maps and classes are learnt from a few images without it, and evaluated on the
    /// other images under it.
    #[arg(long)]
    pub hold_out_families: bool,
    /// Images of each class to learn from; needs --hold-out-families
    #[arg(long, value_name = "K", default_value_t = 20, requires = "hold_out_families", value_parser = clap::value_parser!(u32).range(4..))]
    pub per_class: u32,
    /// Number of times the images to learn from are drawn; needs --hold-out-families
    #[arg(long, value_name = "N", default_value_t = 5, requires = "hold_out_families", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub draws: u32,
    /// Learn from this environment alone; every other is a target
    #[arg(long, value_name = "ENVIRONMENT", conflicts_with = "hold_out_families")]
    pub source: Option<String>,
    /// Also calibrate each map for the target's light on N of its images without their labels, judged by the others: N of
    /// all classes, and N of each class alone, to see what that costs
    ///
    /// Not for the probe.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=1000))]
    pub calibrate: Option<u32>,
    /// Use at most N random images of each class in each environment
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: Option<u32>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Write every figure to a CSV file
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the tables to a Markdown file
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write a self-contained HTML report with plots and example images
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// One value of `--interventions`, with its text as the name.
#[derive(Debug, Clone)]
pub(in crate::cli) struct FamilySetArg {
    pub name: String,
    pub families: FamilySelection,
    /// Whether pairs of captions belong to it.
    pub captions: bool,
}

pub(super) fn parse_family_set(list: &str) -> Result<FamilySetArg, String> {
    let (captions, others): (Vec<&str>, Vec<&str>) = list
        .split(',')
        .map(str::trim)
        .partition(|&name| name == CAPTIONS);
    let families = if others.is_empty() {
        FamilySelection {
            interventions: Vec::new(),
            same_class: false,
            everything: false,
        }
    } else {
        parse_families(&others.join(","))?
    };
    Ok(FamilySetArg {
        name: list.trim().into(),
        families,
        captions: !captions.is_empty(),
    })
}

/// The values of `--predictors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum PredictorArg {
    /// Nearest text prompt
    ZeroShot,
    /// Nearest class mean
    Means,
    /// Logistic regression (linear probe)
    Probe,
}
