//! Interventions through text: pairs of captions, embedded.

use super::super::CliError;
use super::super::image_embeddings::{Crowd, spoken};
use super::super::model_args::LabelArgs;
use super::super::output::progress;
use crate::embedding_cache::EmbedError;
use clap::Args;
use constancy_core::icm::captions::{CaptionPair, Edit, parse_pairs};
use constancy_core::icm::{Domains, Embeddings};
use std::path::PathBuf;

/// As reports and projections' files have it.
pub(super) const FAMILY: &str = "captions";

#[derive(Debug, Args)]
pub(super) struct CaptionArgs {
    /// Interventions through the text tower: a file with a caption, a tab, and the caption in another environment on
    /// each line
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// Interventions through the text tower: the classes' prompts, with and without "at night", "in fog" and the like;
    /// classes are the labels, or the folders' names
    #[arg(long)]
    caption_edits: bool,
    #[command(flatten)]
    labels: LabelArgs,
}

impl CaptionArgs {
    /// The embeddings of captions and of their edits; `None` where none were asked for.
    pub(super) fn embeddings(
        &self,
        crowd: &Crowd,
        domains: Option<&Domains>,
    ) -> Result<Option<(Embeddings, Embeddings)>, CliError> {
        let pairs = self.pairs(crowd, domains)?;
        if pairs.is_empty() {
            return Ok(None);
        }
        let prompt_encoder = crowd.frame_encoder.prompt_encoder()?;
        let width = crowd.frame_encoder.encoder().manifest().output.width;
        let bar = progress(pairs.len(), "captions", true);
        let (mut originals, mut changed) = (Vec::new(), Vec::new());
        let mut last: Option<(&str, Vec<f32>)> = None;
        for CaptionPair { caption, edited } in &pairs {
            // A caption's edits follow each other.
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
        crowd: &Crowd,
        domains: Option<&Domains>,
    ) -> Result<Vec<CaptionPair>, CliError> {
        let mut pairs = Vec::new();
        if let Some(path) = &self.captions {
            let bytes = std::fs::read(path).map_err(|source| CliError::Read {
                path: path.clone(),
                source,
            })?;
            pairs = parse_pairs(&path.display().to_string(), &bytes)?;
        }
        if self.caption_edits {
            let labels = self.labels(crowd, domains)?;
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

    /// What the images show: the labels that were given, the folders' names, or the configuration's labels.
    fn labels(&self, crowd: &Crowd, domains: Option<&Domains>) -> Result<Vec<String>, CliError> {
        if let Some(labels) = self.labels.labels()? {
            return Ok(labels);
        }
        if let Some(domains) = domains {
            return Ok(spoken(&domains.classes));
        }
        match &crowd.settings {
            Some(settings) if !settings.classes.labels.is_empty() => Ok(settings.classes.labels.clone()),
            _ => Err(CliError::Usage(
                "--caption-edits needs to know what the images show: give --labels, or a folder ENVIRONMENT/CLASS/IMAGE".into(),
            )),
        }
    }

    /// The classes' embeddings by the text tower, in the order of the folders' names.
    pub(super) fn zero_shot(
        &self,
        crowd: &Crowd,
        domains: &Domains,
    ) -> Result<Embeddings, CliError> {
        crowd.class_embeddings(&domains.classes, &self.labels.prompts)
    }
}
