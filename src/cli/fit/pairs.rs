//! Pairs of pictures from a camera's own interventions, as families of a fit.

use crate::cli::CliError;
use crate::cli::image_embeddings::{EmbeddingArgs, LoadedEncoder};
use crate::cli::output::Failures;
use crate::cli::pairs;
use crate::embedding_cache::{EmbedError, InterventionPlan};
use clap::Args;
use constancy_core::icm::{Embeddings, Interventions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A family's name, its originals, and as many changed pictures.
pub(super) type FamilyOfPairs = (String, Embeddings, Embeddings);

#[derive(Debug, Args)]
pub(super) struct PairArgs {
    /// Folder of pairs from `constancy camera intervene`, to fit to beside the interventions on images; repeatable
    #[arg(long = "pairs", value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Fit to those pairs alone; the interventions on images then only judge the maps
    #[arg(long, requires = "folders")]
    pairs_only: bool,
}

impl PairArgs {
    /// The images with families of pairs that are not of them.
    pub(super) fn join(
        &self,
        images: Interventions,
        families: impl Iterator<Item = FamilyOfPairs>,
    ) -> Result<Interventions, CliError> {
        let mut joined = images;
        for (name, originals, changed) in families {
            let with = joined.with_pairs(&name, originals, changed);
            joined = with.map_err(EmbedError::Source)?;
        }
        Ok(if self.pairs_only {
            joined.fitted_to_pairs_alone()
        } else {
            joined
        })
    }

    /// The families of all folders, sorted by name. Pairs with an unreadable image are reported and left out.
    pub(super) fn embeddings(
        &self,
        embedding: &EmbeddingArgs,
        loaded: &LoadedEncoder,
    ) -> Result<(Vec<FamilyOfPairs>, Failures), CliError> {
        let mut images = Images::default();
        let mut families: BTreeMap<String, Vec<[usize; 2]>> = BTreeMap::new();
        for folder in &self.folders {
            let pairs = pairs::read(folder)?;
            if pairs.is_empty() {
                return Err(CliError::Usage(format!(
                    "{}: no pair is listed; `constancy camera intervene` takes some",
                    folder.join(pairs::MANIFEST).display()
                )));
            }
            for pair in pairs {
                let both = [&pair.reference, &pair.changed].map(|path| images.number(path));
                families.entry(pair.family).or_default().push(both);
            }
        }
        if images.paths.is_empty() {
            return Ok((Vec::new(), Failures::NONE));
        }
        let as_they_are = InterventionPlan {
            families: Vec::new(),
            draws: 1,
            seed: embedding.seed,
        };
        let embedded = embedding.embed_images(loaded, &images.paths, &as_they_are)?;
        let mut rows = vec![None; images.paths.len()];
        for (row, &image) in embedded.kept.iter().enumerate() {
            rows[image] = Some(row);
        }
        let failures = Failures::new(embedded.stats.unreadable, images.paths.len());
        let of = |pairs: &[[usize; 2]], side: usize| {
            let whole = pairs
                .iter()
                .filter(|pair| pair.iter().all(|&i| rows[i].is_some()));
            let indices: Vec<usize> = whole.filter_map(|pair| rows[pair[side]]).collect();
            embedded.interventions.originals().pick(&indices)
        };
        let families = families
            .iter()
            .map(|(name, pairs)| (name.clone(), of(pairs, 0), of(pairs, 1)));
        let families = families.filter(|(_, originals, _)| !originals.is_empty());
        Ok((families.collect(), failures))
    }
}

/// Each image once: pairs share their references.
#[derive(Default)]
struct Images {
    paths: Vec<PathBuf>,
    numbers: BTreeMap<PathBuf, usize>,
}

impl Images {
    fn number(&mut self, path: &Path) -> usize {
        if let Some(&number) = self.numbers.get(path) {
            return number;
        }
        let number = self.paths.len();
        self.paths.push(path.into());
        self.numbers.insert(path.into(), number);
        number
    }
}
