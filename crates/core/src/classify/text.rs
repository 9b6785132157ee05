//! From labels to class embeddings: prompt templates, tokens, and the mean over templates.

use super::label::check_label;
use crate::numeric::{unit, unit_mean};
use thiserror::Error;

/// Why labels could not be turned into class embeddings.
#[derive(Debug, Error)]
pub enum TextError {
    #[error("not a tokenizer.json that can be used: {0}")]
    Tokenizer(String),
    #[error("prompt `{0}` cannot be tokenised: {1}")]
    Encode(String, String),
    #[error("prompt template `{0}` has no {{}} for the label")]
    Template(String),
    #[error("there are no labels")]
    NoLabels,
    #[error("label `{0}` is given twice")]
    Duplicate(String),
    /// A name that no class may have.
    #[error("{0}")]
    Label(String),
}

/// CLIP's tokenizer, from Hugging Face's `tokenizer.json`.
///
/// ```
/// use constancy_core::classify::Tokenizer;
///
/// // A tokenizer of two words. CLIP's has byte pairs, and adds start and end tokens.
/// let json = r#"{
///     "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
///     "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
///     "post_processor": null, "decoder": null,
///     "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "gear": 2}, "unk_token": "[UNK]"}
/// }"#;
/// let tokenizer = Tokenizer::parse(json.as_bytes(), 5, -1)?;
/// assert_eq!(tokenizer.encode("a gear")?, (vec![1, 2, -1, -1, -1], 2));
/// # Ok::<(), constancy_core::classify::TextError>(())
/// ```
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    context_length: usize,
    pad_token_id: i64,
}

impl Tokenizer {
    /// Parses a `tokenizer.json`. Prompts become `context_length` tokens, padded with `pad_token_id`.
    pub fn parse(json: &[u8], context_length: usize, pad_token_id: i64) -> Result<Self, TextError> {
        let unusable = |e: tokenizers::Error| TextError::Tokenizer(e.to_string());
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(unusable)?;
        // The file's padding and truncation are meant for training batches; here the tower's context length decides.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(unusable)?;
        Ok(Self {
            inner,
            context_length,
            pad_token_id,
        })
    }

    /// Token ids `[context_length]` with start and end tokens, and how many of them are not
    /// padding. A prompt that is too long loses its last words but keeps its end token, as in CLIP.
    pub fn encode(&self, prompt: &str) -> Result<(Vec<i64>, usize), TextError> {
        let encoded = self
            .inner
            .encode(prompt, true)
            .map_err(|e| TextError::Encode(prompt.into(), e.to_string()))?;
        let mut ids: Vec<i64> = encoded.get_ids().iter().map(|&id| i64::from(id)).collect();
        if ids.len() > self.context_length {
            let end = ids.last().copied();
            ids.truncate(self.context_length - 1);
            ids.extend(end);
        }
        let used = ids.len();
        ids.resize(self.context_length, self.pad_token_id);
        Ok((ids, used))
    }
}

/// Checks that every template has a placeholder `{}` for the label.
pub fn check_templates(templates: &[String]) -> Result<(), TextError> {
    match templates.iter().find(|t| !t.contains("{}")) {
        Some(template) => Err(TextError::Template(template.clone())),
        None => Ok(()),
    }
}

/// Unit class embeddings, one per label: the normalised mean over templates of the prompts' unit embeddings
/// (Radford et al. 2021, section 3.1.4). Without templates, the label itself is the prompt. Fails on bad templates, on
/// labels that [`check_label`] refuses, on duplicates, and if `embed` fails.
///
/// ```
/// use constancy_core::classify::{TextError, class_embeddings};
///
/// let labels = ["gear".to_owned(), "nut".to_owned()];
/// let templates = ["a photo of a {}".to_owned()];
/// let embed = |prompt: &str| Ok::<_, TextError>(match prompt {
///     "a photo of a gear" => vec![2.0, 0.0],
///     _ => vec![0.0, 5.0],
/// });
/// assert_eq!(class_embeddings(&labels, &templates, embed)?, [[1.0, 0.0], [0.0, 1.0]]);
/// # Ok::<(), TextError>(())
/// ```
pub fn class_embeddings<E: From<TextError>>(
    labels: &[String],
    templates: &[String],
    mut embed: impl FnMut(&str) -> Result<Vec<f32>, E>,
) -> Result<Vec<Vec<f32>>, E> {
    check_templates(templates)?;
    check_labels(labels)?;
    let bare = ["{}".to_owned()];
    let templates = if templates.is_empty() {
        &bare[..]
    } else {
        templates
    };
    labels
        .iter()
        .map(|label| {
            let prompts = templates.iter().map(|t| t.replace("{}", label));
            let embeddings = prompts.map(|p| embed(&p)).collect::<Result<Vec<_>, E>>()?;
            Ok(unit_mean(embeddings.iter().map(|e| unit(e))))
        })
        .collect()
}

fn check_labels(labels: &[String]) -> Result<(), TextError> {
    if labels.is_empty() {
        return Err(TextError::NoLabels);
    }
    for (i, label) in labels.iter().enumerate() {
        check_label(label).map_err(TextError::Label)?;
        if labels[..i].contains(label) {
            return Err(TextError::Duplicate(label.clone()));
        }
    }
    Ok(())
}
