//! By how much another light moves embeddings, from frames of it that nobody labelled.

use super::reference::Reference;
use super::scatter::between_share;
use crate::classify::Classifier;
use crate::classify::confidence::narrow;
use crate::numeric::unit;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// With fewer frames, nothing can be said of a light.
pub const MIN_FRAMES: usize = 10;
/// The frames of the calibration's light that an offset is mixed with.
const SHRINK: f64 = 10.0;
/// Frames farther from the mean than so many times the median count less.
const ODD: f64 = 1.5;
/// How often the mean of frames is taken again without what is odd.
const ROUNDS: usize = 3;

/// How much of a move is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffsetKind {
    /// All that counts as light: the frames showed several classes.
    Whole,
    /// What lies in the directions that light moves most: the frames were of one class or few.
    Limited,
}

/// What is subtracted from unit embeddings of another light.
#[derive(Debug, Clone, PartialEq)]
pub struct Offset {
    /// `[D]`.
    pub vector: Vec<f32>,
    pub kind: OffsetKind,
    /// Frames that it rests on.
    pub frames: u32,
    /// How much of the move counts as light, `0..=1`: what another mix of classes and chance could have moved along what
    /// tells classes apart does not. 1 for [`OffsetKind::Limited`].
    pub light: f32,
}

/// Why there is no offset.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Refusal {
    #[error(
        "the class bank does not know the light that it was made in; calibrate it with `constancy calibrate DIR` on eight images of each class or more"
    )]
    NoReference,
    #[error("{frames} usable frames are too few; at least {least} are needed")]
    Few { frames: usize, least: usize },
    #[error(
        "the {frames} frames hardly differ from each other; calibrate while different things pass the camera"
    )]
    Still { frames: usize },
    #[error(
        "the {frames} frames differ only as images of one class do (scatter between classes {share:.2}, of all classes {usual:.2}, needed {limit:.2}), and would move the classes instead of the light; calibrate while things of all classes pass the camera, over more frames"
    )]
    OneClass {
        frames: usize,
        /// Logarithms, by [`Reference::limit`].
        share: f32,
        limit: f32,
        usual: f32,
    },
}

impl Classifier {
    /// The offset of the light that these embeddings `[D]` were made in. Those that are no embeddings are left out; a few
    /// odd ones hardly count.
    pub fn estimate(&self, window: &[Vec<f32>]) -> Result<Offset, Refusal> {
        let reference = self.reference().ok_or(Refusal::NoReference)?;
        let width = reference.mean.len();
        let usable = |e: &&Vec<f32>| {
            e.len() == width && e.iter().all(|v| v.is_finite()) && e.iter().any(|&v| v != 0.0)
        };
        let units: Vec<Vec<f32>> = window.iter().filter(usable).map(|e| unit(e)).collect();
        let frames = units.len();
        if frames < MIN_FRAMES {
            let least = MIN_FRAMES;
            return Err(Refusal::Few { frames, least });
        }
        let (mean, weights) = mean(&units);
        let usual = units.iter().zip(&weights).filter(|(_, w)| **w > 0.5);
        let share = self.share_of(usual.map(|(u, _)| u));
        let share = share.ok_or(Refusal::Still { frames })?;
        let several = share > reference.limit;
        let can_limit = reference.running.helps() && !reference.axes.is_empty();
        if !several && !can_limit {
            let (limit, usual) = (reference.limit, reference.usual[0]);
            return Err(Refusal::OneClass {
                frames,
                share,
                limit,
                usual,
            });
        }
        let (vector, light) = if several {
            self.whole(reference, &mean, frames)
        } else {
            (limited(reference, &mean, frames), 1.0)
        };
        Ok(Offset {
            vector,
            kind: if several {
                OffsetKind::Whole
            } else {
                OffsetKind::Limited
            },
            frames: u32::try_from(frames).unwrap_or(u32::MAX),
            light,
        })
    }

    /// The offset of frames of several classes: the share of their move that is light rather than another mix of classes, as
    /// far as so many frames show it.
    fn whole(&self, reference: &Reference, mean: &[f32], frames: usize) -> (Vec<f32>, f32) {
        let pairs = mean.iter().zip(&reference.mean);
        let difference: Vec<f32> = pairs.map(|(m, r)| m - r).collect();
        let light = reference
            .mix
            .light(self, &difference, frames)
            .unwrap_or(1.0);
        let factor = light * shrunk(frames, SHRINK);
        (difference.iter().map(|d| factor * d).collect(), light)
    }

    /// The share of the scatter of unit embeddings that lies between classes.
    fn share_of<'a>(&self, units: impl Iterator<Item = &'a Vec<f32>>) -> Option<f32> {
        let placed: Vec<(Vec<f32>, Vec<f32>)> = units
            .map(|u| {
                let z = self.invariant(u);
                let (_, logits) = self.scores(&z);
                (z, logits)
            })
            .collect();
        between_share(placed.iter().map(|(z, logits)| (&z[..], &logits[..])))
    }
}

fn limited(reference: &Reference, mean: &[f32], frames: usize) -> Vec<f32> {
    let along = reference.coordinates(mean);
    let factor = shrunk(frames, SHRINK);
    reference.vector(&along.iter().map(|c| c * factor).collect::<Vec<_>>())
}

/// The weight of `frames` beside so many of the calibration's light.
pub(in crate::classify) fn shrunk(frames: usize, shrink: f64) -> f32 {
    let n = frames as f64;
    narrow(n / (n + shrink))
}

/// The mean of unit embeddings, in which those far from the others count less, by their distance over the median one; and
/// the weight of each.
fn mean(units: &[Vec<f32>]) -> (Vec<f32>, Vec<f64>) {
    let mut weights = vec![1.0; units.len()];
    let mut mean = weighted_mean(units, &weights);
    for _ in 0..ROUNDS {
        let distance = |u: &Vec<f32>| {
            let square = |(a, m): (&f32, &f32)| f64::from(a - m).powi(2);
            u.iter().zip(&mean).map(square).sum::<f64>().sqrt()
        };
        let distances: Vec<f64> = units.iter().map(distance).collect();
        let mut sorted = distances.clone();
        sorted.sort_by(f64::total_cmp);
        let far = ODD * sorted[sorted.len() / 2];
        for (weight, &distance) in weights.iter_mut().zip(&distances) {
            *weight = if distance > far {
                (far / distance).powi(2)
            } else {
                1.0
            };
        }
        mean = weighted_mean(units, &weights);
    }
    (mean, weights)
}

fn weighted_mean(units: &[Vec<f32>], weights: &[f64]) -> Vec<f32> {
    let total: f64 = weights.iter().sum();
    let mut sum = vec![0.0f64; units.first().map_or(0, Vec::len)];
    for (u, weight) in units.iter().zip(weights) {
        sum.iter_mut()
            .zip(u)
            .for_each(|(s, &v)| *s += weight * f64::from(v));
    }
    sum.iter().map(|s| narrow(s / total)).collect()
}
