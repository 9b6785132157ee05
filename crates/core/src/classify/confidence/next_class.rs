//! From the classes that were left out to the next one that nobody has seen.
//!
//! Each class has a rate of its own at which its images are accepted. Rates are taken to be beta distributed, with the mean
//! and the spread that the classes show, and the images of each to be a draw from its rate (the beta-binomial model). Mean
//! and spread are weighed over a grid, so that few classes leave both open: three classes of which nothing was accepted do
//! not show that nothing of a fourth will be.

use super::share::{beta_cdf, ln_gamma};
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// Means are tried more densely near 0 and 1, and weighed so that all are equally likely beforehand. Then, of n classes of
/// which nothing was accepted, the next one is an exception with probability 1/(n + 2), as Laplace's rule of succession has
/// it; no assumption would allow less than about 1/(n + 1) for the next class to be the worst.
const MEANS: u32 = 40;
/// How many images' worth the mean says of a class: 0.5, where most classes are accepted always or never, to 64, where
/// all are alike; evenly on a logarithmic scale.
const SPREADS: u32 = 12;
const SPREAD_RANGE: (f64, f64) = (0.5, 64.0);
/// Cells of less weight say nothing.
const LEAST_WEIGHT: f64 = 1e-5;
/// Steps to a quantile: 1e-6 of its scale.
const HALVINGS: usize = 20;

/// One mean and spread, and how well they suit the classes.
struct Cell {
    mean: f64,
    a: f64,
    b: f64,
    weight: f64,
}

/// What the classes that were left out say of classes like them.
pub(super) struct ClassRates(Vec<Cell>);

impl ClassRates {
    /// From (hits, images) of each class. Without any, every rate is possible.
    pub(super) fn of(classes: impl Iterator<Item = (f64, f64)>) -> Self {
        // Classes that look alike are counted together. Fractions of a hit are rounded up to halves.
        let mut alike: BTreeMap<(u64, u64), f64> = BTreeMap::new();
        for (hits, images) in classes {
            *alike
                .entry((half_units(hits.min(images)), half_units(images)))
                .or_default() += 1.0;
        }
        let mut cells = Vec::new();
        for i in 0..MEANS {
            let mean = share_at((f64::from(i) + 0.5) / f64::from(MEANS));
            for j in 0..SPREADS {
                let (least, most) = SPREAD_RANGE;
                let spread = least * (most / least).powf(f64::from(j) / f64::from(SPREADS - 1));
                let (a, b) = (mean * spread, (1.0 - mean) * spread);
                let rest = ln_beta(a, b);
                let prior = 0.5 * (mean * (1.0 - mean)).ln();
                let likelihood = |(&(hits, images), times): (&(u64, u64), &f64)| {
                    let (hits, images) = (hits as f64 / 2.0, images as f64 / 2.0);
                    times * (ln_beta(a + hits, b + images - hits) - rest)
                };
                cells.push(Cell {
                    mean,
                    a,
                    b,
                    weight: prior + alike.iter().map(likelihood).sum::<f64>(),
                });
            }
        }
        Self(normalised(cells))
    }

    /// What the mean rate of such classes stays below with probability `level`.
    pub(super) fn mean_below(&self, level: f64) -> f64 {
        let (mut below, mut cells) = (0.0, self.0.iter().peekable());
        let mut last = 0.0;
        while let Some(first) = cells.peek().map(|cell| cell.mean) {
            let same = std::iter::from_fn(|| cells.next_if(|cell| cell.mean <= first));
            let here: f64 = same.map(|cell| cell.weight).sum();
            let position = (2.0 / PI) * first.sqrt().asin();
            let edge = position + 0.5 / f64::from(MEANS);
            if below + here >= level && here > 0.0 {
                let start = edge - 1.0 / f64::from(MEANS);
                return share_at(start + (edge - start) * (level - below) / here);
            }
            below += here;
            last = edge;
        }
        share_at(last)
    }

    /// What the rate of the next such class stays below with probability `level`.
    pub(super) fn next_below(&self, level: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            let rate = share_at(middle);
            let below: f64 = self
                .0
                .iter()
                .map(|cell| cell.weight * beta_cdf(cell.a, cell.b, rate))
                .sum();
            if below < level {
                low = middle;
            } else {
                high = middle;
            }
        }
        share_at(high)
    }
}

/// Weights from log-likelihoods; cells that weigh nothing are left out.
fn normalised(mut cells: Vec<Cell>) -> Vec<Cell> {
    let most = cells
        .iter()
        .map(|cell| cell.weight)
        .fold(f64::NEG_INFINITY, f64::max);
    for cell in &mut cells {
        cell.weight = (cell.weight - most).exp();
    }
    cells.retain(|cell| cell.weight > LEAST_WEIGHT);
    let sum: f64 = cells.iter().map(|cell| cell.weight).sum();
    for cell in &mut cells {
        cell.weight /= sum;
    }
    cells
}

/// A share by its position on the scale of means, `0..=1`.
fn share_at(position: f64) -> f64 {
    (0.5 * PI * position.clamp(0.0, 1.0)).sin().powi(2)
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of images"
)]
fn half_units(count: f64) -> u64 {
    (2.0 * count - 1e-9).ceil().max(0.0) as u64
}
