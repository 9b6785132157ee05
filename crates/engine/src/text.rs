//! The text tower: token ids to an embedding.

use crate::digest::HashedModel;
use crate::error::ModelError;
use crate::guard::catch_panic;
use crate::input::token_type;
use crate::load::{Loader, Plan, TowerInput, explained};
use crate::manifest::Manifest;
use crate::options::EngineOptions;
use crate::output::finite_values;
use crate::tokens::TokenUse;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tract_onnx::prelude::*;

/// The text tower: `[1, context_length]` token ids to `[width]`.
pub struct TextEncoder {
    plan: Plan,
    path: PathBuf,
    sha256: String,
    /// Types of the token ids and, if there is one, of their mask.
    types: Vec<DatumType>,
    tokens: TokenUse,
}

impl TextEncoder {
    /// Loads the tower that `[text]` of `manifest` describes and checks it with one run.
    pub fn load(manifest: &Manifest, options: &EngineOptions) -> Result<Self, ModelError> {
        let text = manifest.text()?;
        let path = manifest.beside(&text.file);
        catch_panic(|| Self::load_from(path.clone(), manifest, options))
            .unwrap_or_else(|reason| {
                Err(ModelError::Panicked {
                    path: path.clone(),
                    reason,
                })
            })
            .map_err(|e| explained(e, &path, &text.output))
    }

    fn load_from(
        path: PathBuf,
        manifest: &Manifest,
        options: &EngineOptions,
    ) -> Result<Self, ModelError> {
        let text = manifest.text()?;
        let HashedModel { file, sha256 } =
            HashedModel::open(&path, manifest, text.sha256.as_deref())?;
        let loader = Loader {
            file: &file,
            path: &path,
            manifest: &manifest.path,
        };
        let names = [
            (Some(&text.input), "text.input"),
            (text.attention_mask.as_ref(), "text.attention_mask"),
        ];
        let (mut inputs, mut types) = (Vec::new(), Vec::new());
        for (name, key) in names {
            let Some(name) = name else { continue };
            let declared = loader.declared_input(name, key)?;
            let element = token_type(&declared, &path)?;
            let fact = element.fact([1, text.context_length]).into();
            inputs.push(TowerInput { name, fact, key });
            types.push(element);
            let found = declared.axes.get(1).copied().flatten();
            if found.is_some_and(|n| usize::try_from(n) != Ok(text.context_length)) {
                return Err(ModelError::InputSize {
                    path,
                    key: "text.context_length",
                    manifest: manifest.path.clone(),
                    name: name.clone(),
                    shape: format!("[1, {}]", text.context_length),
                    reason: format!("the file says {}", declared.shape_text()),
                });
            }
        }
        let runtime = Arc::new(options.runtime()?);
        let tokens = TokenUse::of(&loader.graph(&text.output)?, &text.input);
        if let Some(known) = tokens.vocabulary
            && text.pad_token_id >= known
        {
            return Err(ModelError::PadToken {
                path,
                manifest: manifest.path.clone(),
                id: text.pad_token_id,
                last: known - 1,
            });
        }
        let plan = loader
            .load(
                &inputs,
                &text.output,
                "text.output",
                "text",
                options.fusion(&runtime),
            )?
            .plan;
        let encoder = Self {
            plan,
            path,
            sha256,
            types,
            tokens,
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

    /// SHA-256 of the ONNX file and its external data, lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The ONNX file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the tower uses token ids.
    #[must_use]
    pub fn tokens(&self) -> &TokenUse {
        &self.tokens
    }

    /// The embedding `[width]` of one prompt's token ids `[context_length]`; the first `used` are
    /// the prompt, the rest is padding.
    pub fn embed(&self, ids: &[i64], used: usize) -> Result<Vec<f32>, ModelError> {
        let failed = |e: TractError| ModelError::run(&self.path, &e);
        let tensor = |values: &[i64], element: DatumType| {
            let tensor = Tensor::from_shape(&[1, values.len()], values)?;
            Ok(tensor.cast_to_dt(element)?.into_owned().into())
        };
        let mask: Vec<i64> = (0..ids.len()).map(|i| i64::from(i < used)).collect();
        let values = [ids, mask.as_slice()];
        let inputs = values
            .into_iter()
            .zip(&self.types)
            .map(|(values, &element)| tensor(values, element))
            .collect::<TractResult<TVec<TValue>>>()
            .map_err(failed)?;
        let run = catch_panic(|| self.plan.run(inputs));
        let outputs = run
            .map_err(|reason| ModelError::Panicked {
                path: self.path.clone(),
                reason,
            })?
            .map_err(failed)?;
        finite_values(&self.path, &outputs[0].clone().into_tensor())
    }
}
