//! The arguments that say which model looks: a configuration, or the parts by themselves.

use super::CliError;
use crate::config::{ClassSettings, Settings};
use crate::recognizer::{FrameEncoder, LoadedProjection, Recognizer};
use clap::{Args, ValueEnum};
use constancy_core::classify::DEFAULT_THRESHOLD;
use constancy_engine::{Device, EngineOptions, Precision};
use std::path::{Path, PathBuf};

/// Which encoder and projection.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// The invariant projection; identity unless given, or the configuration's
    #[arg(short, long, conflicts_with = "config")]
    projection: Option<PathBuf>,
}

/// Which encoder.
#[derive(Debug, Args)]
pub(super) struct EncoderArgs {
    /// Take the model, and what else is used of it, from this configuration
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// The model's manifest
    #[arg(short, long, conflicts_with = "config")]
    model: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// How the model is run; what is given stands above the configuration.
#[derive(Debug, Args)]
pub(super) struct EngineArgs {
    /// Compute in bytes or in f32, whatever the file has
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionArg>,
    /// Where the image tower runs: auto (on a GPU where there is one), cpu, cuda or cuda:N; the CPU unless given, or the
    /// configuration's
    #[arg(long)]
    pub device: Option<Device>,
    /// Threads that compute; as many as there are performance cores unless given
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: Option<u8>,
    /// Without operators of our own, on tract alone: to compare
    #[arg(long, conflicts_with = "precision")]
    pub plain: bool,
}

/// `--precision`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PrecisionArg {
    File,
    Int8,
    Fp32,
}

impl EngineArgs {
    pub(super) fn over(&self, options: &EngineOptions) -> EngineOptions {
        let precision = self.precision.map_or(options.precision, |p| match p {
            PrecisionArg::File => Precision::File,
            PrecisionArg::Int8 => Precision::Int8,
            PrecisionArg::Fp32 => Precision::Fp32,
        });
        EngineOptions {
            precision,
            threads: self.threads.map(usize::from).or(options.threads),
            device: self.device.unwrap_or(options.device),
            plain: self.plain,
        }
    }
}

/// A model without classes.
pub(super) struct Loaded {
    pub frame_encoder: FrameEncoder,
    pub projection: Option<LoadedProjection>,
    pub classes: Option<ClassSettings>,
}

impl ModelArgs {
    pub(super) fn load(&self) -> Result<Loaded, CliError> {
        let chosen = self.encoder.chosen()?;
        let frame_encoder = FrameEncoder::load(&chosen.manifest, &chosen.engine)?;
        let (projection, classes) = match chosen.settings {
            Some(settings) => (settings.model.projection, Some(settings.classes)),
            None => (self.projection.clone(), None),
        };
        let projection = projection
            .map(|p| frame_encoder.projection(&p))
            .transpose()?;
        Ok(Loaded {
            frame_encoder,
            projection,
            classes,
        })
    }
}

/// Which model is to be loaded, and how it is run.
pub(super) struct Chosen {
    pub manifest: PathBuf,
    pub engine: EngineOptions,
    /// The configuration, if it was chosen by one.
    pub settings: Option<Settings>,
}

impl EncoderArgs {
    pub(super) fn chosen(&self) -> Result<Chosen, CliError> {
        if let Some(config) = &self.config {
            let settings = Settings::read(config)?;
            let engine = self.engine.over(&settings.engine);
            return Ok(Chosen {
                manifest: settings.model.manifest.clone(),
                engine,
                settings: Some(settings),
            });
        }
        let manifest = self
            .model
            .clone()
            .ok_or_else(|| CliError::Usage("give --model or --config".into()))?;
        Ok(Chosen {
            manifest,
            engine: self.engine.over(&EngineOptions::default()),
            settings: None,
        })
    }
}

/// Which labels, in which prompts.
#[derive(Debug, Args)]
pub(super) struct LabelArgs {
    /// Class names, separated by commas; or @FILE with one a line
    #[arg(short, long)]
    pub labels: Option<String>,
    /// A prompt template with {} for the label; repeat it to average over several
    #[arg(long = "prompt", default_value = "a photo of {}")]
    pub prompts: Vec<String>,
}

impl LabelArgs {
    /// The labels that were given, if any.
    pub(super) fn labels(&self) -> Result<Option<Vec<String>>, CliError> {
        let Some(given) = &self.labels else {
            return Ok(None);
        };
        let split = |text: &str, by: char| {
            text.split(by)
                .map(str::trim)
                .filter(|l| !l.is_empty())
                .map(String::from)
                .collect()
        };
        let labels: Vec<String> = match given.strip_prefix('@') {
            Some(file) => {
                let read = |source| CliError::Read {
                    path: file.into(),
                    source,
                };
                split(&std::fs::read_to_string(file).map_err(read)?, '\n')
            }
            None => split(given, ','),
        };
        if labels.is_empty() {
            Err(CliError::Usage("--labels names no class".into()))
        } else {
            Ok(Some(labels))
        }
    }
}

/// Everything for a decision that lists `top` classes, from arguments or a configuration.
pub(super) fn recognizer(
    model: &ModelArgs,
    labels: &LabelArgs,
    bank: Option<&Path>,
    top: usize,
) -> Result<Recognizer, CliError> {
    let given = labels.labels()?;
    if given.is_some() && bank.is_some() {
        return Err(CliError::Usage(
            "--labels and --classes exclude each other".into(),
        ));
    }
    let Loaded {
        frame_encoder,
        projection,
        classes,
    } = model.load()?;
    let (bank, threshold) = match (given, bank, classes) {
        (Some(given), ..) => (
            frame_encoder.bank_of_labels(&given, &labels.prompts)?,
            DEFAULT_THRESHOLD,
        ),
        (None, Some(path), _) => (frame_encoder.bank(path)?, DEFAULT_THRESHOLD),
        (None, None, Some(settings)) => (frame_encoder.bank_of(&settings)?, settings.threshold),
        (None, None, None) => {
            return Err(CliError::Usage(
                "say what to choose from: --labels \"a, b\" or --classes BANK".into(),
            ));
        }
    };
    Ok(Recognizer::new(frame_encoder, projection, bank)?.with_limits(top, threshold))
}
