//! The images to evaluate on: found, labelled by their folders, and embedded under interventions.

use super::args::{EvalArgs, FamilySetArg, PredictorArg, parse_family_set};
use crate::cli::CliError;
use crate::cli::image_embeddings::LoadedEncoder;
use crate::embedding_cache::{EmbedError, EmbedStats, ImageEmbeddings, InterventionPlan};
use crate::files::{Layout, labelled_images};
use constancy_core::icm::evaluate::{FamilySet, Predictor, sample};
use constancy_core::icm::{Domains, Embeddings, Item, Labelled};
use constancy_core::intervene::Family;
use std::path::PathBuf;

/// Everything that a protocol takes, and where it came from, for the report.
pub(super) struct EvalInputs {
    pub encoder: LoadedEncoder,
    pub labelled: Labelled,
    /// The file of each image of `labelled`.
    pub images: Vec<PathBuf>,
    pub stats: EmbedStats,
    /// Classes that an environment lacks, as sentences.
    pub warnings: Vec<String>,
    pub sets: Vec<FamilySet>,
    pub interventions: InterventionPlan,
    pub predictors: Vec<Predictor>,
    /// The text tower's embedding of each class, if zero-shot is one of `predictors`.
    pub text: Option<Embeddings>,
}

impl EvalInputs {
    /// Finds the images, and embeds those that the cache does not have.
    pub(super) fn gather(args: &EvalArgs) -> Result<Self, CliError> {
        let domains = domains(args)?;
        let sets = family_sets(args)?;
        let encoder = args.embedding.load()?;
        let predictors = predictors(args, &encoder);
        let zero_shot = predictors.contains(&Predictor::ZeroShot);
        let text = zero_shot
            .then(|| encoder.class_embeddings(&domains.classes, &args.prompts))
            .transpose()?;
        let interventions = InterventionPlan {
            families: families(&sets),
            draws: 1,
            seed: args.embedding.seed,
        };
        let items = sampled(&domains.items, args);
        let paths: Vec<PathBuf> = items.iter().map(|item| item.path.clone()).collect();
        let embedded = args
            .embedding
            .embed_images(&encoder, &paths, &interventions)?;
        if embedded.kept.is_empty() {
            return Err(CliError::SomeFailed {
                failed: embedded.stats.unreadable,
                total: paths.len(),
            });
        }
        let same_class = sets.iter().any(|set| set.families.same_class);
        Ok(Self {
            encoder,
            images: embedded.kept.iter().map(|&i| paths[i].clone()).collect(),
            stats: embedded.stats,
            labelled: labelled(embedded, &domains, &items, same_class)?,
            warnings: domains.missing.iter().map(ToString::to_string).collect(),
            sets: sets.into_iter().map(FamilySet::from).collect(),
            interventions,
            predictors,
            text,
        })
    }
}

/// The embeddings of those of `items` that could be read, with their labels.
fn labelled(
    embedded: ImageEmbeddings,
    domains: &Domains,
    items: &[&Item],
    same_class: bool,
) -> Result<Labelled, CliError> {
    let kept = embedded.kept.iter().map(|&i| items[i]);
    let labelled = Labelled::of_items(embedded.interventions, domains, kept);
    Ok(labelled
        .map_err(EmbedError::Source)?
        .with_same_class(same_class))
}

impl From<FamilySetArg> for FamilySet {
    fn from(set: FamilySetArg) -> Self {
        Self {
            name: set.name,
            families: set.families.names(),
        }
    }
}

fn domains(args: &EvalArgs) -> Result<Domains, CliError> {
    if !args.folder.is_dir() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such folder");
        return Err(CliError::Read {
            path: args.folder.clone(),
            source,
        });
    }
    if args.hold_out_families {
        let images = labelled_images(&args.folder, Layout::Any)?;
        return Ok(Domains::arrange_any(&args.folder, &images)?);
    }
    let images = labelled_images(&args.folder, Layout::Environments)?;
    Ok(Domains::arrange(&args.folder, &images)?)
}

/// The sets of `--interventions`, or the protocol's defaults.
fn family_sets(args: &EvalArgs) -> Result<Vec<FamilySetArg>, CliError> {
    let defaults: &[&str] = if args.hold_out_families {
        &["camera", "camera,same-class"]
    } else {
        &["all", "paper", "camera"]
    };
    let sets = if args.sets.is_empty() {
        let sets: Result<_, String> = defaults.iter().map(|list| parse_family_set(list)).collect();
        sets.map_err(CliError::Usage)?
    } else {
        args.sets.clone()
    };
    let least = if args.hold_out_families { 3 } else { 2 };
    match sets
        .iter()
        .find(|set| set.families.interventions.len() < least)
    {
        Some(set) => Err(CliError::Usage(format!(
            "--interventions {}: at least {least} families are needed, because choosing a map leaves some out",
            set.name
        ))),
        None => Ok(sets),
    }
}

/// The families of all sets, each once.
fn families(sets: &[FamilySetArg]) -> Vec<Family> {
    let used = |family: &Family| {
        sets.iter()
            .any(|set| set.families.interventions.contains(family))
    };
    Family::ALL.into_iter().filter(used).collect()
}

fn predictors(args: &EvalArgs, encoder: &LoadedEncoder) -> Vec<Predictor> {
    if !args.predictors.is_empty() {
        let predictor = |arg: &PredictorArg| match arg {
            PredictorArg::ZeroShot => Predictor::ZeroShot,
            PredictorArg::Means => Predictor::ClassMeans,
            PredictorArg::Probe => Predictor::Probe,
        };
        return args.predictors.iter().map(predictor).collect();
    }
    let has_text = encoder.frame_encoder.encoder().manifest().text.is_some();
    let zero_shot = has_text.then_some(Predictor::ZeroShot);
    zero_shot
        .into_iter()
        .chain([Predictor::ClassMeans, Predictor::Probe])
        .collect()
}

fn sampled<'a>(items: &'a [Item], args: &EvalArgs) -> Vec<&'a Item> {
    match args.sample {
        Some(most) => sample(items, most as usize, args.embedding.seed),
        None => items.iter().collect(),
    }
}
