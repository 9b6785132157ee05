//! The light of the calibration images: their mean, and how frames of one class differ from frames of all.

use super::answers::{Answer, Projected, Shown};
use super::folds::{Fold, Versions};
use super::input::{Calibration, CalibrationError, Truth};
use super::streams::simulate;
use crate::classify::condition::{MAX_AXES, Reference, between_share};
use crate::classify::confidence::{Drift, narrow};
use crate::numeric::Rng;
use crate::stats::quantile;

/// Frames of a simulated window; as many as are asked of a camera.
const WINDOW: usize = 40;
/// With fewer images, a class says nothing of how frames of one class differ.
const MIN_OF_CLASS: usize = 8;
/// Windows of each class under each family; one where there are few images to draw from.
const DRAWS: usize = 3;
/// Standard deviations above the mean that one in a hundred windows of one class exceeds, and then passes for several.
const PASSING: f64 = 2.33;
/// Any fixed number: a bank made again is the same.
const SEED: u64 = 21;

impl Calibration<'_> {
    /// The light of the images alone, without a confidence.
    pub fn light(&self) -> Result<Option<Reference>, CalibrationError> {
        self.check()?;
        let projected = Projected::new(self);
        let folds = self.folds()?;
        let mut answers = Vec::new();
        for fold in &folds {
            answers.extend(self.answers(fold, &projected));
        }
        let all: Vec<usize> = (0..self.images.len()).collect();
        let drift = self.drift(&projected, &all, &Versions::All);
        Ok(self.reference(&folds, &projected, &answers, &drift))
    }

    /// `None` if fewer than two classes have images enough.
    pub(super) fn reference(
        &self,
        folds: &[Fold],
        projected: &Projected,
        answers: &[Answer],
        drift: &Drift,
    ) -> Option<Reference> {
        let shown = self.shown(answers);
        let conditions: Vec<Vec<&Shown<'_>>> = (0..=self.families.len())
            .map(|c| shown.iter().filter(|s| s.condition == c).collect())
            .collect();
        let mut rng = Rng::new(SEED);
        let (one, all) = shares(&conditions, self.bank.rows.len(), projected, &mut rng);
        let (one, all) = (one?, sorted(all));
        let mean = self.clean_mean(projected)?;
        let mut reference = Reference {
            mix: self.class_mix(folds, projected, &mean)?,
            mean,
            axes: orthonormal(&drift.axes),
            limit: narrow(limit(&one)),
            usual: [narrow(quantile(&all, 0.5)), narrow(quantile(&one, 0.5))],
            running: crate::classify::condition::Running {
                window: 50,
                shrink: 10,
                allowed: false,
                streams: Vec::new(),
            },
        };
        if !reference.axes.is_empty() {
            reference.running = simulate(&reference, folds, projected, &conditions, &mut rng);
        }
        Some(reference)
    }

    fn shown<'a>(&self, answers: &'a [Answer]) -> Vec<Shown<'a>> {
        let of = |answer: &'a Answer| {
            let changed = &self.images[answer.image].changed;
            let family = answer.version.checked_sub(1).and_then(|i| changed.get(i));
            Some(Shown {
                answer,
                class: answer.truth?,
                condition: family.map_or(0, |(family, _)| family + 1),
            })
        };
        answers.iter().filter_map(of).collect()
    }

    /// The mean of the clean images, every labelled class weighing the same.
    fn clean_mean(&self, projected: &Projected) -> Option<Vec<f32>> {
        let mut classes = vec![Vec::new(); self.bank.rows.len() + 1];
        for (i, image) in self.images.iter().enumerate() {
            let class = match image.truth {
                Truth::Class(class) => class,
                Truth::Unlabelled => self.bank.rows.len(),
                Truth::Other => continue,
            };
            classes[class].push(i);
        }
        classes.retain(|images| !images.is_empty());
        let means: Vec<Vec<f64>> = classes.iter().map(|of| projected.mean(of)).collect();
        let width = means.first()?.len();
        let mean = |d: usize| narrow(means.iter().map(|m| m[d]).sum::<f64>() / means.len() as f64);
        Some((0..width).map(mean).collect())
    }
}

/// The shares of scatter between classes of windows of one class, ascending, and of all classes. The former `None` if fewer
/// than two classes have images enough.
fn shares(
    conditions: &[Vec<&Shown<'_>>],
    classes: usize,
    projected: &Projected,
    rng: &mut Rng,
) -> (Option<Vec<f64>>, Vec<f64>) {
    let (mut one, mut all, mut enough) = (Vec::new(), Vec::new(), vec![false; classes]);
    let mut window = |from: &[&Shown<'_>]| {
        let order = rng.permutation(from.len());
        let drawn = order.iter().take(WINDOW).map(|&i| &from[i].answer);
        let placed = drawn.map(|a| {
            let z = &projected.of(a.image)[a.version].z;
            (&z[..], &a.logits[..])
        });
        between_share(placed).map(f64::from)
    };
    for shown in conditions {
        for (class, enough) in enough.iter_mut().enumerate() {
            let own: Vec<&Shown<'_>> = shown.iter().copied().filter(|s| s.class == class).collect();
            if own.len() < MIN_OF_CLASS {
                continue;
            }
            *enough = true;
            let draws = if own.len() > WINDOW + WINDOW / 2 {
                DRAWS
            } else {
                1
            };
            one.extend((0..draws).filter_map(|_| window(&own)));
        }
        if shown.len() >= MIN_OF_CLASS {
            all.extend((0..DRAWS).filter_map(|_| window(shown)));
        }
    }
    let several = enough.iter().filter(|&&e| e).count() > 1;
    let one = (several && !one.is_empty() && !all.is_empty()).then(|| sorted(one));
    (one, all)
}

/// What windows of one class hardly exceed. Few are simulated, so their quantiles say less than mean and deviation.
fn limit(one: &[f64]) -> f64 {
    let count = one.len() as f64;
    let mean = one.iter().sum::<f64>() / count;
    let squares = one.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    mean + PASSING * (squares / (count - 1.0).max(1.0)).sqrt()
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The first directions, made orthonormal.
fn orthonormal(directions: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut axes: Vec<Vec<f64>> = Vec::new();
    for direction in directions.iter().take(MAX_AXES) {
        let mut axis: Vec<f64> = direction.iter().map(|&v| f64::from(v)).collect();
        for earlier in &axes {
            let along: f64 = axis.iter().zip(earlier).map(|(a, e)| a * e).sum();
            axis.iter_mut()
                .zip(earlier)
                .for_each(|(a, e)| *a -= along * e);
        }
        let norm = axis.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm > 0.05 {
            axes.push(axis.iter().map(|v| v / norm).collect());
        }
    }
    let narrowed = |axis: Vec<f64>| axis.into_iter().map(narrow).collect();
    axes.into_iter().map(narrowed).collect()
}
