//! Chooses the strengths of a whitening: those that name most held-out images right, as they are and
//! under interventions that were held out, too, and that do no harm beyond doubt to any of these.

use super::hits::{Evidence, Hits};
use super::{Covariances, Strengths, Whitening};
use crate::icm::interval::{mean, mean_and_error};
use crate::icm::labelled::{EnvironmentMoments, Labelled};
use crate::icm::select::{
    CandidateScores, Criterion, MAX_ACCURACY_LOSS, MAX_FAMILY_LOSS, MIN_GAIN_ERRORS, Scores,
    SelectError, SelectWarning, Selection,
};
use crate::icm::spec::{MapKind, MapSpec};

/// Strengths to try; 0 leaves a covariance out.
const STRENGTHS: [f64; 6] = [0.0, 0.3, 1.0, 3.0, 10.0, 30.0];

/// What was chosen, and what it does to images that were held out.
#[derive(Debug, Clone, PartialEq)]
pub struct WhiteningChoice {
    /// `None` if leaving embeddings as they are is as good.
    pub whitening: Option<Whitening>,
    pub strengths: Strengths,
    /// Accuracy `0..=1` of the class means without and with it, on held-out images as they are.
    pub as_they_are: (f64, f64),
    /// The same under held-out interventions; `None` without interventions.
    pub under: Option<(f64, f64)>,
}

impl Covariances {
    /// The covariances of `images` and of all their versions under interventions; `None` if nothing
    /// moves: no class has two different images, and there are no interventions.
    #[must_use]
    pub fn of(images: &Labelled) -> Option<Self> {
        let moments = images.clone().with_same_class(true).moments("");
        Self::of_moments(&moments)
    }
}

/// Chooses the whitening of `images` by [`by_held_out_images`].
///
/// `images` are in the space that the classifier works in, after its projection. `None` if no class
/// has two images.
#[must_use]
pub fn choose_whitening(images: &Labelled, seed: u64) -> Option<WhiteningChoice> {
    let covariances = Covariances::of(images)?;
    let families = images.images().family_names();
    let moments = moments_of_several(images);
    let evidence = Evidence {
        images,
        moments: &moments.iter().collect::<Vec<_>>(),
        families: &families,
        seed,
    };
    let candidates = candidates(covariances.has_interventions, covariances.has_classes);
    let hits = evidence.hits(&candidates)?;
    let selection = choose(&hits, &candidates).ok()?;
    let strengths = strengths_of(&selection.chosen.map);
    let chosen = candidates.iter().position(|&of| of == strengths)?;
    let whitening = (chosen > 0).then(|| covariances.whitening(strengths));
    Some(WhiteningChoice {
        whitening: whitening.flatten(),
        strengths,
        as_they_are: pair(&hits.as_they_are, chosen),
        under: under(&hits, chosen),
    })
}

/// Chooses the whitening that names most held-out images of `sources` right by their class means.
///
/// Halves of the images take turns at learning means and covariances, or where there are several
/// environments, each is left out in turn; the interventions' covariance is learnt without a fifth of
/// the families. The images that were held out are named as they are and under these families; both
/// count half. A whitening must gain more than [`MIN_GAIN_ERRORS`] standard errors, and is refused
/// for harm: more than [`MAX_ACCURACY_LOSS`] on images as they are, or beyond doubt any loss in one
/// environment or more than [`MAX_FAMILY_LOSS`] under one family. Of those within one standard error
/// of the best, the gentlest is taken.
pub fn by_held_out_images(sources: &Labelled, seed: u64) -> Result<Selection, SelectError> {
    let families = sources.images().family_names();
    let moments = moments_of_several(sources);
    choose_strengths(&Evidence {
        images: sources,
        moments: &moments.iter().collect::<Vec<_>>(),
        families: &families,
        seed,
    })
}

/// [`by_held_out_images`] with some of the families.
pub(in crate::icm) fn choose_strengths(evidence: &Evidence<'_>) -> Result<Selection, SelectError> {
    let interventions = !evidence.families.is_empty();
    let candidates = candidates(interventions, true);
    let hits = evidence.hits(&candidates).ok_or(SelectError::NoScores)?;
    choose(&hits, &candidates)
}

/// Moments by environment where there are several; one alone is split by chance.
fn moments_of_several(images: &Labelled) -> Vec<EnvironmentMoments> {
    match images.used_environments()[..] {
        [] | [_] => Vec::new(),
        _ => images.moments_by_environment(),
    }
}

/// The identity first, then from the least sum of strengths to the largest.
fn candidates(interventions: bool, classes: bool) -> Vec<Strengths> {
    let some = |there: bool| &STRENGTHS[..if there { STRENGTHS.len() } else { 1 }];
    let mut all = Vec::new();
    for &interventions in some(interventions) {
        for &within_class in some(classes) {
            all.push(Strengths {
                interventions,
                within_class,
            });
        }
    }
    all.sort_by(|a, b| {
        let sum = |s: &Strengths| s.interventions + s.within_class;
        sum(a).total_cmp(&sum(b))
    });
    all
}

fn map_of(strengths: Strengths) -> MapSpec {
    if strengths == Strengths::NONE {
        MapSpec::IDENTITY
    } else {
        MapSpec::whitened(strengths.interventions, strengths.within_class)
    }
}

fn strengths_of(map: &MapSpec) -> Strengths {
    match map.kind {
        MapKind::Whitened(strengths) => strengths,
        _ => Strengths::NONE,
    }
}

fn choose(hits: &Hits, candidates: &[Strengths]) -> Result<Selection, SelectError> {
    let scored = |(c, &strengths): (usize, &Strengths)| CandidateScores {
        map: map_of(strengths),
        groups: score(hits, c),
        removed: hits.removed[c],
    };
    let all = candidates.iter().enumerate().map(scored).collect();
    let mut scores = Scores::new(Criterion::HeldOutImages, all, Vec::new());
    let harmful = (1..candidates.len()).filter(|&c| is_harmful(hits, c));
    let harmful: Vec<MapSpec> = harmful.map(|c| map_of(candidates[c])).collect();
    if !harmful.is_empty() {
        let maps = harmful.len();
        scores.drop_maps(&harmful, &SelectWarning::Harmful { maps });
    }
    scores.choose(|_| true)
}

/// Half the accuracy on images as they are, half that under interventions, `[group][image]`.
fn score(hits: &Hits, candidate: usize) -> Vec<Vec<f64>> {
    let of_image = |&image: &usize| {
        let clean = hits.as_they_are[candidate][image];
        let under = hits.under.iter().map(|family| family[candidate][image]);
        let under: Vec<f64> = under.filter(|share| share.is_finite()).collect();
        if under.is_empty() {
            clean
        } else {
            f64::midpoint(clean, mean(&under))
        }
    };
    let groups = hits.groups.iter();
    groups
        .map(|images| images.iter().map(of_image).collect())
        .collect()
}

/// Whether a candidate loses too much against the identity on images as they are, or beyond doubt
/// under one family or in one environment.
fn is_harmful(hits: &Hits, candidate: usize) -> bool {
    let gains = |hits: &[Vec<f64>], images: &[usize]| -> Vec<f64> {
        let gain = |&image: &usize| hits[candidate][image] - hits[0][image];
        images
            .iter()
            .map(gain)
            .filter(|gain| gain.is_finite())
            .collect()
    };
    let loses = |gains: Vec<f64>, allowed: f64| {
        let (gain, error) = mean_and_error(&[gains]).unwrap_or((0.0, 0.0));
        gain + MIN_GAIN_ERRORS * error < -allowed
    };
    let clean: Vec<Vec<f64>> = hits
        .groups
        .iter()
        .map(|images| gains(&hits.as_they_are, images))
        .collect();
    let all: Vec<usize> = hits.groups.iter().flatten().copied().collect();
    mean_and_error(&clean).is_some_and(|(gain, _)| gain < -MAX_ACCURACY_LOSS)
        || clean.into_iter().any(|gains| loses(gains, 0.0))
        || hits
            .under
            .iter()
            .any(|family| loses(gains(family, &all), MAX_FAMILY_LOSS))
}

fn pair(hits: &[Vec<f64>], chosen: usize) -> (f64, f64) {
    let accuracy = |candidate: usize| {
        let known = hits[candidate]
            .iter()
            .copied()
            .filter(|share| share.is_finite());
        mean(&known.collect::<Vec<_>>())
    };
    (accuracy(0), accuracy(chosen))
}

/// The mean over families of [`pair`].
fn under(hits: &Hits, chosen: usize) -> Option<(f64, f64)> {
    let pairs: Vec<(f64, f64)> = hits
        .under
        .iter()
        .map(|family| pair(family, chosen))
        .collect();
    let (before, after): (Vec<f64>, Vec<f64>) = pairs
        .into_iter()
        .filter(|(before, _)| before.is_finite())
        .unzip();
    (!before.is_empty()).then(|| (mean(&before), mean(&after)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icm::embeddings::Embeddings;
    use crate::icm::interventions::{ChangedImages, Interventions};
    use crate::numeric::Rng;

    /// Images of two classes that differ in the first of 12 axes by 0.3; within classes they differ
    /// by up to `noise` in the second.
    fn images(per_class: usize, noise: f32) -> Labelled {
        let mut rng = Rng::new(5);
        let classes: Vec<usize> = (0..2 * per_class).map(|i| i % 2).collect();
        let mut row = |class: usize, shift: f32| {
            let mut row = vec![1.0; 12];
            row[0] += if class == 0 { -0.15 } else { 0.15 };
            row[1] += rng.between(-noise, noise);
            row[2] += shift;
            (3..12).for_each(|i| row[i] += rng.between(-0.03, 0.03));
            row
        };
        let originals: Vec<Vec<f32>> = classes.iter().map(|&c| row(c, 0.0)).collect();
        let darker: Vec<Vec<f32>> = classes.iter().map(|&c| row(c, 0.4)).collect();
        let embeddings = |rows: &[Vec<f32>]| Embeddings::new(12, rows, |i| i.to_string()).unwrap();
        let family = ChangedImages {
            name: "dark".into(),
            of: (0..classes.len()).collect(),
            changed: embeddings(&darker),
        };
        let images = Interventions::new(embeddings(&originals), vec![family]).unwrap();
        let names = vec!["ok".to_owned(), "defect".to_owned()];
        let environments = vec![0; classes.len()];
        Labelled::new(images, classes, environments, names, vec!["line".into()]).unwrap()
    }

    #[test]
    fn what_differs_within_classes_is_shrunk_where_that_helps() {
        let choice = choose_whitening(&images(60, 3.0), 1).unwrap();
        let (before, after) = choice.as_they_are;
        assert!(before < 0.9 && after > before + 0.05, "{choice:?}");
        assert!(choice.strengths.within_class > 0.0);
        let whitening = choice.whitening.unwrap();
        // Less is left of the noisy axis than of that of the classes.
        let left = |axis: usize| {
            let mut z = vec![0.0; 12];
            z[axis] = 0.1;
            z[11] = 1.0;
            whitening.apply(&z)[axis].abs() / whitening.apply(&z)[11].abs()
        };
        assert!(left(1) < 0.9 * left(0), "{} {}", left(1), left(0));
    }

    #[test]
    fn nothing_is_shrunk_where_that_does_not_help() {
        let choice = choose_whitening(&images(60, 0.05), 1).unwrap();
        assert_eq!(
            (choice.whitening, choice.strengths),
            (None, Strengths::NONE)
        );
        // One image of each class leaves nothing to judge.
        assert!(choose_whitening(&images(1, 1.0), 1).is_none());
    }
}
