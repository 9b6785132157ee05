//! Without labels: is an image under an intervention still the nearest to its own original?

use super::{Board, Criterion, Grid, Lens, SelectError, SelectWarning, Selection};
use crate::icm::fit::Fitter;
use crate::icm::sources::Interventions;
use crate::workshop::Rng;
use nalgebra::DMatrix;

/// Fewer images in a half make every candidate a matter of luck.
const MIN_HALF: usize = 4;
/// Images that are looked at unless told: similarities grow with their square.
const MOST_IMAGES: usize = 2_000;
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
/// their half. Halves and families take turns; every family counts alike.
pub fn by_identification(images: &Interventions, grid: &Grid, how: &Identification) -> Result<Selection, SelectError> {
    let families = images.families().len();
    if families < 2 {
        return Err(SelectError::Families { found: families });
    }
    let halves = halves(images, how)?;
    let count = halves[0].originals().len() + halves[1].originals().len();
    let mut board = Board::new(grid, 1);
    for groups in &mut board.groups {
        groups[0] = vec![0.0; count];
    }
    let mut warnings = Vec::new();
    let starts = [0, halves[0].originals().len()];
    for (fitted, judged) in [(0, 1), (1, 0)] {
        let moments = halves[fitted].moments(SAME_ENCODER);
        for (f, family) in halves[judged].families().iter().enumerate() {
            let fitter = Fitter::without(&moments, &family.name)?;
            if let Some(warning) = fitter.warning().map(SelectWarning::Fit).filter(|w| !warnings.contains(w)) {
                warnings.push(warning);
            }
            // Every family has the same say, however many images it changes.
            let pairs: usize = halves.iter().map(|h| h.families()[f].of.len()).sum();
            let weight = count as f64 / (families * pairs) as f64;
            for maps in board.fit(&fitter)? {
                let originals = maps.spectrum.vectors.tr_mul(halves[judged].originals().columns());
                let changed = maps.spectrum.vectors.tr_mul(family.changed.columns());
                for (index, lens) in &maps.lenses {
                    for image in identified(lens, &originals, &changed, &family.of) {
                        board.groups[*index][0][starts[judged] + image] += weight;
                    }
                }
            }
        }
    }
    board.choose(Criterion::Identification, warnings)
}

/// Two halves of the images, drawn.
fn halves(images: &Interventions, how: &Identification) -> Result<[Interventions; 2], SelectError> {
    let found = images.originals().len();
    let mut order: Vec<usize> = (0..found).collect();
    let mut rng = Rng::new(how.seed);
    for i in (1..found).rev() {
        order.swap(i, rng.count(0, i));
    }
    order.truncate(how.most_images);
    if order.len() < 2 * MIN_HALF {
        return Err(SelectError::Images { found: order.len(), least: 2 * MIN_HALF });
    }
    let (first, second) = order.split_at(order.len() / 2);
    let halves = [images.pick(first), images.pick(second)];
    for family in halves.iter().flat_map(Interventions::families) {
        if family.of.len() < MIN_HALF {
            return Err(SelectError::FamilyImages { family: family.name.clone(), found: family.of.len() });
        }
    }
    Ok(halves)
}

/// The originals that are nearer to their own changed image than every other original is. A tie is no hit: a map that
/// makes all images alike identifies none.
fn identified(lens: &Lens, originals: &DMatrix<f64>, changed: &DMatrix<f64>, of: &[usize]) -> Vec<usize> {
    let cosines = lens.look(originals).tr_mul(&lens.look(changed));
    let own_is_nearest = |(column, own): (usize, &usize)| {
        let cosines = cosines.column(column);
        let mut others = cosines.iter().enumerate().filter(|(i, _)| i != own);
        others.all(|(_, cosine)| *cosine < cosines[*own]).then_some(*own)
    };
    of.iter().enumerate().filter_map(own_is_nearest).collect()
}
