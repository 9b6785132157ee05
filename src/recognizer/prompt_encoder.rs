//! Embeds prompts, and makes class banks from labels.

use super::error::RecognizerError;
use crate::files;
use constancy_core::classify::{BankOrigin, ClassBank, Tokenizer, class_embeddings};
use constancy_engine::{EngineOptions, Manifest, TextEncoder};

/// Limit of a tokenizer's file; those of 250,000 tokens have 20 MB.
const MAX_TOKENIZER_BYTES: u64 = 128 << 20;

/// Tokenizer and text tower: turns a prompt into its embedding.
pub struct PromptEncoder {
    tokenizer: Tokenizer,
    tower: TextEncoder,
}

impl PromptEncoder {
    /// Loads the tokenizer and the text tower of a model.
    pub fn load(manifest: &Manifest, engine: &EngineOptions) -> Result<Self, RecognizerError> {
        let text = manifest.text()?;
        let path = manifest.beside(&text.tokenizer);
        let json = files::read(&path, MAX_TOKENIZER_BYTES).map_err(|source| {
            RecognizerError::TokenizerFile {
                path: path.clone(),
                source,
                manifest: manifest.path.clone(),
            }
        })?;
        let tokenizer = Tokenizer::parse(&json, text.context_length, text.pad_token_id)
            .map_err(|source| RecognizerError::Tokenizer { path, source })?;
        Ok(Self {
            tokenizer,
            tower: TextEncoder::load(manifest, engine)?,
        })
    }

    /// Makes a class bank from labels, each put into every template.
    pub fn bank(
        &self,
        labels: &[String],
        templates: &[String],
    ) -> Result<ClassBank, RecognizerError> {
        let rows = class_embeddings(labels, templates, |prompt| self.embed(prompt))?;
        Ok(ClassBank {
            labels: labels.to_vec(),
            templates: templates.to_vec(),
            origin: BankOrigin::Text,
            encoder_sha256: self.tower.sha256().to_owned(),
            rows,
            support: None,
            probe: None,
        })
    }

    /// The embedding `[width]` of a prompt, not normalised.
    pub fn embed(&self, prompt: &str) -> Result<Vec<f32>, RecognizerError> {
        let (ids, used) = self.tokenizer.encode(prompt)?;
        Ok(self.tower.embed(&ids, used)?)
    }
}
