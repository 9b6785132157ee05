//! How often whitenings name held-out images right, as they are and under interventions that were
//! held out, too.

use super::coordinates::{Coordinates, Means};
use super::{Covariances, Strengths};
use crate::icm::captions::CAPTIONS;
use crate::icm::labelled::{EnvironmentMoments, Labelled};
use crate::icm::moments::{Moments, SAME_CLASS};
use crate::icm::pooled_moments::PooledMoments;
use crate::icm::select::{family_folds, split_count, stratified_halves};
use crate::numeric::Rng;

/// How often each image was named right with each candidate, as a share of the times it was judged.
pub(super) struct Hits {
    /// The judged images of each environment; of one if the images were split by chance.
    pub groups: Vec<Vec<usize>>,
    /// `[candidate][image]`, on images as they are.
    pub as_they_are: Vec<Vec<f64>>,
    /// `[family][candidate][image]`; an image without a version under the family has a NaN.
    pub under: Vec<Vec<Vec<f64>>>,
    /// The mean number of directions that each candidate removes, D − Σw².
    pub removed: Vec<f64>,
}

/// What whitenings are chosen by.
pub(in crate::icm) struct Evidence<'a> {
    pub images: &'a Labelled,
    /// Moments of the environments of `images`; used where there are two or more.
    pub moments: &'a [&'a EnvironmentMoments],
    /// The families that Δ̃ may take; [`SAME_CLASS`] is S̃, and not one of them.
    pub families: &'a [&'a str],
    pub seed: u64,
}

/// Images to learn from, and others to judge by.
struct Split {
    learnt: Vec<usize>,
    judged: Vec<usize>,
}

impl Evidence<'_> {
    /// Each environment in turn, judged by what the others taught; halves where there is only one.
    fn splits(&self) -> (Vec<Split>, bool) {
        let environments = self.images.used_environments();
        let all = 0..self.images.classes().len();
        if environments.len() > 1 {
            let split = |&left_out: &usize| {
                let (judged, learnt) = all
                    .clone()
                    .partition(|&i| self.images.environments()[i] == left_out);
                Split { learnt, judged }
            };
            return (environments.iter().map(split).collect(), true);
        }
        let mut rng = Rng::new(self.seed);
        let mut splits = Vec::new();
        for _ in 0..split_count(all.len()) {
            let (first, second) = stratified_halves(self.images.classes(), &mut rng);
            for (learnt, judged) in [(&first, &second), (&second, &first)] {
                splits.push(Split {
                    learnt: learnt.clone(),
                    judged: judged.clone(),
                });
            }
        }
        splits.retain(|split| !split.learnt.is_empty() && !split.judged.is_empty());
        (splits, false)
    }

    /// The families that can be left out, those that are interventions on the images.
    fn interventions(&self) -> Vec<&str> {
        let of_images = self.images.images().family_names();
        let wanted = |name: &&str| self.families.contains(name) && *name != CAPTIONS;
        of_images.into_iter().filter(wanted).collect()
    }

    /// `None` if no image can be judged.
    pub(super) fn hits(&self, candidates: &[Strengths]) -> Option<Hits> {
        let families = self.interventions();
        let folds = if families.is_empty() {
            vec![Vec::new()]
        } else {
            family_folds(&families)
        };
        let encoder_width = self.images.images().originals().width();
        let (splits, by_environment) = self.splits();
        // Environments come with moments in the encoder's coordinates.
        let compact = (!by_environment).then(|| self.images.compact()).flatten();
        let images = compact.as_ref().unwrap_or(self.images);
        let mut tally = Tally::new(candidates.len(), families, images.classes().len());
        for split in &splits {
            let learnt = images.pick(&split.learnt).with_same_class(true);
            let (own, of_environments) = if by_environment {
                let all: Vec<usize> = (0..split.learnt.len()).collect();
                (learnt.shared_moments(&all, true), self.moments)
            } else {
                (learnt.moments(""), &[][..])
            };
            let used = learnt.used_environments();
            let others = of_environments
                .iter()
                .filter(|m| used.contains(&m.environment));
            let moments: Vec<&Moments> = others.map(|m| &m.moments).chain([&own]).collect();
            for left_out in &folds {
                let wanted = |family: &str| {
                    self.families.contains(&family)
                        && family != SAME_CLASS
                        && !left_out.contains(&family)
                };
                let pooled = PooledMoments(&moments);
                if let Some(covariances) = Covariances::pooled(pooled, encoder_width, wanted) {
                    let judged = (images, &split.judged[..]);
                    tally.add(&covariances, candidates, &learnt, judged, left_out);
                }
            }
        }
        tally.finish(self.images, by_environment)
    }
}

/// Sums of hits while they are counted, and how often each image was judged.
struct Tally<'a> {
    families: Vec<&'a str>,
    as_they_are: Vec<Vec<f64>>,
    judged: Vec<f64>,
    /// `[family][candidate][image]`.
    under: Vec<Vec<Vec<f64>>>,
    /// `[family][image]`.
    judged_under: Vec<Vec<f64>>,
    removed: Vec<f64>,
    fits: f64,
}

impl<'a> Tally<'a> {
    fn new(candidates: usize, families: Vec<&'a str>, images: usize) -> Self {
        let hits = vec![vec![0.0; images]; candidates];
        Self {
            under: vec![hits.clone(); families.len()],
            judged_under: vec![vec![0.0; images]; families.len()],
            families,
            as_they_are: hits,
            judged: vec![0.0; images],
            removed: vec![0.0; candidates],
            fits: 0.0,
        }
    }

    /// Names the images `judged` as they are and under the families `left_out`.
    fn add(
        &mut self,
        covariances: &Covariances,
        candidates: &[Strengths],
        learnt: &Labelled,
        (all, judged): (&Labelled, &[usize]),
        left_out: &[&str],
    ) {
        let means = Means::of(learnt);
        let held = all.pick(judged);
        let known = |&i: &usize| means.classes.contains(&held.classes()[i]);
        let coordinates = |columns: &_| Coordinates::new(covariances, columns, &means.columns);
        let clean = coordinates(held.images().originals().columns());
        let mut changed = Vec::new();
        for family in held.images().families() {
            let number = self.families.iter().position(|name| *name == family.name);
            if let Some(number) = number.filter(|_| left_out.contains(&family.name.as_str())) {
                for &i in family.of.iter().filter(|i| known(i)) {
                    self.judged_under[number][judged[i]] += 1.0;
                }
                changed.push((number, coordinates(family.changed.columns()), &family.of));
            }
        }
        for i in (0..judged.len()).filter(known) {
            self.judged[judged[i]] += 1.0;
        }
        let hit = |of: usize, row: usize| {
            f64::from(known(&of) && means.classes[row] == held.classes()[of])
        };
        self.fits += 1.0;
        for (c, &strengths) in candidates.iter().enumerate() {
            let Some((vectors, weights)) = covariances.weights(strengths) else {
                continue;
            };
            self.removed[c] += weights.iter().map(|w| 1.0 - w * w).sum::<f64>();
            for (i, row) in clean.nearest(&vectors, &weights).into_iter().enumerate() {
                self.as_they_are[c][judged[i]] += hit(i, row);
            }
            for (number, coordinates, of) in &changed {
                for (&i, row) in of.iter().zip(coordinates.nearest(&vectors, &weights)) {
                    self.under[*number][c][judged[i]] += hit(i, row);
                }
            }
        }
    }

    /// The shares, of the images that were judged.
    fn finish(self, images: &Labelled, by_environment: bool) -> Option<Hits> {
        let group = |i: usize| {
            if by_environment {
                images.environments()[i]
            } else {
                0
            }
        };
        let environments = if by_environment {
            images.used_environments()
        } else {
            vec![0]
        };
        let judged = |i: &usize| self.judged[*i] > 0.0;
        let of_environment = |environment: usize| -> Vec<usize> {
            let all = 0..self.judged.len();
            all.filter(|&i| group(i) == environment)
                .filter(judged)
                .collect()
        };
        let mut groups: Vec<Vec<usize>> = environments.into_iter().map(of_environment).collect();
        groups.retain(|group| !group.is_empty());
        let share = |hits: &[Vec<f64>], times: &[f64]| {
            let of = |image: &Vec<f64>| image.iter().zip(times).map(|(h, t)| h / t).collect();
            hits.iter().map(of).collect()
        };
        let under = self.under.iter().zip(&self.judged_under);
        let fits = self.fits.max(1.0);
        (!groups.is_empty()).then(|| Hits {
            groups,
            as_they_are: share(&self.as_they_are, &self.judged),
            under: under.map(|(hits, times)| share(hits, times)).collect(),
            removed: self.removed.iter().map(|removed| removed / fits).collect(),
        })
    }
}
