//! The images to evaluate on: found, labelled by their folders, and embedded under interventions.

use super::args::{EvalArgs, FamilySetArg, PredictorArg, parse_family_set};
use crate::cli::CliError;
use crate::cli::image_embeddings::{LoadedEncoder, labels_of_folders};
use crate::embedding_cache::{EmbedError, EmbedStats, ImageEmbeddings, InterventionPlan};
use crate::files::{Layout, labelled_images};
use constancy_core::icm::captions::CAPTIONS;
use constancy_core::icm::evaluate::{FamilySet, Predictor, known_classes, sample};
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
        let captions = args.captions.embeddings(
            &encoder,
            || Ok(edited_labels(args, &domains)),
            &args.prompts,
        )?;
        let interventions = InterventionPlan {
            families: families(&sets),
            draws: 1,
            seed: args.embedding.seed,
        };
        let items = sampled(&domains.items, args);
        let paths: Vec<PathBuf> = items.iter().map(|item| item.path.clone()).collect();
        let mut embedded = args
            .embedding
            .embed_images(&encoder, &paths, &interventions)?;
        if embedded.kept.is_empty() {
            return Err(CliError::SomeFailed {
                failed: embedded.stats.unreadable,
                total: paths.len(),
            });
        }
        if let Some((originals, changed)) = captions {
            embedded.interventions = embedded
                .interventions
                .with_pairs(CAPTIONS, originals, changed)
                .map_err(EmbedError::Source)?;
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
            families: set
                .families
                .names()
                .into_iter()
                .chain(set.captions.then(|| CAPTIONS.into()))
                .collect(),
        }
    }
}

/// The labels whose prompts --caption-edits changes: all, or those that the fit may know.
fn edited_labels(args: &EvalArgs, domains: &Domains) -> Vec<String> {
    let all = domains.classes.len();
    let known = if args.open { known_classes(all) } else { all };
    labels_of_folders(&domains.classes[..known])
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
    let asked = args.captions.asked();
    let defaults: &[&str] = match (args.hold_out_families, asked) {
        (true, None) => &["camera", "camera,same-class"],
        (true, Some(_)) => &["camera", "camera,captions"],
        (false, None) => &["all", "paper", "camera"],
        (false, Some(_)) => &["all", "all,captions"],
    };
    let sets = if args.sets.is_empty() {
        let sets: Result<_, String> = defaults.iter().map(|list| parse_family_set(list)).collect();
        sets.map_err(CliError::Usage)?
    } else {
        args.sets.clone()
    };
    let refused = sets
        .iter()
        .find_map(|set| Some((set, set_refused(args, set)?)));
    match (refused, asked) {
        (Some((set, why)), _) => Err(CliError::Usage(format!(
            "--interventions {}: {why}",
            set.name
        ))),
        (None, Some(option)) if !sets.iter().any(|set| set.captions) => {
            Err(CliError::Usage(format!(
                "no set uses {option}; add captions to a list of --interventions, as in paper,captions"
            )))
        }
        _ => Ok(sets),
    }
}

/// Why a set cannot be evaluated.
fn set_refused(args: &EvalArgs, set: &FamilySetArg) -> Option<String> {
    if set.captions && args.captions.asked().is_none() {
        return Some("captions need --captions FILE or --caption-edits".into());
    }
    let least = match (args.maps.is_empty(), args.hold_out_families) {
        (false, false) => 0,
        (false, true) if set.captions => 0,
        (false, true) | (true, false) => 2,
        (true, true) => 3,
    };
    let few = set.families.interventions.len() < least;
    few.then(|| format!("at least {least} families are needed, because some are left out"))
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
