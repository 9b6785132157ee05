//! Splits shared by the criteria that fit to one half of the images, without some families, and
//! score the other half under those families.

use super::error::SelectError;
use super::search_space::SearchSpace;
use crate::icm::interventions::{ChangedImages, Interventions};
use nalgebra::DMatrix;

/// The default of [`Sampling::max_images`]: the cost of comparing images grows with the square of
/// their number.
const MAX_IMAGES: usize = 2_000;
/// The least images in a half: with fewer, chance decides every candidate's score.
pub(super) const MIN_HALF: usize = 4;
/// Small sets are split repeatedly until this many images have been scored, which averages out
/// chance in the split.
const SCORED_IMAGES: usize = 200;
const MAX_SPLITS: usize = 5;
/// Groups of families that are left out in turn. With many families, each one's effect is covered
/// by others, and leaving out one at a time would test little.
const MAX_FOLDS: usize = 5;

/// How images are drawn and split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    pub seed: u64,
    /// If there are more images, choosing by identification draws this many of them.
    pub max_images: usize,
}

impl Sampling {
    /// Up to 2,000 images, drawn and split by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            max_images: MAX_IMAGES,
        }
    }
}

/// Checks that there are enough families and images to leave some out.
pub(super) fn check_counts(spaces: &[SearchSpace<'_>], images: usize) -> Result<(), SelectError> {
    if let Some(found) = spaces
        .iter()
        .map(|space| space.interventions().len())
        .find(|&found| found < 2)
    {
        return Err(SelectError::Families { found });
    }
    let least = 2 * MIN_HALF;
    if images < least {
        Err(SelectError::Images {
            found: images,
            least,
        })
    } else {
        Ok(())
    }
}

/// How often to split `images` images.
pub(in crate::icm) fn split_count(images: usize) -> usize {
    SCORED_IMAGES.div_ceil(images).min(MAX_SPLITS)
}

/// Groups of families to leave out together: a fifth of them each, or one.
pub(in crate::icm) fn family_folds<'a>(families: &[&'a str]) -> Vec<Vec<&'a str>> {
    let folds = families.len().min(MAX_FOLDS);
    (0..folds)
        .map(|fold| families.iter().skip(fold).step_by(folds).copied().collect())
        .collect()
}

/// Images under some families of interventions.
pub(super) struct ImagesUnder {
    /// Unit columns, `[D, m]`.
    pub columns: DMatrix<f32>,
    /// The index of each image's original.
    pub originals: Vec<usize>,
    /// The weight of each image in a score.
    pub weights: Vec<f64>,
}

impl ImagesUnder {
    /// Gathers the images of `half` under `families`. `weight` gets the index of a family in the
    /// half and its images.
    pub(super) fn gather(
        half: &Interventions,
        families: &[&str],
        weight: impl Fn(usize, &ChangedImages) -> f64,
    ) -> Self {
        let (mut columns, mut originals, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (i, family) in half.families().iter().enumerate() {
            if families.contains(&family.name.as_str()) {
                columns.extend_from_slice(family.changed.columns_f32().as_slice());
                originals.extend_from_slice(&family.of);
                weights.resize(originals.len(), weight(i, family));
            }
        }
        Self {
            columns: DMatrix::from_vec(half.originals().width(), originals.len(), columns),
            originals,
            weights,
        }
    }
}
