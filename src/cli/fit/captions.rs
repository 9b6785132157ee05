//! Interventions in text: pairs of captions, embedded by the text tower.

use crate::cli::CliError;
use crate::cli::image_embeddings::{LoadedEncoder, labels_of_folders};
use crate::cli::model_args::LabelArgs;
use crate::cli::output::progress;
use crate::embedding_cache::EmbedError;
use crate::files::{self, MAX_TEXT_BYTES};
use clap::Args;
use constancy_core::icm::captions::{CaptionPair, Edit, parse_pairs};
use constancy_core::icm::{Domains, Embeddings};
use std::path::PathBuf;

/// The name of these pairs in reports and projection files.
pub(super) const FAMILY: &str = "captions";

#[derive(Debug, Args)]
pub(super) struct CaptionArgs {
    /// File of caption pairs to use as interventions in text: a caption, a tab and the changed caption per line
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// Use edits of the class prompts, such as "at night" or "in fog", as interventions in text
    ///
    /// The classes are those of --labels; they default to the names of the class folders.
    #[arg(long)]
    caption_edits: bool,
    #[command(flatten)]
    labels: LabelArgs,
}

impl CaptionArgs {
    /// The templates that labels are put in.
    pub(super) fn prompts(&self) -> &[String] {
        &self.labels.prompts
    }

    /// The embeddings of captions and of their edits; `None` if no captions are given.
    pub(super) fn embeddings(
        &self,
        loaded: &LoadedEncoder,
        domains: Option<&Domains>,
    ) -> Result<Option<(Embeddings, Embeddings)>, CliError> {
        let pairs = self.pairs(loaded, domains)?;
        if pairs.is_empty() {
            return Ok(None);
        }
        let prompt_encoder = loaded.frame_encoder.load_prompt_encoder()?;
        let width = loaded.frame_encoder.encoder().manifest().output.width;
        let bar = progress(pairs.len(), "captions", true);
        let (mut originals, mut changed) = (Vec::new(), Vec::new());
        let mut last: Option<(&str, Vec<f32>)> = None;
        for CaptionPair { caption, edited } in &pairs {
            // Pairs of the same caption follow each other.
            let original = match last {
                Some((known, row)) if known == caption => row,
                _ => prompt_encoder.embed(caption)?,
            };
            changed.push(prompt_encoder.embed(edited)?);
            originals.push(original.clone());
            last = Some((caption, original));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let rows = |rows: &[Vec<f32>], name: &dyn Fn(&CaptionPair) -> String| {
            Embeddings::new(width, rows, |i| format!("caption `{}`", name(&pairs[i])))
                .map_err(EmbedError::Embedding)
        };
        let originals = rows(&originals, &|pair| pair.caption.clone())?;
        Ok(Some((
            originals,
            rows(&changed, &|pair| pair.edited.clone())?,
        )))
    }

    fn pairs(
        &self,
        loaded: &LoadedEncoder,
        domains: Option<&Domains>,
    ) -> Result<Vec<CaptionPair>, CliError> {
        let mut pairs = Vec::new();
        if let Some(path) = &self.captions {
            let text = files::read_text(path, MAX_TEXT_BYTES).map_err(|source| CliError::Read {
                path: path.clone(),
                source,
            })?;
            pairs = parse_pairs(&path.display().to_string(), text.as_bytes())?;
        }
        if self.caption_edits {
            let labels = self.labels(loaded, domains)?;
            constancy_core::classify::check_templates(&self.labels.prompts)
                .map_err(crate::recognizer::RecognizerError::Text)?;
            let prompts: Vec<String> = labels
                .iter()
                .flat_map(|l| self.labels.prompts.iter().map(move |p| p.replace("{}", l)))
                .collect();
            pairs.extend(Edit::pairs(Edit::ALL, &prompts));
        }
        Ok(pairs)
    }

    /// The class labels: those of `--labels`, the names of the class folders, or those in the configuration.
    fn labels(
        &self,
        loaded: &LoadedEncoder,
        domains: Option<&Domains>,
    ) -> Result<Vec<String>, CliError> {
        if let Some(labels) = self.labels.labels()? {
            return Ok(labels);
        }
        if let Some(domains) = domains {
            return Ok(labels_of_folders(&domains.classes));
        }
        match &loaded.settings {
            Some(settings) if !settings.classes.labels.is_empty() => Ok(settings.classes.labels.clone()),
            _ => Err(CliError::Usage(
                "--caption-edits needs class labels; give --labels, or a folder laid out as ENVIRONMENT/CLASS/IMAGE".into(),
            )),
        }
    }

    /// The text tower's embedding of each class folder's name, in order.
    pub(super) fn zero_shot(
        &self,
        loaded: &LoadedEncoder,
        domains: &Domains,
    ) -> Result<Embeddings, CliError> {
        loaded.class_embeddings(&domains.classes, &self.labels.prompts)
    }
}
