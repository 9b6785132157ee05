//! Embeddings of many images under interventions, for subcommands that fit or judge: arguments, progress, reports.

use super::CliError;
use super::model_args::{Chosen, EncoderArgs};
use super::output::progress;
use crate::config::Settings;
use crate::embedding_cache::{
    Cache, CacheError, CachedEncoder, EmbedError, Event, ImageEmbeddings, Recipe, Wanted,
};
use crate::recognizer::FrameEncoder;
use clap::{Args, ValueEnum};
use constancy_core::icm::{Criterion, Embeddings, SAME_CLASS};
use constancy_core::intervene::Family;
use constancy_engine::{EngineOptions, performance_cores};
use indicatif::ProgressBar;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Which encoder looks, and where its embeddings are kept.
#[derive(Debug, Args)]
pub(super) struct EmbeddingArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Decides how strong each intervention is, and how images are split: the same seed gives the same result
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep embeddings in this folder, so that none is computed twice; ~/.cache/constancy unless given
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Compute everything, and keep nothing
    #[arg(long, conflicts_with = "cache")]
    no_cache: bool,
}

/// What `--select` offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Select {
    /// Whether images are found again under interventions that the fit has not seen; needs no labels
    Identification,
    /// Accuracy on each environment, with map and classes learnt from the others; needs ENVIRONMENT/CLASS/IMAGE
    Environments,
    /// Accuracy under interventions that the fit has not seen; needs CLASS/IMAGE or ENVIRONMENT/CLASS/IMAGE
    Interventions,
}

impl From<Select> for Criterion {
    fn from(select: Select) -> Self {
        match select {
            Select::Identification => Self::Identification,
            Select::Environments => Self::LeftOutEnvironment,
            Select::Interventions => Self::LeftOutIntervention,
        }
    }
}

/// Families that were named together.
#[derive(Debug, Clone)]
pub(super) struct Families {
    /// Of interventions.
    pub images: Vec<Family>,
    /// Whether two images of one class are a pair, too.
    pub same_class: bool,
}

impl Families {
    pub(super) fn names(&self) -> Vec<String> {
        let images = self.images.iter().map(|family| family.name());
        images
            .chain(self.same_class.then_some(SAME_CLASS))
            .map(str::to_owned)
            .collect()
    }
}

/// Reads what [`Family::parse_list`] does, and `same-class`; refuses a list without interventions.
pub(super) fn families(list: &str) -> Result<Families, String> {
    let (of_labels, of_images): (Vec<&str>, Vec<&str>) = list
        .split(',')
        .map(str::trim)
        .partition(|&name| name == SAME_CLASS);
    let images = Family::parse_list(&of_images.join(",")).map_err(|e| e.to_string())?;
    if images.is_empty() {
        return Err("name at least one intervention on images, or a set".into());
    }
    Ok(Families {
        images,
        same_class: !of_labels.is_empty(),
    })
}

/// An encoder that many images are to be sent through: each by one thread, several at a time.
pub(super) struct Crowd {
    pub frame_encoder: FrameEncoder,
    /// The configuration, if the model was chosen by one.
    pub settings: Option<Settings>,
    engine: EngineOptions,
    threads: usize,
}

impl Crowd {
    /// The classes' embeddings by the text tower, for folders' names.
    pub(super) fn class_embeddings(
        &self,
        classes: &[String],
        prompts: &[String],
    ) -> Result<Embeddings, CliError> {
        let bank = self
            .frame_encoder
            .bank_of_labels(&spoken(classes), prompts)?;
        let width = self.frame_encoder.encoder().manifest().output.width;
        Ok(
            Embeddings::new(width, &bank.rows, |i| bank.labels[i].clone())
                .map_err(EmbedError::Embedding)?,
        )
    }
}

/// Folders' names as prompts have them.
pub(super) fn spoken(classes: &[String]) -> Vec<String> {
    classes
        .iter()
        .map(|class| class.replace('_', " "))
        .collect()
}

impl EmbeddingArgs {
    /// Loads the encoder.
    pub(super) fn load(&self) -> Result<Crowd, CliError> {
        let Chosen {
            manifest,
            engine,
            settings,
        } = self.encoder.chosen()?;
        let threads = engine.threads.unwrap_or_else(performance_cores);
        let engine = EngineOptions {
            threads: Some(1),
            ..engine
        };
        let frame_encoder = FrameEncoder::load(&manifest, &engine)?;
        Ok(Crowd {
            frame_encoder,
            settings,
            engine,
            threads,
        })
    }

    /// The embeddings of images, with progress on a terminal; unreadable images are reported, and counted in the result.
    pub(super) fn embed_images(
        &self,
        crowd: &Crowd,
        images: &[PathBuf],
        wanted: &Wanted,
    ) -> Result<ImageEmbeddings, CliError> {
        let recipe = Recipe::new(crowd.frame_encoder.encoder(), &crowd.engine)?;
        let mut encoder = CachedEncoder::new(
            crowd.frame_encoder.encoder(),
            self.open_cache(&recipe)?,
            crowd.threads,
        );
        let mut bar = ProgressBar::hidden();
        let gathered = encoder.embed_images(images, wanted, &mut |event| match event {
            Event::Start { missing } => bar = progress(missing, "embeddings", true),
            Event::Embedded(more) => bar.inc(more as u64),
            Event::Unreadable { path, reason } => bar.suspend(|| {
                // Where stderr is gone, nobody reads this either.
                let _ = writeln!(std::io::stderr(), "error: {}: {reason}", path.display());
            }),
        })?;
        bar.finish_and_clear();
        Ok(gathered)
    }

    /// A cache that cannot be opened is done without, but never mixed with another encoder's.
    fn open_cache(&self, recipe: &Recipe) -> Result<Option<Cache>, CliError> {
        if self.no_cache {
            return Ok(None);
        }
        let Some(folder) = self.cache.clone().or_else(Cache::default_folder) else {
            log::warn!(
                "neither XDG_CACHE_HOME nor HOME is set: nothing is kept; --cache DIR says where"
            );
            return Ok(None);
        };
        match Cache::open(Path::new(&folder), recipe) {
            Ok(cache) => Ok(Some(cache)),
            Err(error @ CacheError::Io { .. }) => {
                log::warn!("{error}; going on without a cache: what is computed is not kept");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
