//! Images that a class bank is calibrated on or judged by: embedded under interventions, with the classes that their folders
//! name.

use super::CliError;
use super::image_embeddings::{EmbeddingArgs, Families, LoadedEncoder, label_of_folder};
use crate::embedding_cache::{ImageEmbeddings, InterventionPlan};
use crate::recognizer::LoadedProjection;
use constancy_core::classify::calibrate::Truth;
use constancy_core::classify::{BankOrigin, ClassBank, class_means};
use constancy_core::icm::{Domains, Interventions};
use constancy_core::numeric::dot;
use std::path::{Path, PathBuf};

/// How near a class's images must be to its row for the row to be made from them.
const SAME_IMAGES: f32 = 1.0 - 1e-5;

/// Where images to judge a bank by come from, and how they are embedded.
pub(super) struct Source<'a> {
    pub embedding: &'a EmbeddingArgs,
    pub loaded: &'a LoadedEncoder,
    pub projection: Option<&'a LoadedProjection>,
    pub interventions: &'a Families,
}

impl Source<'_> {
    /// Embeds images as they are and under each family of interventions.
    pub(super) fn embed(&self, images: &[PathBuf]) -> Result<ImageEmbeddings, CliError> {
        let plan = InterventionPlan {
            families: self.interventions.0.clone(),
            draws: 1,
            seed: self.embedding.seed,
        };
        self.embedding.embed_images(self.loaded, images, &plan)
    }
}

/// The class that a folder is named after: `hex_bolt` may be `hex bolt`.
fn class_named(labels: &[String], folder: &str) -> Option<usize> {
    let spaced = label_of_folder(folder);
    labels.iter().position(|l| l == folder || *l == spaced)
}

/// Whether any folder is named after a class of the bank.
pub(super) fn names_a_class(labels: &[String], domains: &Domains) -> bool {
    let mut folders = domains.classes.iter();
    folders.any(|folder| class_named(labels, folder).is_some())
}

/// The class of the bank that each class of folders is. Folders that are no class of the bank are told. `or` is another way
/// out where none is.
pub(super) fn truths(
    labels: &[String],
    domains: &Domains,
    folder: &Path,
    or: &str,
) -> Result<Vec<Truth>, CliError> {
    let truth = |name: &String| class_named(labels, name).map_or(Truth::Other, Truth::Class);
    let classes: Vec<Truth> = domains.classes.iter().map(truth).collect();
    let others: Vec<&str> = domains
        .classes
        .iter()
        .zip(&classes)
        .filter(|(_, truth)| **truth == Truth::Other)
        .map(|(name, _)| name.as_str())
        .collect();
    if others.len() == classes.len() {
        return Err(CliError::Usage(format!(
            "no subfolder of {} is named after a class of the bank, which has {}; rename them, or {or}",
            folder.display(),
            labels.join(", ")
        )));
    }
    if !others.is_empty() {
        log::warn!(
            "no class of the bank: {}; the images in these folders count as unknown to it",
            others.join(", ")
        );
    }
    Ok(classes)
}

/// Whether the bank's rows are the means of these images.
pub(super) fn made_from(bank: &ClassBank, truths: &[Truth], embedded: &Interventions) -> bool {
    if bank.origin != BankOrigin::Images {
        return false;
    }
    let mut examples = vec![Vec::new(); bank.labels.len()];
    for (truth, row) in truths.iter().zip(embedded.originals().rows()) {
        if let Truth::Class(class) = truth {
            examples[*class].push(row);
        }
    }
    let means = class_means(&examples);
    let mut rows = means.iter().zip(&bank.rows).zip(&examples);
    rows.any(|((mean, row), images)| !images.is_empty() && dot(mean, row) > SAME_IMAGES)
}
