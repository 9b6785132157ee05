//! Embeds prompts, and makes class banks from labels.

use super::error::RecognizerError;
use crate::files;
use constancy_core::classify::{
    AddedTokens, BankOrigin, ClassBank, TextError, Tokenizer, class_embeddings,
};
use constancy_engine::{EngineOptions, Manifest, TextEncoder, catch_panic};
use std::path::PathBuf;

/// Limit of a tokenizer's file; those of 250,000 tokens have 20 MB.
const MAX_TOKENIZER_BYTES: u64 = 128 << 20;

/// Tokenizer and text tower: turns a prompt into its embedding.
pub struct PromptEncoder {
    tokenizer: Tokenizer,
    tokenizer_path: PathBuf,
    manifest: PathBuf,
    tower: TextEncoder,
}

impl PromptEncoder {
    /// Loads the tokenizer and the text tower of a model, in this process.
    pub(super) fn load(
        manifest: &Manifest,
        engine: &EngineOptions,
    ) -> Result<Self, RecognizerError> {
        Self::with_tokenizer(Self::load_tokenizer(manifest)?, manifest, engine)
    }

    /// Loads the tokenizer alone.
    pub(super) fn load_tokenizer(manifest: &Manifest) -> Result<Tokenizer, RecognizerError> {
        let text = manifest.text()?;
        let path = manifest.beside(&text.tokenizer);
        let json = files::read(&path, MAX_TOKENIZER_BYTES).map_err(|source| {
            RecognizerError::TokenizerFile {
                path: path.clone(),
                source,
                manifest: manifest.path.clone(),
            }
        })?;
        catch_panic(|| Tokenizer::parse(&json, text.context_length, text.pad_token_id))
            .unwrap_or_else(|reason| Err(TextError::Tokenizer(reason)))
            .map_err(|source| RecognizerError::Tokenizer { path, source })
    }

    /// Loads the text tower that goes with `tokenizer`.
    pub(super) fn with_tokenizer(
        tokenizer: Tokenizer,
        manifest: &Manifest,
        engine: &EngineOptions,
    ) -> Result<Self, RecognizerError> {
        let encoder = Self {
            tokenizer,
            tokenizer_path: manifest.beside(&manifest.text()?.tokenizer),
            manifest: manifest.path.clone(),
            tower: TextEncoder::load(manifest, engine)?,
        };
        encoder.check_vocabulary()?;
        encoder.warn_of_missing_tokens()?;
        encoder.warn_of_short_context(manifest.text()?.context_length);
        Ok(encoder)
    }

    /// Makes a class bank from labels, each put into every template; calls `progress` for every
    /// prompt.
    pub(super) fn bank(
        &self,
        labels: &[String],
        templates: &[String],
        progress: &mut dyn FnMut(),
    ) -> Result<ClassBank, RecognizerError> {
        let rows = class_embeddings(labels, templates, |prompt| {
            progress();
            self.embed(prompt)
        })?;
        Ok(ClassBank {
            labels: labels.to_vec(),
            templates: templates.to_vec(),
            origin: BankOrigin::Text,
            encoder_sha256: self.tower.sha256().to_owned(),
            rows,
            support: None,
            probe: None,
            whitening: None,
            confidence: None,
        })
    }

    /// The embedding `[width]` of a prompt, not normalised.
    pub fn embed(&self, prompt: &str) -> Result<Vec<f32>, RecognizerError> {
        let encoded = catch_panic(|| self.tokenizer.encode(prompt));
        let (ids, used) =
            encoded.unwrap_or_else(|reason| Err(TextError::Encode(prompt.into(), reason)))?;
        for &id in &ids[..used] {
            self.check_known(id)?;
        }
        Ok(self.tower.embed(&ids, used)?)
    }

    fn check_vocabulary(&self) -> Result<(), RecognizerError> {
        self.check_known(self.tokenizer.highest_id())?;
        let AddedTokens { start, end } = self.tokenizer.added_tokens()?;
        start
            .iter()
            .chain(&end)
            .try_for_each(|&id| self.check_known(id))
    }

    /// Refuses a token that the tower does not know.
    fn check_known(&self, id: i64) -> Result<(), RecognizerError> {
        match self.tower.tokens().vocabulary {
            Some(known) if id >= known => Err(RecognizerError::Token {
                tokenizer: self.tokenizer_path.clone(),
                tower: self.tower.path().into(),
                manifest: self.manifest.clone(),
                id,
                last: known - 1,
            }),
            _ => Ok(()),
        }
    }

    /// Warns if prompts are cut although the tower takes longer ones.
    fn warn_of_short_context(&self, context_length: usize) {
        let positions = self.tower.tokens().positions;
        if let Some(longest) =
            positions.filter(|&p| usize::try_from(p).is_ok_and(|p| p > context_length))
        {
            log::warn!(
                "model manifest {}: `text.context_length` is {context_length}, but the text tower {} takes {longest} tokens: prompts of more than {context_length} lose their last words. Set it to {longest}",
                self.manifest.display(),
                self.tower.path().display()
            );
        }
    }

    /// Warns if the tower will not find the end of prompts: their embeddings then say little or
    /// nothing of their words.
    fn warn_of_missing_tokens(&self) -> Result<(), RecognizerError> {
        let added = self.tokenizer.added_tokens()?;
        let (ids, used) = self.tokenizer.sample()?;
        if let Some(what) = missing(&added, &ids, used, &self.tower) {
            log::warn!(
                "tokenizer {}: {what}; the text tower {} will embed labels wrongly. Use the tokenizer.json of this very model, with its post-processor",
                self.tokenizer_path.display(),
                self.tower.path().display()
            );
        }
        Ok(())
    }
}

/// What the tower looks for in vain in prompts such as `ids`, of which the first `used` are not
/// padding.
fn missing(added: &AddedTokens, ids: &[i64], used: usize, tower: &TextEncoder) -> Option<String> {
    let tokens = tower.tokens();
    if added.start.is_empty() && added.end.is_empty() {
        return Some("prompts gain no start and end tokens".into());
    }
    if added.end.is_empty() {
        return Some("prompts gain no end token".into());
    }
    if let Some(id) = tokens.looks_for.iter().find(|id| !ids.contains(id)) {
        return Some(format!(
            "prompts do not contain the token {id}, which the tower looks for"
        ));
    }
    let highest = ids.iter().max();
    let at = ids.iter().position(|id| Some(id) == highest);
    if tokens.reads_at_highest && at != used.checked_sub(1) {
        return Some(
            "the highest token of a prompt, where the tower reads its embedding, is not the end token"
                .into(),
        );
    }
    let is_clip = tokens.reads_at_highest || !tokens.looks_for.is_empty();
    (is_clip && added.start.is_empty()).then(|| "prompts gain no start token".into())
}
