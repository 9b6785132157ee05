//! Interventions in text, for `fit` and `eval`: pairs of captions, embedded by the text tower.

use super::CliError;
use super::image_embeddings::LoadedEncoder;
use super::output::progress;
use crate::embedding_cache::EmbedError;
use crate::files::{self, MAX_TEXT_BYTES};
use clap::Args;
use constancy_core::icm::Embeddings;
use constancy_core::icm::captions::{CaptionPair, Edit, parse_pairs};
use std::path::PathBuf;

/// Labels that are edited where nobody named them for that.
const MAX_EDITED: usize = 50;

#[derive(Debug, Args)]
pub(super) struct CaptionArgs {
    /// File of caption pairs to use as interventions in text: a caption, a tab and the changed caption per line
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// Use edits of the class prompts, such as "at night" or "in fog", as interventions in text
    ///
    /// The classes are named like their folders, unless labels are given.
    #[arg(long)]
    caption_edits: bool,
}

impl CaptionArgs {
    /// The option that asks for captions, if one does.
    pub(super) fn asked(&self) -> Option<&'static str> {
        match (&self.captions, self.caption_edits) {
            (Some(_), _) => Some("--captions"),
            (None, true) => Some("--caption-edits"),
            (None, false) => None,
        }
    }

    /// The embeddings of captions and of their edits; `None` if no captions are given. `labels` are those to edit, put
    /// into each of `templates`.
    pub(super) fn embeddings(
        &self,
        loaded: &LoadedEncoder,
        labels: impl FnOnce() -> Result<Vec<String>, CliError>,
        templates: &[String],
    ) -> Result<Option<(Embeddings, Embeddings)>, CliError> {
        embed(loaded, &self.pairs(labels, templates)?)
    }

    fn pairs(
        &self,
        labels: impl FnOnce() -> Result<Vec<String>, CliError>,
        templates: &[String],
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
            pairs.extend(edits(&labels()?, templates)?);
        }
        Ok(pairs)
    }
}

impl LoadedEncoder {
    /// The embeddings of prompts of the labels, and of the built-in edits of these. Of many labels, some stand for all: a text
    /// tower takes milliseconds for each.
    pub(super) fn caption_edits(
        &self,
        labels: &[String],
        templates: &[String],
    ) -> Result<Option<(Embeddings, Embeddings)>, CliError> {
        let step = labels.len().div_ceil(MAX_EDITED).max(1);
        let some: Vec<String> = labels.iter().step_by(step).cloned().collect();
        embed(self, &edits(&some, templates)?)
    }
}

/// The built-in edits of the labels' prompts.
fn edits(labels: &[String], templates: &[String]) -> Result<Vec<CaptionPair>, CliError> {
    constancy_core::classify::check_templates(templates)
        .map_err(crate::recognizer::RecognizerError::Text)?;
    let prompts: Vec<String> = labels
        .iter()
        .flat_map(|label| templates.iter().map(move |t| t.replace("{}", label)))
        .collect();
    Ok(Edit::pairs(Edit::ALL, &prompts))
}

/// The embeddings of captions, and of the edited ones; `None` without any.
fn embed(
    loaded: &LoadedEncoder,
    pairs: &[CaptionPair],
) -> Result<Option<(Embeddings, Embeddings)>, CliError> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let prompt_encoder = loaded.frame_encoder.load_prompt_encoder()?;
    let width = loaded.frame_encoder.encoder().manifest().output.width;
    let bar = progress(pairs.len(), "captions", true);
    let (mut originals, mut changed) = (Vec::new(), Vec::new());
    let mut last: Option<(&str, Vec<f32>)> = None;
    for CaptionPair { caption, edited } in pairs {
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
