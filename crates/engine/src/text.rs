//! The text tower: token ids to an embedding.

use crate::digest::checked_sha256;
use crate::error::ModelError;
use crate::load::{Loader, Plan, TowerInput};
use crate::manifest::Manifest;
use crate::options::EngineOptions;
use crate::output::finite_values;
use std::path::PathBuf;
use std::sync::Arc;
use tract_onnx::prelude::*;

/// The text tower: `[1, context_length]` token ids to `[width]`.
pub struct TextEncoder {
    plan: Plan,
    path: PathBuf,
    sha256: String,
    has_mask: bool,
}

impl TextEncoder {
    /// Loads the tower that `[text]` of `manifest` describes and checks it with one run.
    pub fn load(manifest: &Manifest, options: &EngineOptions) -> Result<Self, ModelError> {
        let text = manifest.text()?;
        let path = manifest.beside(&text.file);
        let sha256 = checked_sha256(&path, manifest, text.sha256.as_deref())?;
        let fact = i64::fact([1, text.context_length]);
        let mut inputs = vec![TowerInput {
            name: &text.input,
            fact: fact.clone().into(),
            key: "text.input",
        }];
        if let Some(mask) = &text.attention_mask {
            inputs.push(TowerInput {
                name: mask,
                fact: fact.into(),
                key: "text.attention_mask",
            });
        }
        let runtime = Arc::new(options.runtime()?);
        let loader = Loader {
            path: &path,
            manifest: &manifest.path,
        };
        let plan = loader
            .load(
                &inputs,
                &text.output,
                "text.output",
                "text",
                options.fusion(&runtime),
            )?
            .plan;
        let has_mask = text.attention_mask.is_some();
        let encoder = Self {
            plan,
            path,
            sha256,
            has_mask,
        };
        let mut probe = vec![text.pad_token_id; text.context_length];
        probe[0] = 1;
        let found = encoder.embed(&probe, 1)?.len();
        if found != manifest.output.width {
            return Err(ModelError::OutputShape {
                path: encoder.path,
                manifest: manifest.path.clone(),
                name: text.output.clone(),
                found: format!("[1, {found}]"),
                width: manifest.output.width,
            });
        }
        Ok(encoder)
    }

    /// Hash of the ONNX file, lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The embedding `[width]` of one prompt's token ids `[context_length]`; the first `used` are
    /// the prompt, the rest is padding.
    pub fn embed(&self, ids: &[i64], used: usize) -> Result<Vec<f32>, ModelError> {
        let failed = |e: TractError| ModelError::run(&self.path, &e);
        let tensor =
            |values: &[i64]| Tensor::from_shape(&[1, values.len()], values).map_err(failed);
        let mut inputs: TVec<TValue> = tvec!(tensor(ids)?.into());
        if self.has_mask {
            let mask: Vec<i64> = (0..ids.len()).map(|i| i64::from(i < used)).collect();
            inputs.push(tensor(&mask)?.into());
        }
        let outputs = self.plan.run(inputs).map_err(failed)?;
        finite_values(&self.path, &outputs[0].clone().into_tensor())
    }
}
