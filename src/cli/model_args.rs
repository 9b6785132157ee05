//! Arguments that name the model: a configuration, or a manifest with a projection and classes.

use super::CliError;
use crate::config::{ClassSettings, Settings};
use crate::files::{self, MAX_TEXT_BYTES};
use crate::recognizer::{FrameEncoder, Limits, LoadedProjection, Recognizer};
use clap::{Args, ValueEnum};
use constancy_core::classify::DEFAULT_PROMPT;
use constancy_engine::{Device, EngineOptions, Precision};
use std::path::{Path, PathBuf};

/// The encoder and the projection.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Projection file to apply; defaults to the one in --config, or to none
    #[arg(short, long, conflicts_with = "config")]
    projection: Option<PathBuf>,
}

/// The encoder.
#[derive(Debug, Args)]
pub(super) struct EncoderArgs {
    /// Configuration file to take the model and its settings from
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Manifest of the model
    #[arg(short, long, conflicts_with = "config")]
    model: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// How to run the model. These arguments override the configuration.
#[derive(Debug, Args)]
pub(super) struct EngineArgs {
    /// Compute in int8 or fp32, or as the model file is stored
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionArg>,
    /// Device for the image tower: auto (a GPU if there is one), cpu, cuda or cuda:N; defaults to the one in --config, or
    /// to cpu
    #[arg(long)]
    pub device: Option<Device>,
    /// Number of threads; defaults to the number of performance cores
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: Option<u8>,
    /// Run on plain tract, without the fused operators, for comparison
    #[arg(long, conflicts_with = "precision")]
    pub plain: bool,
}

/// The values of `--precision`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PrecisionArg {
    File,
    Int8,
    Fp32,
}

impl EngineArgs {
    /// `options`, overridden by the arguments that are given.
    pub(super) fn apply_to(&self, options: &EngineOptions) -> EngineOptions {
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

/// A loaded model, and the classes that its configuration names.
pub(super) struct LoadedModel {
    pub frame_encoder: FrameEncoder,
    pub projection: Option<LoadedProjection>,
    pub classes: Option<ClassSettings>,
}

impl ModelArgs {
    pub(super) fn load(&self) -> Result<LoadedModel, CliError> {
        let encoder = self.encoder.resolve()?;
        let frame_encoder = FrameEncoder::load(&encoder.manifest, &encoder.engine)?;
        let (projection, classes) = match encoder.settings {
            Some(settings) => (settings.model.projection, Some(settings.classes)),
            None => (self.projection.clone(), None),
        };
        let projection = projection
            .map(|p| frame_encoder.load_projection(&p))
            .transpose()?;
        Ok(LoadedModel {
            frame_encoder,
            projection,
            classes,
        })
    }
}

/// The model to load and how to run it, after the arguments and the configuration are combined.
pub(super) struct ResolvedEncoder {
    pub manifest: PathBuf,
    pub engine: EngineOptions,
    /// The configuration, if one names the model.
    pub settings: Option<Settings>,
}

impl EncoderArgs {
    /// The configuration file, if one is named.
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    pub(super) fn resolve(&self) -> Result<ResolvedEncoder, CliError> {
        if let Some(config) = &self.config {
            let settings = Settings::read(config)?;
            let engine = self.engine.apply_to(&settings.engine);
            return Ok(ResolvedEncoder {
                manifest: settings.model.manifest.clone(),
                engine,
                settings: Some(settings),
            });
        }
        let manifest = self
            .model
            .clone()
            .ok_or_else(|| CliError::Usage("no model is named; give --model or --config".into()))?;
        Ok(ResolvedEncoder {
            manifest,
            engine: self.engine.apply_to(&EngineOptions::default()),
            settings: None,
        })
    }
}

/// Labels and the prompts to put them in.
#[derive(Debug, Args)]
pub(super) struct LabelArgs {
    /// Comma-separated class labels, or @FILE with one label per line
    #[arg(short, long)]
    pub labels: Option<String>,
    /// Prompt template, with {} for the label; repeat to average over several templates
    #[arg(long = "prompt", default_value = DEFAULT_PROMPT)]
    pub prompts: Vec<String>,
}

impl LabelArgs {
    /// The labels, if any are given.
    pub(super) fn labels(&self) -> Result<Option<Vec<String>>, CliError> {
        let Some(given) = &self.labels else {
            return Ok(None);
        };
        let labels = match given.strip_prefix('@') {
            Some(file) => labels_of_file(Path::new(file))?,
            None => split_labels(given, ','),
        };
        if labels.is_empty() {
            Err(CliError::Usage("--labels names no class".into()))
        } else {
            Ok(Some(labels))
        }
    }
}

/// The labels of a file, one per line.
pub(super) fn labels_of_file(path: &Path) -> Result<Vec<String>, CliError> {
    let read = |source| CliError::Read {
        path: path.into(),
        source,
    };
    let text = files::read_text(path, MAX_TEXT_BYTES).map_err(read)?;
    Ok(split_labels(&text, '\n'))
}

fn split_labels(text: &str, by: char) -> Vec<String> {
    let labels = text.split(by).map(str::trim);
    labels.filter(|l| !l.is_empty()).map(String::from).collect()
}

/// A recogniser from arguments or a configuration; its decisions list `top` classes.
pub(super) fn recognizer(
    model: &ModelArgs,
    labels: &LabelArgs,
    bank: Option<&Path>,
    top: usize,
) -> Result<Recognizer, CliError> {
    let given = labels.labels()?;
    if given.is_some() && bank.is_some() {
        return Err(CliError::Usage(
            "--labels cannot be used with --classes".into(),
        ));
    }
    let LoadedModel {
        frame_encoder,
        projection,
        classes,
    } = model.load()?;
    let (bank, settings) = match (given, bank, classes) {
        (Some(given), ..) => (
            frame_encoder.bank_from_labels(&given, &labels.prompts)?,
            None,
        ),
        // Another bank than the configured one: its thresholds are others, too.
        (None, Some(path), _) => (frame_encoder.load_bank(path)?, None),
        (None, None, Some(settings)) => (frame_encoder.configured_bank(&settings)?, Some(settings)),
        (None, None, None) => {
            return Err(CliError::Usage(
                "no classes are named; give --labels \"a, b\" or --classes BANK".into(),
            ));
        }
    };
    let limits = match &settings {
        Some(settings) => Limits::of(settings, &bank)?,
        None => Limits::usual(&bank),
    };
    Ok(Recognizer::new(frame_encoder, projection, bank)?.with_limits(top, limits))
}
