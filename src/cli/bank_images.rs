//! Images that a class bank is made from, calibrated on or judged by: embedded under interventions, each once.

use super::CliError;
use super::image_embeddings::{EmbeddingArgs, Families, LoadedEncoder};
use crate::embedding_cache::{ImageEmbeddings, InterventionPlan};
use crate::recognizer::LoadedProjection;
use constancy_core::classify::calibrate::Truth;
use constancy_core::classify::{BankOrigin, ClassBank, CopyOf, class_means, contradiction, copies};
use constancy_core::icm::Interventions;
use constancy_core::numeric::dot;
use std::path::PathBuf;

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
    /// Embeds images of these `classes` as they are and under each family of interventions. Copies are left out, and told.
    pub(super) fn embed(
        &self,
        images: &[PathBuf],
        classes: &[usize],
    ) -> Result<ImageEmbeddings, CliError> {
        let plan = InterventionPlan {
            families: self.interventions.0.clone(),
            draws: 1,
            seed: self.embedding.seed,
        };
        let embedded = self.embedding.embed_images(self.loaded, images, &plan)?;
        Ok(without_copies(embedded, images, classes))
    }
}

/// Leaves out images that show what another one shows: they would count as independent.
fn without_copies(
    embedded: ImageEmbeddings,
    images: &[PathBuf],
    classes: &[usize],
) -> ImageEmbeddings {
    let rows: Vec<Vec<f32>> = embedded.interventions.originals().rows().collect();
    let kept = &embedded.kept;
    let classes: Vec<usize> = kept.iter().map(|&i| classes[i]).collect();
    let name = |i: usize| images[kept[i]].display();
    if let Some((one, other)) = contradiction(&rows, &classes) {
        log::warn!(
            "{} and {} are the same image in folders of two classes; delete the wrong one",
            name(one),
            name(other)
        );
    }
    let found = copies(&rows, &classes);
    let Some(CopyOf { image, of }) = found.first() else {
        return embedded;
    };
    log::warn!(
        "{} of {} images are copies and left out, since a copy shows nothing new: {} is one of {}",
        found.len(),
        rows.len(),
        name(*image),
        name(*of)
    );
    let mut single = vec![true; rows.len()];
    for copy in &found {
        single[copy.image] = false;
    }
    let single: Vec<usize> = (0..rows.len()).filter(|&i| single[i]).collect();
    ImageEmbeddings {
        kept: single.iter().map(|&i| kept[i]).collect(),
        interventions: embedded.interventions.pick(&single),
        stats: embedded.stats,
    }
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
