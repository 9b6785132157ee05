//! Without labels: is an image under an intervention still the nearest to its own original?

use super::{Board, Criterion, Grid, Lens, SelectError, SelectWarning, Selection};
use crate::icm::embeddings::transposed_product;
use crate::icm::fit::Fitter;
use crate::icm::sources::Interventions;
use crate::workshop::Rng;
use nalgebra::DMatrix;

/// Fewer images in a half make every candidate a matter of luck.
const MIN_HALF: usize = 4;
/// Images that are looked at unless told: similarities grow with their square.
const MOST_IMAGES: usize = 2_000;
/// Few images are split more than once, until as many have been judged, so that luck in the split has less of a say.
const JUDGED: usize = 200;
const MOST_SPLITS: usize = 5;
/// No image leaves its encoder here, so any name will do.
const SAME_ENCODER: &str = "";

/// How images are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identification {
    pub seed: u64,
    /// Of more images, as many are drawn.
    pub most_images: usize,
}

impl Identification {
    /// Up to 2,000 images, split by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, most_images: MOST_IMAGES }
    }
}

/// Chooses by identification under left-out interventions: of two halves of the images, one is fitted to with all
/// families but one, and images of the other half under that family look for their original among all originals of
/// their half. Halves and families take turns; every family counts alike. Fewer than 200 images are split anew, up to
/// five times, and each image's scores averaged.
pub fn by_identification(images: &Interventions, grid: &Grid, how: &Identification) -> Result<Selection, SelectError> {
    let families = images.families().len();
    if families < 2 {
        return Err(SelectError::Families { found: families });
    }
    let mut rng = Rng::new(how.seed);
    let chosen = images.pick(&drawn(images.originals().len(), how.most_images, &mut rng));
    let count = chosen.originals().len();
    if count < 2 * MIN_HALF {
        return Err(SelectError::Images { found: count, least: 2 * MIN_HALF });
    }
    let mut board = Board::new(grid, 1);
    for groups in &mut board.groups {
        groups[0] = vec![0.0; count];
    }
    let splits = JUDGED.div_ceil(count).min(MOST_SPLITS);
    let mut warnings = Vec::new();
    for _ in 0..splits {
        let order = drawn(count, count, &mut rng);
        let (first, second) = order.split_at(count / 2);
        for (fitted, judged) in [(first, second), (second, first)] {
            judge(&chosen, fitted, judged, splits, &mut board, &mut warnings)?;
        }
    }
    board.choose(Criterion::Identification, warnings)
}

/// Fits to one half, and judges by the other.
fn judge(
    images: &Interventions,
    fitted: &[usize],
    judged: &[usize],
    splits: usize,
    board: &mut Board<'_>,
    warnings: &mut Vec<SelectWarning>,
) -> Result<(), SelectError> {
    let moments = images.pick(fitted).moments(SAME_ENCODER);
    let half = images.pick(judged);
    for (family, whole) in half.families().iter().zip(images.families()) {
        let found = family.of.len().min(whole.of.len() - family.of.len());
        if found < MIN_HALF {
            return Err(SelectError::FamilyImages { family: family.name.clone(), found });
        }
        let fitter = Fitter::without(&moments, &family.name)?;
        if let Some(warning) = fitter.warning().map(SelectWarning::Fit).filter(|w| !warnings.contains(w)) {
            warnings.push(warning);
        }
        // Every family has the same say, however many images it changes.
        let weight = images.originals().len() as f64 / (splits * images.families().len() * whole.of.len()) as f64;
        for maps in board.fit(&fitter)? {
            let originals = maps.spectrum.coordinates(half.originals().columns());
            let changed = maps.spectrum.coordinates(family.changed.columns());
            for (index, lens) in &maps.lenses {
                for image in identified(lens, &originals, &changed, &family.of) {
                    board.groups[*index][0][judged[image]] += weight;
                }
            }
        }
    }
    Ok(())
}

/// `most` of `count` indices, in an order that is drawn.
fn drawn(count: usize, most: usize, rng: &mut Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, rng.count(0, i));
    }
    order.truncate(most);
    order
}

/// The originals that are nearer to their own changed image than every other original is. A tie is no hit: a map that
/// makes all images alike identifies none.
fn identified(lens: &Lens, originals: &DMatrix<f64>, changed: &DMatrix<f64>, of: &[usize]) -> Vec<usize> {
    let cosines = transposed_product(&lens.look(originals), &lens.look(changed));
    let own_is_nearest = |(column, own): (usize, &usize)| {
        let cosines = cosines.column(column);
        let mut others = cosines.iter().enumerate().filter(|(i, _)| i != own);
        others.all(|(_, cosine)| *cosine < cosines[*own]).then_some(*own)
    };
    of.iter().enumerate().filter_map(own_is_nearest).collect()
}
