//! Embeddings of many images under interventions, for `fit` and `eval`: arguments, progress, and errors on the terminal.

use super::CliError;
use super::model_args::{EncoderArgs, ResolvedEncoder};
use super::output::{progress, report_item};
use crate::config::Settings;
use crate::embedding_cache::{
    Cache, CacheError, CachedEncoder, EmbedError, ImageEmbeddings, InterventionPlan, Progress,
    Recipe,
};
use crate::recognizer::{FrameEncoder, LoadedProjection, vetting};
use clap::{Args, ValueEnum};
use constancy_core::classify::ClassBank;
use constancy_core::icm::{Criterion, Embeddings, SAME_CLASS};
use constancy_core::intervene::Family;
use constancy_engine::{EngineOptions, performance_cores};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};

/// Which encoder to use, and where to cache its embeddings.
#[derive(Debug, Args)]
pub(super) struct EmbeddingArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Random seed for the strength of interventions and for splits of images
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Cache embeddings in this folder; defaults to ~/.cache/constancy
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Compute all embeddings, and cache none
    #[arg(long, conflicts_with = "cache")]
    no_cache: bool,
}

/// The values of `--select`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CriterionArg {
    /// How often an image is matched to itself under an unseen intervention; needs no labels
    Identification,
    /// Accuracy on each environment after learning from the others; needs ENVIRONMENT/CLASS/IMAGE
    Environments,
    /// Accuracy under unseen interventions; needs CLASS/IMAGE or ENVIRONMENT/CLASS/IMAGE
    Interventions,
    /// How often an unseen intervention changes the answer; needs classes, and no labels of images
    Agreement,
    /// Whitening by interventions and within-class covariance, by accuracy on held-out images as they are and under
    /// unseen interventions; needs CLASS/IMAGE or ENVIRONMENT/CLASS/IMAGE
    WithinClass,
}

impl From<CriterionArg> for Criterion {
    fn from(arg: CriterionArg) -> Self {
        match arg {
            CriterionArg::Identification => Self::Identification,
            CriterionArg::Environments => Self::LeftOutEnvironment,
            CriterionArg::Interventions => Self::LeftOutIntervention,
            CriterionArg::Agreement => Self::Agreement,
            CriterionArg::WithinClass => Self::HeldOutImages,
        }
    }
}

/// The families of one `--interventions` list.
#[derive(Debug, Clone)]
pub(super) struct FamilySelection {
    pub interventions: Vec<Family>,
    /// Whether images of the same class are paired as well.
    pub same_class: bool,
    /// Whether all there are were asked for: through text, too, where classes are known by it.
    pub everything: bool,
}

impl FamilySelection {
    pub(super) fn names(&self) -> Vec<String> {
        let interventions = self.interventions.iter().map(|family| family.name());
        interventions
            .chain(self.same_class.then_some(SAME_CLASS))
            .map(str::to_owned)
            .collect()
    }
}

/// Parses what [`Family::parse_list`] does, and `same-class`; refuses a list without interventions.
pub(super) fn parse_families(list: &str) -> Result<FamilySelection, String> {
    let (same_class, names): (Vec<&str>, Vec<&str>) = list
        .split(',')
        .map(str::trim)
        .partition(|&name| name == SAME_CLASS);
    let interventions = Family::parse_list(&names.join(",")).map_err(|e| e.to_string())?;
    if interventions.is_empty() {
        return Err("name at least one intervention on images, or a set".into());
    }
    Ok(FamilySelection {
        interventions,
        same_class: !same_class.is_empty(),
        everything: names == ["all"],
    })
}

/// The families of `--interventions`; none for `none`.
#[derive(Debug, Clone)]
pub(super) struct Families(pub Vec<Family>);

pub(super) fn parse_interventions(list: &str) -> Result<Families, String> {
    if list == "none" {
        return Ok(Families(Vec::new()));
    }
    let families = Family::parse_list(list).map_err(|e| e.to_string())?;
    if families.is_empty() {
        return Err("name at least one intervention on images, a set, or `none`".into());
    }
    Ok(Families(families))
}

/// A loaded encoder that embeds several images at a time, each on one thread.
pub(super) struct LoadedEncoder {
    pub frame_encoder: FrameEncoder,
    /// The configuration, if one names the model.
    pub settings: Option<Settings>,
    engine: EngineOptions,
    /// Images that are embedded at a time.
    threads: usize,
}

impl LoadedEncoder {
    /// The projection that `--projection` or the configuration names.
    pub(super) fn projection(
        &self,
        given: Option<&Path>,
    ) -> Result<Option<LoadedProjection>, CliError> {
        let path = match &self.settings {
            Some(settings) => settings.model.projection.as_deref(),
            None => given,
        };
        let load = |path| self.frame_encoder.load_projection(path);
        Ok(path.map(load).transpose()?)
    }

    /// A class bank from labels, by the text tower on all threads.
    pub(super) fn bank_from_labels(
        &self,
        labels: &[String],
        prompts: &[String],
    ) -> Result<ClassBank, CliError> {
        let engine = EngineOptions {
            threads: Some(self.threads),
            ..self.engine.clone()
        };
        let manifest = self.frame_encoder.encoder().manifest();
        Ok(vetting::bank_from_labels(
            manifest, &engine, labels, prompts,
        )?)
    }

    /// The text tower's embedding of each class, which is named like its folder.
    pub(super) fn class_embeddings(
        &self,
        classes: &[String],
        prompts: &[String],
    ) -> Result<Embeddings, CliError> {
        let bank = self.bank_from_labels(&labels_of_folders(classes), prompts)?;
        let width = self.frame_encoder.encoder().manifest().output.width;
        Ok(
            Embeddings::new(width, &bank.rows, |i| bank.labels[i].clone())
                .map_err(EmbedError::Embedding)?,
        )
    }
}

/// Class labels for prompts, from names of folders.
pub(super) fn labels_of_folders(classes: &[String]) -> Vec<String> {
    classes.iter().map(|class| label_of_folder(class)).collect()
}

/// `hex_bolt` becomes `hex bolt`.
pub(super) fn label_of_folder(name: &str) -> String {
    name.replace('_', " ")
}

impl EmbeddingArgs {
    /// The configuration file, if one is named.
    pub(super) fn config(&self) -> Option<&Path> {
        self.encoder.config()
    }

    /// Loads the encoder.
    pub(super) fn load(&self) -> Result<LoadedEncoder, CliError> {
        let ResolvedEncoder {
            manifest,
            engine,
            settings,
        } = self.encoder.resolve()?;
        let threads = engine.threads.unwrap_or_else(performance_cores);
        let engine = EngineOptions {
            threads: Some(1),
            ..engine
        };
        let frame_encoder = FrameEncoder::load(&manifest, &engine)?;
        Ok(LoadedEncoder {
            frame_encoder,
            settings,
            engine,
            threads,
        })
    }

    /// Embeds images, with a progress bar on a terminal. Unreadable images are reported, and counted in the result.
    pub(super) fn embed_images(
        &self,
        loaded: &LoadedEncoder,
        images: &[PathBuf],
        plan: &InterventionPlan,
    ) -> Result<ImageEmbeddings, CliError> {
        let recipe = Recipe::new(loaded.frame_encoder.encoder(), &loaded.engine)?;
        let mut encoder = CachedEncoder::new(
            loaded.frame_encoder.encoder(),
            self.open_cache(&recipe)?,
            loaded.threads,
        );
        let mut bar = ProgressBar::hidden();
        let gathered = encoder.embed_images(images, plan, &mut |event| match event {
            Progress::Start { missing } => bar = progress(missing, "embeddings", true),
            Progress::Embedded(more) => bar.inc(more as u64),
            Progress::Unreadable { path, reason } => {
                bar.suspend(|| report_item(&format!("{}: {reason}", path.display())));
            }
        })?;
        bar.finish_and_clear();
        Ok(gathered)
    }

    /// Opens the cache. One that cannot be read or written is left out; one of another encoder is an error.
    fn open_cache(&self, recipe: &Recipe) -> Result<Option<Cache>, CliError> {
        if self.no_cache {
            return Ok(None);
        }
        let Some(folder) = self.cache.clone().or_else(Cache::default_folder) else {
            log::warn!(
                "embeddings are not cached: neither XDG_CACHE_HOME nor HOME is set; name a folder with --cache"
            );
            return Ok(None);
        };
        match Cache::open(Path::new(&folder), recipe) {
            Ok(cache) => Ok(Some(cache)),
            Err(error @ CacheError::Io { .. }) => {
                log::warn!("{error}; going on without a cache: new embeddings are not kept");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
