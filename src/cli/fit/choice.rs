//! Chooses the map to fit: the one that `--map` names, or the best by a criterion.

use super::captions::TextArgs;
use crate::cli::CliError;
use crate::cli::image_embeddings::{CriterionArg, LoadedEncoder};
use crate::cli::model_args::labels_of_file;
use crate::embedding_cache::EmbedError;
use clap::{Args, ValueEnum};
use constancy_core::classify::ClassBank;
use constancy_core::icm::{
    Covariances, DEFAULT_C, Domains, Embeddings, Grid, Interventions, Labelled, MapKind, MapSpec,
    Method, Moments, Sampling, Selection, by_agreement, by_environment, by_gentle_identification,
    by_held_out_images, by_identification, by_intervention,
};
use std::path::{Path, PathBuf};

/// Further strengths of soft maps to try where classes judge, or nothing does: where few directions separate the classes,
/// only weak maps leave these intact.
const WEAK_STRENGTHS: [f64; 3] = [0.03, 0.1, 0.3];

#[derive(Debug, Args)]
pub(super) struct ChoiceArgs {
    /// Classes that the map must keep apart: a file of labels, a class bank, or a folder of images by class
    ///
    /// Labels and banks choose the map by agreement: an answer that an unseen intervention changes is an error. A folder
    /// of images chooses it by accuracy under unseen interventions. Without this option, the classes are those of the
    /// configuration, else those of the images' folders; without any, only gentle maps are tried.
    #[arg(long = "for", value_name = "CLASSES", conflicts_with_all = ["map", "select"])]
    classes: Option<PathBuf>,
    /// Criterion for choosing the map, instead of the one that suits the classes
    #[arg(long, value_enum, conflicts_with = "map")]
    select: Option<CriterionArg>,
    /// Classifier that --select environments or interventions evaluates
    #[arg(long, value_enum, default_value_t = PredictorArg::Means, conflicts_with = "map")]
    predictor: PredictorArg,
    /// Fit this map instead of choosing one: remove:20 (directions), soft:1 (strength), lambda:10,remove:50, identity, or
    /// soft:1,within:3, which takes labels from folders
    #[arg(long, value_name = "MAP")]
    map: Option<MapSpec>,
    /// Subtract the images' mean before the map; without --map, try each candidate both ways
    #[arg(long)]
    centre: bool,
}

/// The values of `--predictor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PredictorArg {
    /// Nearest class mean
    Means,
    /// Logistic regression (linear probe)
    Probe,
    /// Nearest text prompt, for the names of the class folders
    ZeroShot,
}

/// The embeddings that a map is fitted to and chosen by.
pub(super) enum FitData<'a> {
    Unlabelled(Interventions),
    /// With the environments and classes that folders name.
    Labelled(Labelled, &'a Domains),
}

impl<'a> FitData<'a> {
    /// `images` are the readable images, `kept` their indices into `domains`; they are labelled if `domains` is given.
    pub(super) fn new(
        images: Interventions,
        domains: Option<&'a Domains>,
        kept: &[usize],
        same_class: bool,
    ) -> Result<Self, CliError> {
        let Some(domains) = domains else {
            return Ok(Self::Unlabelled(images));
        };
        let labelled = Labelled::of_items(images, domains, kept.iter().map(|&i| &domains.items[i]));
        Ok(Self::Labelled(
            labelled
                .map_err(EmbedError::Source)?
                .with_same_class(same_class),
            domains,
        ))
    }

    pub(super) fn moments(&self, encoder_sha256: &str) -> Moments {
        match self {
            Self::Unlabelled(images) => images.moments(encoder_sha256),
            Self::Labelled(images, _) => images.moments(encoder_sha256),
        }
    }

    /// What a whitening needs; `None` without labels.
    pub(super) fn covariances(&self) -> Option<Covariances> {
        match self {
            Self::Unlabelled(_) => None,
            Self::Labelled(images, _) => Covariances::of(images),
        }
    }

    fn images(&self) -> &Interventions {
        match self {
            Self::Unlabelled(images) => images,
            Self::Labelled(images, _) => images.images(),
        }
    }
}

impl ChoiceArgs {
    /// The map that `--map` names.
    pub(super) fn fixed(&self) -> Option<MapSpec> {
        self.map.map(|map| map.centred(self.centre))
    }

    /// Whether the names of folders must be labels.
    pub(super) fn needs_labels(&self) -> bool {
        matches!(
            self.select,
            Some(
                CriterionArg::Environments
                    | CriterionArg::Interventions
                    | CriterionArg::WithinClass
            )
        ) || self.map.is_some_and(|map| is_whitened(&map))
    }

    /// Whether folders must be environments.
    pub(super) fn by_environment(&self) -> bool {
        self.select == Some(CriterionArg::Environments)
    }

    /// Whether folders are taken for classes if their names may be.
    pub(super) fn may_use_labels(&self) -> bool {
        self.map.is_none() && self.select.is_none() && self.classes.is_none()
    }

    /// The folder that `--for` names.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.classes.as_deref().filter(|path| path.is_dir())
    }

    /// The map to fit, and how it was chosen. `judged` are the images of [`Self::folder`], `classes`
    /// those of [`Self::classes`].
    pub(super) fn choose(
        &self,
        data: &FitData<'_>,
        judged: Option<&Labelled>,
        classes: Option<&ClassBank>,
        seed: u64,
        loaded: &LoadedEncoder,
        captions: &TextArgs,
    ) -> Result<(MapSpec, Option<Selection>), CliError> {
        if let Some(map) = self.fixed() {
            return Ok((map, None));
        }
        let (grid, how) = (self.grid(data.images()), Sampling::new(seed));
        let by_classes = |bank: &ClassBank| -> Result<Selection, CliError> {
            let classes = class_embeddings(bank, loaded)?;
            Ok(by_agreement(data.images(), &classes, &grid, &how)?)
        };
        let selection = match (self.select, data, judged) {
            (None, _, Some(judged)) => by_intervention(judged, &grid, &[Method::ClassMeans], &how)?,
            (Some(CriterionArg::Environments), FitData::Labelled(images, domains), _) => {
                by_environment(images, &grid, &[self.method(loaded, captions, domains)?])?
            }
            (Some(CriterionArg::Interventions), FitData::Labelled(images, domains), _) => {
                let method = self.method(loaded, captions, domains)?;
                by_intervention(images, &grid, &[method], &how)?
            }
            (Some(CriterionArg::WithinClass), FitData::Labelled(images, _), _) => {
                by_held_out_images(images, seed)?
            }
            (Some(CriterionArg::Agreement), ..) => {
                let unknown = "no classes are known; name them with --for";
                by_classes(classes.ok_or_else(|| CliError::Usage(unknown.into()))?)?
            }
            (Some(_), ..) => by_identification(data.images(), &grid, &how)?,
            (None, _, None) => match (classes, data) {
                (Some(bank), _) => by_classes(bank)?,
                (None, FitData::Labelled(images, domains)) => {
                    let methods = usual_methods(loaded, captions, domains)?;
                    by_intervention(images, &grid, &methods, &how)?
                }
                (None, FitData::Unlabelled(images)) => {
                    by_gentle_identification(images, &grid, &how)?
                }
            },
        };
        Ok((selection.chosen.map, Some(selection)))
    }

    /// The classes that `--for` or the configuration names, where the map is chosen by agreement on them; a folder is none.
    pub(super) fn classes(
        &self,
        loaded: &LoadedEncoder,
        captions: &TextArgs,
    ) -> Result<Option<ClassBank>, CliError> {
        let by_agreement = matches!(self.select, None | Some(CriterionArg::Agreement));
        if !by_agreement || self.map.is_some() || self.folder().is_some() {
            return Ok(None);
        }
        let encoder = &loaded.frame_encoder;
        Ok(Some(match (&self.classes, &loaded.settings) {
            (Some(path), _) if path.extension().is_some_and(|e| e == "safetensors") => {
                encoder.load_bank(path)?
            }
            (Some(path), _) => {
                loaded.bank_from_labels(&labels_of_file(path)?, captions.prompts())?
            }
            (None, Some(settings)) => encoder.configured_bank(&settings.classes)?,
            (None, None) => return Ok(None),
        }))
    }

    /// The candidate maps.
    fn grid(&self, images: &Interventions) -> Grid {
        let mut maps = Grid::suited(images.originals().width(), images.pairs())
            .candidates()
            .to_vec();
        let by_image_or_place = [CriterionArg::Identification, CriterionArg::Environments];
        if self
            .select
            .is_none_or(|by| !by_image_or_place.contains(&by))
        {
            maps.extend(WEAK_STRENGTHS.map(MapSpec::soft));
        }
        let grid = Grid::new(maps);
        if self.centre {
            grid.both_centred()
        } else {
            grid
        }
    }

    fn method(
        &self,
        loaded: &LoadedEncoder,
        captions: &TextArgs,
        domains: &Domains,
    ) -> Result<Method, CliError> {
        Ok(match self.predictor {
            PredictorArg::Means => Method::ClassMeans,
            PredictorArg::Probe => Method::Probe { c: DEFAULT_C },
            PredictorArg::ZeroShot => Method::ZeroShot(captions.zero_shot(loaded, domains)?),
        })
    }
}

/// Whether a map needs [`Covariances`].
pub(super) fn is_whitened(map: &MapSpec) -> bool {
    matches!(map.kind, MapKind::Whitened(_))
}

/// How the classes of folders may come to be told apart: by their means, and by their names if there is a text tower. A
/// map must harm neither.
fn usual_methods(
    loaded: &LoadedEncoder,
    captions: &TextArgs,
    domains: &Domains,
) -> Result<Vec<Method>, CliError> {
    let mut methods = vec![Method::ClassMeans];
    if loaded.frame_encoder.encoder().manifest().text.is_some() {
        methods.push(Method::ZeroShot(captions.zero_shot(loaded, domains)?));
    }
    Ok(methods)
}

fn class_embeddings(bank: &ClassBank, loaded: &LoadedEncoder) -> Result<Embeddings, CliError> {
    let width = loaded.frame_encoder.encoder().manifest().output.width;
    let name = |i: usize| format!("class `{}`", bank.labels[i]);
    let rows = Embeddings::new(width, &bank.rows, name).map_err(EmbedError::Embedding)?;
    Ok(rows)
}
