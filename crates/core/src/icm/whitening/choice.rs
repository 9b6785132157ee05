//! Chooses the strengths of a whitening: those that name most held-out images right, as they are and
//! under interventions that were held out, too.

use super::{Covariances, Strengths, Whitening};
use crate::icm::head::{class_means, rows_of};
use crate::icm::interval::{mean, mean_and_error};
use crate::icm::labelled::Labelled;
use crate::icm::select::{
    MAX_ACCURACY_LOSS, MIN_GAIN_ERRORS, family_folds, split_count, stratified_halves,
};
use crate::numeric::Rng;
use nalgebra::{DMatrix, DVector};

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

/// Chooses by cross-validation: halves of the images take turns at learning means and covariances,
/// the latter without a fifth of the families, and the other half is named as it is and under these.
/// Strengths must gain more than [`MIN_GAIN_ERRORS`] standard errors, and cost no more than
/// [`MAX_ACCURACY_LOSS`] on images as they are; of those within one standard error of the best, the
/// least.
///
/// `images` are in the space that the classifier works in, after its projection. `None` if no class
/// has two images.
#[must_use]
pub fn choose_whitening(images: &Labelled, seed: u64) -> Option<WhiteningChoice> {
    let covariances = Covariances::of(images)?;
    let candidates = candidates(&covariances);
    let hits = Hits::count(images, &candidates, seed)?;
    let chosen = hits.least_of_the_best();
    let strengths = candidates[chosen];
    let pair = |of: &[Vec<f64>]| (mean(&of[0]), mean(&of[chosen]));
    Some(WhiteningChoice {
        whitening: (chosen > 0)
            .then(|| covariances.whitening(strengths))
            .flatten(),
        strengths,
        as_they_are: pair(&hits.as_they_are),
        under: hits.under.as_deref().map(pair),
    })
}

/// The identity first, then from the least sum of strengths to the largest.
fn candidates(covariances: &Covariances) -> Vec<Strengths> {
    let some = |there: bool| &STRENGTHS[..if there { STRENGTHS.len() } else { 1 }];
    let mut all = Vec::new();
    for &interventions in some(covariances.has_interventions) {
        for &within_class in some(covariances.has_classes) {
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

/// How often each image was named right with each candidate, `[candidate][image]`, `0..=1`.
struct Hits {
    as_they_are: Vec<Vec<f64>>,
    under: Option<Vec<Vec<f64>>>,
}

impl Hits {
    /// `None` if no image can be judged.
    fn count(images: &Labelled, candidates: &[Strengths], seed: u64) -> Option<Self> {
        let count = images.classes().len();
        let families = images.images().family_names();
        let folds = if families.is_empty() {
            vec![Vec::new()]
        } else {
            family_folds(&families)
        };
        let mut tally = Tally::new(candidates.len(), count);
        let mut rng = Rng::new(seed);
        for _ in 0..split_count(count) {
            let (first, second) = stratified_halves(images.classes(), &mut rng);
            for (learnt, judged) in [(&first, &second), (&second, &first)] {
                if learnt.is_empty() || judged.is_empty() {
                    continue;
                }
                let learnt = images.pick(learnt).with_same_class(true);
                let moments = learnt.moments("");
                for left_out in &folds {
                    let wanted = |family: &str| !left_out.contains(&family);
                    if let Some(covariances) = Covariances::of_moments(&moments, wanted) {
                        tally.add(
                            &covariances,
                            candidates,
                            &learnt,
                            (images, judged),
                            left_out,
                        );
                    }
                }
            }
        }
        tally.finish(!families.is_empty())
    }

    /// Half the accuracy on images as they are, half that under interventions, `[image]`.
    fn score(&self, candidate: usize) -> Vec<f64> {
        let clean = &self.as_they_are[candidate];
        match &self.under {
            Some(under) => clean
                .iter()
                .zip(&under[candidate])
                .map(|(a, b)| f64::midpoint(*a, *b))
                .collect(),
            None => clean.clone(),
        }
    }

    /// The first candidate within one standard error of the best; 0, the identity, if none is worth it.
    fn least_of_the_best(&self) -> usize {
        let clean = mean(&self.as_they_are[0]);
        let scores: Vec<Vec<f64>> = (0..self.as_they_are.len()).map(|c| self.score(c)).collect();
        // How much better the first of two candidates is, and the standard error of that.
        let gain = |a: usize, b: usize| {
            let gains = scores[a].iter().zip(&scores[b]).map(|(a, b)| a - b);
            mean_and_error(&[gains.collect()]).unwrap_or((0.0, 0.0))
        };
        let worth_it = |&c: &usize| {
            let (gain, error) = gain(c, 0);
            gain > MIN_GAIN_ERRORS * error
                && mean(&self.as_they_are[c]) >= clean - MAX_ACCURACY_LOSS
        };
        let best = (1..scores.len())
            .filter(worth_it)
            .max_by(|&a, &b| mean(&scores[a]).total_cmp(&mean(&scores[b])))
            .unwrap_or(0);
        let near = |&c: &usize| {
            let (loss, error) = gain(best, c);
            loss <= error
        };
        (1..scores.len()).filter(worth_it).find(near).unwrap_or(0)
    }
}

/// Sums of hits while they are counted.
struct Tally {
    as_they_are: Vec<Vec<f64>>,
    under: Vec<Vec<f64>>,
    /// How often each image was judged as it is, and under interventions.
    judged: Vec<(f64, f64)>,
}

impl Tally {
    fn new(candidates: usize, images: usize) -> Self {
        Self {
            as_they_are: vec![vec![0.0; images]; candidates],
            under: vec![vec![0.0; images]; candidates],
            judged: vec![(0.0, 0.0); images],
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
        let is_judged: Vec<bool> = held
            .classes()
            .iter()
            .map(|c| means.classes.contains(c))
            .collect();
        let clean = Coordinates::new(
            covariances,
            held.images().originals().columns(),
            &means.columns,
        );
        let changed: Vec<_> = held
            .images()
            .families()
            .iter()
            .filter(|family| left_out.contains(&family.name.as_str()))
            .map(|family| {
                let columns = family.changed.columns();
                (
                    Coordinates::new(covariances, columns, &means.columns),
                    &family.of,
                )
            })
            .collect();
        for (i, &image) in judged.iter().enumerate().filter(|(i, _)| is_judged[*i]) {
            self.judged[image].0 += 1.0;
            let versions = changed.iter().flat_map(|(_, of)| of.iter());
            self.judged[image].1 += versions.filter(|&&original| original == i).count() as f64;
        }
        let right =
            |of: usize, row: usize| is_judged[of] && means.classes[row] == held.classes()[of];
        for (c, &strengths) in candidates.iter().enumerate() {
            let Some((vectors, weights)) = covariances.weights(strengths) else {
                continue;
            };
            for (i, row) in clean.nearest(&vectors, &weights).into_iter().enumerate() {
                self.as_they_are[c][judged[i]] += f64::from(right(i, row));
            }
            for (coordinates, of) in &changed {
                for (&i, row) in of.iter().zip(coordinates.nearest(&vectors, &weights)) {
                    self.under[c][judged[i]] += f64::from(right(i, row));
                }
            }
        }
    }

    /// The shares, of the images that were judged.
    fn finish(self, interventions: bool) -> Option<Hits> {
        let kept: Vec<usize> = (0..self.judged.len())
            .filter(|&i| self.judged[i].0 > 0.0 && (!interventions || self.judged[i].1 > 0.0))
            .collect();
        let share = |hits: &[Vec<f64>], times: &dyn Fn(usize) -> f64| {
            hits.iter()
                .map(|image| kept.iter().map(|&i| image[i] / times(i)).collect())
                .collect()
        };
        (!kept.is_empty()).then(|| Hits {
            as_they_are: share(&self.as_they_are, &|i| self.judged[i].0),
            under: interventions.then(|| share(&self.under, &|i| self.judged[i].1)),
        })
    }
}

/// The unit means of the classes that have images.
struct Means {
    classes: Vec<usize>,
    /// `[k, classes]`.
    columns: DMatrix<f64>,
}

impl Means {
    fn of(images: &Labelled) -> Self {
        let (classes, rows) = rows_of(images.classes());
        let columns = images.images().originals().columns();
        Self {
            columns: class_means(columns, &rows, classes.len()),
            classes,
        }
    }
}

/// Images and class means in the basis of covariances, and their products outside of it.
struct Coordinates {
    /// `[r, n]`.
    images: DMatrix<f64>,
    /// `[r, classes]`.
    means: DMatrix<f64>,
    /// Products of what lies outside the basis, `[n, classes]`.
    outside: DMatrix<f64>,
    /// Squared lengths of the means' parts outside the basis, `[classes]`.
    means_outside: Vec<f64>,
}

impl Coordinates {
    fn new(covariances: &Covariances, images: &DMatrix<f64>, means: &DMatrix<f64>) -> Self {
        let (c, m) = (
            covariances.basis.tr_mul(images),
            covariances.basis.tr_mul(means),
        );
        let lengths = means.column_iter().zip(m.column_iter());
        Self {
            outside: images.tr_mul(means) - c.tr_mul(&m),
            means_outside: lengths
                .map(|(whole, inside)| (whole.norm_squared() - inside.norm_squared()).max(0.0))
                .collect(),
            images: c,
            means: m,
        }
    }

    /// The row of the class mean that is nearest to each image under `W`.
    fn nearest(&self, vectors: &DMatrix<f64>, weights: &DVector<f64>) -> Vec<usize> {
        let scaled = |columns: &DMatrix<f64>| {
            let mut mapped = vectors.tr_mul(columns);
            for mut column in mapped.column_iter_mut() {
                column.component_mul_assign(weights);
            }
            mapped
        };
        let (images, means) = (scaled(&self.images), scaled(&self.means));
        let products = &self.outside + images.tr_mul(&means);
        let lengths = means.column_iter().zip(&self.means_outside);
        let lengths: Vec<f64> = lengths
            .map(|(inside, outside)| (inside.norm_squared() + outside).sqrt())
            .collect();
        products
            .row_iter()
            .map(|row| {
                let cosine = |c: &usize| row[*c] / lengths[*c].max(f64::MIN_POSITIVE);
                (0..lengths.len())
                    .max_by(|a, b| cosine(a).total_cmp(&cosine(b)))
                    .unwrap_or(0)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icm::embeddings::Embeddings;
    use crate::icm::interventions::{ChangedImages, Interventions};

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
