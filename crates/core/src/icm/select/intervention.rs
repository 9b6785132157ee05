//! With labels of one environment or more: are images classified correctly under interventions that
//! the fit has not seen?
//!
//! Identification asks which image it is, this criterion which class. The two want different maps
//! from an encoder that has learnt its classes and little else, such as a small one trained on few
//! things.

use super::error::SelectError;
use super::grid::Grid;
use super::score_table::ScoreTable;
use super::scores::Scores;
use super::search_space::SearchSpace;
use super::selection::{Criterion, MAX_ACCURACY_LOSS, SelectWarning, Selection};
use super::splits::{ImagesUnder, Sampling, check_counts, family_folds, split_count};
use crate::icm::embeddings::Embeddings;
use crate::icm::fit::Fitter;
use crate::icm::head::{Examples, FittedHead, Method, largest};
use crate::icm::interventions::{Interventions, UNNAMED_ENCODER};
use crate::icm::labelled::Labelled;
use crate::icm::linalg::transposed_product;
use crate::icm::map_set::MapSet;
use crate::icm::moments::Moments;
use crate::icm::spec::MapSpec;
use crate::numeric::Rng;
use nalgebra::DMatrix;

/// Chooses by accuracy under left-out interventions, averaged over `methods`.
///
/// The images are split into halves. Classes and maps are learnt from one half, the maps without
/// some of the families (a fifth of them, or one); the other half's images under those families are
/// classified. Halves and families take turns, and every family has the same weight. A map that
/// costs any method more than [`MAX_ACCURACY_LOSS`] on the other half's images as they are is not
/// considered.
pub fn by_intervention(
    sources: &Labelled,
    grid: &Grid,
    methods: &[Method],
    sampling: &Sampling,
) -> Result<Selection, SelectError> {
    let families = sources.families();
    let space = SearchSpace {
        families: &families,
        grid,
        other_pairs: true,
    };
    intervention_scores(sources, &[space], methods, sampling)?
        .pop()
        .and_then(Scores::pooled)
        .ok_or(SelectError::NoScores)?
        .choose(|_| true)
}

/// Chooses by agreement: the answers on images as they are, by the nearest of the `classes`
/// `[D, classes]` without a map, count as right, and an answer that an intervention changes is an
/// error.
///
/// Needs no labels of images. The choice is that of [`by_intervention`]: interventions are those
/// that the fit has not seen, and a map that changes more than [`MAX_ACCURACY_LOSS`] of the answers
/// on images as they are is not considered.
pub fn by_agreement(
    images: &Interventions,
    classes: &Embeddings,
    grid: &Grid,
    sampling: &Sampling,
) -> Result<Selection, SelectError> {
    let families = images.family_names();
    let space = SearchSpace {
        families: &families,
        grid,
        other_pairs: true,
    };
    agreement_scores(images, classes, &[space], sampling)?
        .pop()
        .ok_or(SelectError::NoScores)?
        .choose(|_| true)
}

/// The scores of the candidates of several search spaces by [`by_agreement`], which share splits and
/// moments.
pub(in crate::icm) fn agreement_scores(
    images: &Interventions,
    classes: &Embeddings,
    spaces: &[SearchSpace<'_>],
    sampling: &Sampling,
) -> Result<Vec<Scores>, SelectError> {
    let answers = largest(&transposed_product(
        classes.columns(),
        images.originals().columns(),
    ));
    let sources = Labelled::with_answers(images.clone(), answers, classes.len());
    let nearest = [Method::ZeroShot(classes.clone())];
    let of_methods = intervention_scores(&sources, spaces, &nearest, sampling)?.into_iter();
    let scores = of_methods.filter_map(Scores::pooled);
    Ok(scores
        .map(|scores| scores.named(Criterion::Agreement))
        .collect())
}

/// The scores `[space][method]` of the candidates of several search spaces, which share splits and
/// moments. Candidates that cost too much are dropped.
pub(in crate::icm) fn intervention_scores(
    sources: &Labelled,
    spaces: &[SearchSpace<'_>],
    methods: &[Method],
    sampling: &Sampling,
) -> Result<Vec<Vec<Scores>>, SelectError> {
    let count = sources.classes().len();
    check_counts(spaces, count)?;
    let encoder_width = sources.images().originals().width();
    // Class names would have to be written in the same coordinates.
    let named = methods
        .iter()
        .any(|method| matches!(method, Method::ZeroShot(_)));
    let compact = if named { None } else { sources.compact() };
    let sources = compact.as_ref().unwrap_or(sources);
    let mut rng = Rng::new(sampling.seed);
    let splits = split_count(count);
    // Two measures per method: under interventions, and on images as they are.
    let groups = vec![vec![0.0; count]];
    let mut tables: Vec<ScoreTable<'_>> = spaces
        .iter()
        .map(|space| ScoreTable::new(space.grid, 2 * methods.len(), groups.clone()))
        .collect();
    for _ in 0..splits {
        let (first, second) = stratified_halves(sources.classes(), &mut rng);
        for (learnt, scored) in [(&first, &second), (&second, &first)] {
            let halves = Halves::new(sources, (learnt, scored), encoder_width, splits);
            for (space, table) in spaces.iter().zip(&mut tables) {
                halves.score(space, methods, table)?;
            }
        }
    }
    Ok(tables
        .into_iter()
        .map(|table| without_costly_maps(table, methods.len()))
        .collect())
}

/// Two halves with the same share of every class.
pub(in crate::icm) fn stratified_halves(
    classes: &[usize],
    rng: &mut Rng,
) -> (Vec<usize>, Vec<usize>) {
    let mut order = rng.permutation(classes.len());
    order.sort_by_key(|&image| classes[image]);
    let every_other = |from: usize| order.iter().skip(from).step_by(2).copied().collect();
    (every_other(0), every_other(1))
}

/// The scores under interventions, without the maps that cost too much on images as they are.
fn without_costly_maps(table: ScoreTable<'_>, methods: usize) -> Vec<Scores> {
    let mut under = table.finish(Criterion::LeftOutIntervention);
    let as_they_are = under.split_off(methods);
    let mut costly: Vec<MapSpec> = Vec::new();
    for (map, cost) in as_they_are.iter().flat_map(Scores::costs) {
        if cost > MAX_ACCURACY_LOSS && !costly.contains(&map) {
            costly.push(map);
        }
    }
    if !costly.is_empty() {
        let warning = SelectWarning::Costly { maps: costly.len() };
        for scores in &mut under {
            scores.drop_maps(&costly, &warning);
        }
    }
    under
}

/// One half that is learnt from, and the other, which is scored.
struct Halves<'a> {
    sources: &'a Labelled,
    learnt: Labelled,
    moments: Moments,
    /// The images of `learnt`, `[D, n]`.
    examples: DMatrix<f32>,
    scored: Labelled,
    /// The images of `scored` as they are, `[D, m]`.
    untouched: DMatrix<f32>,
    /// Indices of the images of `scored` among all.
    indices: &'a [usize],
    /// The width of the encoder's embeddings, before `Interventions::compact`.
    encoder_width: usize,
    splits: usize,
}

/// The images that one set of maps is scored on, in the coordinates of the maps.
struct ScoredImages<'a> {
    under: &'a ImagesUnder,
    /// Coordinates of `under`, `[D, m]`.
    changed: DMatrix<f32>,
    /// Coordinates of the half's images as they are, `[D, n]`.
    untouched: DMatrix<f32>,
    /// The weight of an image as it is.
    untouched_weight: f64,
}

impl<'a> Halves<'a> {
    fn new(
        sources: &'a Labelled,
        (learnt, scored): (&[usize], &'a [usize]),
        encoder_width: usize,
        splits: usize,
    ) -> Self {
        let indices = scored;
        let (learnt, scored) = (sources.pick(learnt), sources.pick(scored));
        Self {
            sources,
            moments: learnt.moments(UNNAMED_ENCODER),
            examples: learnt.images().originals().columns_f32(),
            learnt,
            untouched: scored.images().originals().columns_f32(),
            scored,
            indices,
            encoder_width,
            splits,
        }
    }

    fn score(
        &self,
        space: &SearchSpace<'_>,
        methods: &[Method],
        table: &mut ScoreTable<'_>,
    ) -> Result<(), SelectError> {
        let families = space.interventions();
        let folds = family_folds(&families);
        for left_out in &folds {
            let known =
                |name: &str| space.allows(self.sources.images(), name) && !left_out.contains(&name);
            let fitter =
                Fitter::for_families(&self.moments, known)?.with_encoder_width(self.encoder_width);
            let under = ImagesUnder::gather(self.scored.images(), left_out, |i, _| {
                self.weight(i, families.len())
            });
            for set in table.fit(&fitter)? {
                let images = ScoredImages {
                    changed: set.coordinates(&under.columns),
                    untouched: set.coordinates(&self.untouched),
                    untouched_weight: ((folds.len() * self.splits) as f64).recip(),
                    under: &under,
                };
                self.score_set(&set, methods, &images, table)?;
            }
        }
        Ok(())
    }

    /// Adds the scores of one set of maps with every method.
    fn score_set(
        &self,
        set: &MapSet,
        methods: &[Method],
        images: &ScoredImages<'_>,
        table: &mut ScoreTable<'_>,
    ) -> Result<(), SelectError> {
        let examples = Examples::new(set, &self.examples, self.learnt.classes());
        let classes = self.scored.classes();
        for (number, method) in methods.iter().enumerate() {
            let mut previous: Option<FittedHead<f32>> = None;
            for (map, weights) in &set.maps {
                let head = examples.fit(set, weights, method, previous.as_ref())?;
                let under = &mut table.groups[number][*map][0];
                let named = head.predict(&weights.apply(&images.changed));
                for ((named, &image), weight) in named
                    .iter()
                    .zip(&images.under.originals)
                    .zip(&images.under.weights)
                {
                    under[self.indices[image]] += score(*named == classes[image], *weight);
                }
                let as_they_are = &mut table.groups[methods.len() + number][*map][0];
                let named = head.predict(&weights.apply(&images.untouched));
                for (image, named) in named.iter().enumerate() {
                    let hit = *named == classes[image];
                    as_they_are[self.indices[image]] += score(hit, images.untouched_weight);
                }
                previous = Some(head);
            }
        }
        Ok(())
    }

    /// The weight of one image of the family with index `family`, if `families` are scored. Every
    /// family has the same total weight, however many images it changes.
    fn weight(&self, family: usize, families: usize) -> f64 {
        let pairs = self.sources.images().families()[family].of.len();
        self.sources.classes().len() as f64 / (pairs * self.splits * families) as f64
    }
}

fn score(hit: bool, weight: f64) -> f64 {
    if hit { weight } else { 0.0 }
}
