//! The images that are judged, their embeddings under interventions, and their labels.

use super::super::CliError;
use super::super::image_embeddings::Crowd;
use super::{EvalArgs, FamilyList, PredictorArg, family_set};
use crate::capture::list_images;
use crate::embedding_cache::{EmbedError, ImageEmbeddings, Tally, Wanted};
use constancy_core::icm::evaluate::{FamilySet, Predictor};
use constancy_core::icm::{Domains, Embeddings, Item, Labelled};
use constancy_core::intervene::Family;
use constancy_core::numeric::Rng;
use std::path::PathBuf;

/// Everything that is judged.
pub(super) struct Subject {
    pub crowd: Crowd,
    pub labelled: Labelled,
    /// The file of each image of `labelled`.
    pub images: Vec<PathBuf>,
    pub unreadable: usize,
    pub tally: Tally,
    /// What is unlike the usual, in words.
    pub warnings: Vec<String>,
    pub sets: Vec<FamilySet>,
    pub wanted: Wanted,
    pub predictors: Vec<Predictor>,
    /// The classes' embeddings by the text tower, where that is asked.
    pub text: Option<Embeddings>,
}

impl Subject {
    /// Finds the images, and embeds those that the cache does not have.
    pub(super) fn embed_images(args: &EvalArgs) -> Result<Self, CliError> {
        let domains = domains(args)?;
        let sets = sets(args)?;
        let crowd = args.embedding.load()?;
        let predictors = predictors(args, &crowd);
        let text = predictors.contains(&Predictor::ZeroShot);
        let text = text
            .then(|| crowd.class_embeddings(&domains.classes, &args.prompts))
            .transpose()?;
        let wanted = Wanted {
            families: families(&sets),
            draws: 1,
            seed: args.embedding.seed,
        };
        let items = sampled(&domains.items, args);
        let paths: Vec<PathBuf> = items.iter().map(|item| item.path.clone()).collect();
        let ImageEmbeddings {
            kept,
            interventions,
            tally,
        } = args.embedding.embed_images(&crowd, &paths, &wanted)?;
        if kept.is_empty() {
            return Err(CliError::SomeFailed {
                failed: tally.unreadable,
                total: paths.len(),
            });
        }
        let kept: Vec<&Item> = kept.iter().map(|&i| items[i]).collect();
        let labelled = Labelled::of_items(interventions, &domains, kept.iter().copied());
        let same_class = sets.iter().any(|set| set.families.same_class);
        Ok(Self {
            crowd,
            labelled: labelled
                .map_err(EmbedError::Source)?
                .with_same_class(same_class),
            images: kept.iter().map(|item| item.path.clone()).collect(),
            unreadable: tally.unreadable,
            tally,
            warnings: domains.missing.iter().map(ToString::to_string).collect(),
            sets: sets.into_iter().map(FamilySet::from).collect(),
            wanted,
            predictors,
            text,
        })
    }
}

impl From<FamilyList> for FamilySet {
    fn from(list: FamilyList) -> Self {
        Self {
            name: list.name,
            families: list.families.names(),
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
    let images = list_images(&args.folder)?;
    if args.hold_out_families {
        return Ok(Domains::arrange_any(&args.folder, &images)?);
    }
    Ok(Domains::arrange(&args.folder, &images)?)
}

fn sets(args: &EvalArgs) -> Result<Vec<FamilyList>, CliError> {
    let named = |names: &[&str]| {
        names
            .iter()
            .map(|n| family_set(n))
            .collect::<Result<_, _>>()
            .map_err(CliError::Usage)
    };
    let sets: Vec<FamilyList> = match (&args.sets[..], args.hold_out_families) {
        ([], true) => named(&["camera", "camera,same-class"])?,
        ([], false) => named(&["all", "paper", "camera"])?,
        (given, _) => given.to_vec(),
    };
    let least = if args.hold_out_families { 3 } else { 2 };
    match sets.iter().find(|set| set.families.images.len() < least) {
        Some(set) => Err(CliError::Usage(format!(
            "--interventions {}: at least {least} families are needed, since some are left out to choose a map by",
            set.name
        ))),
        None => Ok(sets),
    }
}

/// Of all sets, each once.
fn families(sets: &[FamilyList]) -> Vec<Family> {
    Family::ALL
        .into_iter()
        .filter(|family| sets.iter().any(|set| set.families.images.contains(family)))
        .collect()
}

fn predictors(args: &EvalArgs, crowd: &Crowd) -> Vec<Predictor> {
    if !args.predictors.is_empty() {
        let predictor = |given: &PredictorArg| match given {
            PredictorArg::ZeroShot => Predictor::ZeroShot,
            PredictorArg::Means => Predictor::ClassMeans,
            PredictorArg::Probe => Predictor::Probe,
        };
        return args.predictors.iter().map(predictor).collect();
    }
    let has_text = crowd.frame_encoder.encoder().manifest().text.is_some();
    let zero_shot = has_text.then_some(Predictor::ZeroShot);
    zero_shot
        .into_iter()
        .chain([Predictor::ClassMeans, Predictor::Probe])
        .collect()
}

/// At most as many images of each class in each environment as were asked for, in their order.
fn sampled<'a>(items: &'a [Item], args: &EvalArgs) -> Vec<&'a Item> {
    let Some(most) = args.sample else {
        return items.iter().collect();
    };
    let mut rng = Rng::new(args.embedding.seed);
    let mut kept = Vec::new();
    for group in items.chunk_by(|a, b| (a.environment, a.class) == (b.environment, b.class)) {
        let (mut drawn, _) = draw(group.len(), most as usize, &mut rng);
        drawn.sort_unstable();
        kept.extend(drawn.into_iter().map(|i| &group[i]));
    }
    kept
}

/// `most` of `count` indices, each choice as likely as the others, and the rest.
pub(super) fn draw(count: usize, most: usize, rng: &mut Rng) -> (Vec<usize>, Vec<usize>) {
    let mut order = rng.order(count);
    let rest = order.split_off(most.min(count));
    (order, rest)
}
