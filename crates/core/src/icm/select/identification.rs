//! Without labels: is the nearest neighbour of an image under an intervention still its own
//! original?

use super::error::SelectError;
use super::grid::Grid;
use super::score_table::ScoreTable;
use super::scores::Scores;
use super::search_space::SearchSpace;
use super::selection::{Criterion, MAX_IMAGES_REMOVED, SelectWarning, Selection};
use super::splits::{ImagesUnder, MIN_HALF, Sampling, check_counts, family_folds, split_count};
use crate::icm::fit::Fitter;
use crate::icm::interventions::{ChangedImages, Interventions, UNNAMED_ENCODER};
use crate::icm::moments::Moments;
use crate::icm::spec::MapSpec;
use crate::numeric::Rng;
use nalgebra::DMatrix;

/// Chooses by identification under left-out interventions.
///
/// The images are split into halves. Maps are fitted to one half without some of the families (a
/// fifth of them, or one); the other half's images under those families look for their original
/// among all originals of their half. The halves take turns, and every family has the same weight.
/// Fewer than 200 images are split anew, up to five times; then each half is scored under every
/// family, and each image's scores are averaged.
pub fn by_identification(
    images: &Interventions,
    grid: &Grid,
    sampling: &Sampling,
) -> Result<Selection, SelectError> {
    let families = images.family_names();
    let space = SearchSpace {
        families: &families,
        grid,
        other_pairs: true,
    };
    identification_scores(images, &[space], sampling)?
        .pop()
        .ok_or(SelectError::NoScores)?
        .choose(|_| true)
}

/// Chooses by identification among the maps that leave most of what images differ by.
///
/// Identification says nothing of classes: a map may make a model's images easier to find, and its
/// classes impossible to tell apart. Without classes to judge by, only gentle maps do no harm. A map
/// that removes more than [`MAX_IMAGES_REMOVED`] of the images' variance about their mean is not
/// considered.
pub fn by_gentle_identification(
    images: &Interventions,
    grid: &Grid,
    sampling: &Sampling,
) -> Result<Selection, SelectError> {
    let fitter = Fitter::new(&images.moments(UNNAMED_ENCODER))?;
    let shares = fitter.images_removed(grid.candidates())?;
    let maps = grid.candidates().iter().zip(shares);
    let gentle: Vec<MapSpec> = maps
        .filter(|(_, share)| *share <= MAX_IMAGES_REMOVED)
        .map(|(spec, _)| *spec)
        .collect();
    let strong = grid.candidates().len() - gentle.len();
    let mut selection = by_identification(images, &Grid::new(gentle), sampling)?;
    if strong > 0 {
        let warning = SelectWarning::Strong { maps: strong };
        selection.warnings.push(warning);
    }
    Ok(selection)
}

/// The scores of the candidates of several search spaces, which share splits and moments.
pub(in crate::icm) fn identification_scores(
    images: &Interventions,
    spaces: &[SearchSpace<'_>],
    sampling: &Sampling,
) -> Result<Vec<Scores>, SelectError> {
    let mut rng = Rng::new(sampling.seed);
    let mut order = rng.permutation(images.originals().len());
    order.truncate(sampling.max_images);
    let sample = images.pick(&order);
    let count = sample.originals().len();
    check_counts(spaces, count)?;
    let encoder_width = sample.originals().width();
    let sample = sample.compact().unwrap_or(sample);
    let splits = split_count(count);
    let groups = if splits == 1 {
        vec![vec![0.0; count / 2], vec![0.0; count - count / 2]]
    } else {
        vec![vec![0.0; count]]
    };
    let mut tables: Vec<ScoreTable<'_>> = spaces
        .iter()
        .map(|space| ScoreTable::new(space.grid, 1, groups.clone()))
        .collect();
    for _ in 0..splits {
        let order = rng.permutation(count);
        let (first, second) = order.split_at(count / 2);
        for (turn, (fitted, scored)) in [(second, first), (first, second)].into_iter().enumerate() {
            let turn = (splits == 1).then_some(turn);
            let halves = Halves::new(&sample, encoder_width, (fitted, scored), turn, splits)?;
            for (space, table) in spaces.iter().zip(&mut tables) {
                halves.score(space, table)?;
            }
        }
    }
    Ok(tables
        .into_iter()
        .flat_map(|table| table.finish(Criterion::Identification))
        .collect())
}

/// One half that maps are fitted to, and the other, on which they are scored.
struct Halves<'a> {
    /// Moments of the half that maps are fitted to.
    fitted: Moments,
    /// The half that is scored.
    scored: Interventions,
    /// The originals of `scored`, `[D, n]`.
    gallery: DMatrix<f32>,
    /// Indices of the images of `scored` among all.
    indices: &'a [usize],
    /// The number of all images.
    images: usize,
    /// The number of images that each family changes.
    pairs: Vec<usize>,
    /// The width of the encoder's embeddings, before `Interventions::compact`.
    encoder_width: usize,
    /// With a single split, each half is scored under every other group of families; this is the
    /// half's number, 0 or 1. `None` if each half is scored under all.
    turn: Option<usize>,
    splits: usize,
}

impl<'a> Halves<'a> {
    fn new(
        images: &Interventions,
        encoder_width: usize,
        (fitted, scored): (&[usize], &'a [usize]),
        turn: Option<usize>,
        splits: usize,
    ) -> Result<Self, SelectError> {
        let half = images.pick(scored);
        let pairs: Vec<usize> = images.families().iter().map(|f| f.of.len()).collect();
        for (family, whole) in half.families().iter().zip(&pairs) {
            let found = family.of.len().min(whole - family.of.len());
            if found < MIN_HALF {
                return Err(SelectError::FamilyImages {
                    family: family.name.clone(),
                    found,
                });
            }
        }
        Ok(Self {
            fitted: images.pick(fitted).moments(UNNAMED_ENCODER),
            gallery: half.originals().columns_f32(),
            encoder_width,
            scored: half,
            indices: scored,
            images: images.originals().len(),
            pairs,
            turn,
            splits,
        })
    }

    fn score(
        &self,
        space: &SearchSpace<'_>,
        table: &mut ScoreTable<'_>,
    ) -> Result<(), SelectError> {
        let families = space.interventions();
        let folds = family_folds(&families).into_iter().enumerate();
        for (_, left_out) in folds.filter(|(fold, _)| self.turn.is_none_or(|turn| fold % 2 == turn))
        {
            let known = |name: &str| space.allows(&self.scored, name) && !left_out.contains(&name);
            let fitter =
                Fitter::for_families(&self.fitted, known)?.with_encoder_width(self.encoder_width);
            let queries = ImagesUnder::gather(&self.scored, &left_out, |i, family| {
                self.weight(family, self.pairs[i], families.len())
            });
            for set in table.fit(&fitter)? {
                let originals = &queries.originals;
                set.identify(&self.gallery, &queries.columns, originals, |map, query| {
                    let (group, image) = match self.turn {
                        Some(turn) => (turn, originals[query]),
                        None => (0, self.indices[originals[query]]),
                    };
                    table.groups[0][map][group][image] += queries.weights[query];
                });
            }
        }
        Ok(())
    }

    /// The weight of one image of a family that changes `pairs` images, if `families` are scored.
    /// Every family has the same total weight, however many images it changes, so that the mean of
    /// scores is the mean of recalls.
    fn weight(&self, family: &ChangedImages, pairs: usize, families: usize) -> f64 {
        let in_family = match self.turn {
            Some(_) => 2.0 * self.indices.len() as f64 / family.of.len() as f64,
            None => self.images as f64 / (pairs * self.splits) as f64,
        };
        in_family / families as f64
    }
}
