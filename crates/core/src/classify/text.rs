//! From labels to class embeddings: prompt templates, tokens, and the mean over templates.

use super::label::check_label;
use crate::foreign_file::{HEAD_BYTES, Wanted, foreign};
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
    #[error(
        "the label `{0}` gets an embedding of length 0; the tokenizer does not belong to the text tower"
    )]
    Zero(String),
    #[error(
        "the labels `{first}` and `{second}` get the same embedding (cosine {cosine:.5}), so nothing can tell them apart; reword one of them. If this happens to most labels, the tokenizer does not belong to the text tower"
    )]
    Alike {
        first: String,
        second: String,
        cosine: f32,
    },
}

/// Classes whose embeddings have a larger cosine are one class to the model: rounding decides between
/// them. Labels that become the same tokens have 1 to within 1e-6, and so have all labels where the
/// tower finds no end token. The nearest synonyms among the 1,203 class names of LVIS have 0.965 with
/// CLIP ViT-B/32, and `part 0049` and `part 0094` have 0.99993 with the pocket model.
const MAX_LABEL_COSINE: f32 = 0.99999;

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
        let head = &json[..json.len().min(HEAD_BYTES)];
        if let Some(reason) = foreign(head, Wanted::Tokenizer) {
            return Err(TextError::Tokenizer(reason));
        }
        let unusable = |e: tokenizers::Error| TextError::Tokenizer(e.to_string());
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| {
            TextError::Tokenizer(format!(
                "{e}; name the model's tokenizer.json, not its vocab.json or tokenizer_config.json, or download it again"
            ))
        })?;
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
        let mut ids = self.tokens(prompt, true)?;
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

/// The tokens that a tokenizer adds to every prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedTokens {
    pub start: Vec<i64>,
    pub end: Vec<i64>,
}

/// The template that labels are put in unless others are given; CLIP's own is the same (Radford et
/// al. 2021, section 3.1.4).
pub const DEFAULT_PROMPT: &str = "a photo of a {}";
/// A prompt whose tokens are compared with and without those that are added.
const SAMPLE_PROMPT: &str = "a photo of a cat";

impl Tokenizer {
    /// The tokens that it adds at the start and at the end of every prompt.
    pub fn added_tokens(&self) -> Result<AddedTokens, TextError> {
        let (bare, whole) = (
            self.tokens(SAMPLE_PROMPT, false)?,
            self.tokens(SAMPLE_PROMPT, true)?,
        );
        let start = whole
            .windows(bare.len().max(1))
            .position(|part| part == bare)
            .unwrap_or(whole.len());
        Ok(AddedTokens {
            start: whole[..start].to_vec(),
            end: whole.get(start + bare.len()..).unwrap_or_default().to_vec(),
        })
    }

    /// A prompt as [`Tokenizer::encode`] gives it, to compare with what a tower looks for.
    pub fn sample(&self) -> Result<(Vec<i64>, usize), TextError> {
        self.encode(SAMPLE_PROMPT)
    }

    /// The highest token id of its vocabulary, without tokens that were added to the vocabulary
    /// later: a tower may do without those.
    #[must_use]
    pub fn highest_id(&self) -> i64 {
        let vocabulary = self.inner.get_vocab(false);
        vocabulary.values().max().map_or(0, |&id| i64::from(id))
    }

    fn tokens(&self, prompt: &str, with_added: bool) -> Result<Vec<i64>, TextError> {
        let encoded = self
            .inner
            .encode(prompt, with_added)
            .map_err(|e| TextError::Encode(prompt.into(), e.to_string()))?;
        Ok(encoded.get_ids().iter().map(|&id| i64::from(id)).collect())
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
/// labels that [`check_label`] refuses, on duplicates, and if `embed` fails or gives two labels the
/// same embedding.
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
    let of_label = |label: &String| {
        let prompts = templates.iter().map(|t| t.replace("{}", label));
        let embeddings = prompts.map(|p| embed(&p)).collect::<Result<Vec<_>, E>>()?;
        Ok(unit_mean(embeddings.iter().map(|e| unit(e))))
    };
    let rows = labels.iter().map(of_label).collect::<Result<Vec<_>, E>>()?;
    check_alike(labels, &rows)?;
    Ok(rows)
}

/// Refuses classes without a direction, and classes that the model cannot tell apart; `rows` are of unit length.
fn check_alike(labels: &[String], rows: &[Vec<f32>]) -> Result<(), TextError> {
    for (i, row) in rows.iter().enumerate() {
        if row.iter().all(|&v| v == 0.0) {
            return Err(TextError::Zero(labels[i].clone()));
        }
        for (j, other) in rows[..i].iter().enumerate() {
            let cosine: f32 = row.iter().zip(other).map(|(a, b)| a * b).sum();
            if cosine > MAX_LABEL_COSINE {
                return Err(TextError::Alike {
                    first: labels[j].clone(),
                    second: labels[i].clone(),
                    cosine,
                });
            }
        }
    }
    Ok(())
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
