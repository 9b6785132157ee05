//! Captions and the labels that `fit` puts into prompts.

use crate::cli::CliError;
use crate::cli::captions::CaptionArgs;
use crate::cli::image_embeddings::{LoadedEncoder, labels_of_folders};
use crate::cli::model_args::LabelArgs;
use clap::Args;
use constancy_core::classify::ClassBank;
use constancy_core::icm::{Domains, Embeddings};

#[derive(Debug, Args)]
pub(super) struct TextArgs {
    #[command(flatten)]
    captions: CaptionArgs,
    #[command(flatten)]
    labels: LabelArgs,
}

impl TextArgs {
    /// The templates that labels are put in.
    pub(super) fn prompts(&self) -> &[String] {
        &self.labels.prompts
    }

    /// The embeddings of captions and of their edits: those that are asked for, or else edits of the prompts of `classes`.
    /// `None` without either.
    pub(super) fn embeddings(
        &self,
        loaded: &LoadedEncoder,
        domains: Option<&Domains>,
        classes: Option<&ClassBank>,
    ) -> Result<Option<(Embeddings, Embeddings)>, CliError> {
        if let Some(bank) = classes.filter(|_| self.captions.asked().is_none()) {
            return loaded.caption_edits(&bank.labels, &bank.templates);
        }
        let labels = || self.labels(loaded, domains);
        self.captions
            .embeddings(loaded, labels, &self.labels.prompts)
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
