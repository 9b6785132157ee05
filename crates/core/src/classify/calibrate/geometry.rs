//! Fits the geometry of calibration images: covariances of low rank, centres of classes, directions of drift.

use crate::classify::confidence::{Drift, Geometry, LowRank, MAX_DRIFT_RANK, MAX_RANK, narrow};
use crate::icm::{Spectrum, gram, product};
use crate::stats::quantile;
use nalgebra::{DMatrix, DVector};

/// Observations per direction: fewer would fit noise.
const PER_DIRECTION: usize = 4;
/// The least variance of unit embeddings that is taken at its word.
const MIN_VARIANCE: f64 = 1e-8;
/// The number of images by which the guess of a class's centre from its row weighs.
const PRIOR_IMAGES: f64 = 1.0;
/// The share of the mean variance that is added to all directions before drift is measured in proportion to them.
const RIDGE: f64 = 0.1;
/// Steps of the stored quantiles: 5 %.
const QUANTILES: usize = 20;

/// A clean image in invariant space.
pub(super) struct Placed<'a> {
    pub z: &'a [f32],
    /// Its class, if the bank has it.
    pub class: Option<usize>,
}

/// The covariances of `images` around classes with the invariant `rows` `[C, k]`. `text`: rows come from prompts, so that
/// images lie around centres of their own.
pub(super) fn fit(images: &[Placed<'_>], rows: &[Vec<f32>], text: bool, drift: Drift) -> Geometry {
    let known = || images.iter().filter_map(|i| Some((i.z, i.class?)));
    let centers = text.then(|| centers(known(), rows));
    let around = centers.as_deref().unwrap_or(rows);
    let width = rows.first().map_or(0, Vec::len);
    let residuals = columns(width, known().map(|(z, class)| minus(z, &around[class])));
    let n = known().count();
    let mut mean = DVector::zeros(width);
    known().for_each(|(z, _)| mean += vector(z));
    mean /= n.max(1) as f64;
    let centered = columns(width, known().map(|(z, _)| vector(z) - &mean));
    Geometry {
        within: low_rank(&residuals, n.saturating_sub(rows.len())),
        background: low_rank(&centered, n.saturating_sub(1)),
        mean: mean.iter().map(|&v| narrow(v)).collect(),
        centers,
        drift,
    }
}

/// Each class's mean; its row, moved by the mean gap between images and rows, counts as one image more.
fn centers<'a>(
    images: impl Iterator<Item = (&'a [f32], usize)> + Clone,
    rows: &[Vec<f32>],
) -> Vec<Vec<f32>> {
    let width = rows.first().map_or(0, Vec::len);
    let mut gap = DVector::zeros(width);
    images
        .clone()
        .for_each(|(z, class)| gap += minus(z, &rows[class]));
    gap /= images.clone().count().max(1) as f64;
    let mut sums: Vec<(DVector<f64>, f64)> = rows
        .iter()
        .map(|row| ((vector(row) + &gap) * PRIOR_IMAGES, PRIOR_IMAGES))
        .collect();
    for (z, class) in images {
        sums[class].0 += vector(z);
        sums[class].1 += 1.0;
    }
    let mean = |(sum, n): (DVector<f64>, f64)| sum.iter().map(|v| narrow(v / n)).collect();
    sums.into_iter().map(mean).collect()
}

/// The covariance of columns `[k, n]` around 0, with so many degrees of freedom.
pub(super) fn low_rank(columns: &DMatrix<f64>, freedom: usize) -> LowRank {
    let (k, freedom) = (columns.nrows(), freedom.max(1));
    let total = columns.norm_squared() / freedom as f64;
    let (values, axes) = principal(columns, MAX_RANK.min(freedom / PER_DIRECTION));
    let values: Vec<f64> = values.iter().map(|v| v / freedom as f64).collect();
    let rest = (total - values.iter().sum::<f64>()).max(0.0) / (k - values.len()).max(1) as f64;
    let variance = rest.max(MIN_VARIANCE).max(total / k.max(1) as f64 * 1e-3);
    // Directions without more variance than the rest add nothing.
    let kept = values.iter().take_while(|&&v| v > variance).count();
    LowRank {
        axes: axes.into_iter().take(kept).collect(),
        shares: values[..kept]
            .iter()
            .map(|v| narrow(1.0 - variance / v))
            .collect(),
        variance: narrow(variance),
    }
}

/// The largest eigenvalues of `x xᵀ`, at most `rank`, and their eigenvectors; of `x` `[k, n]`.
fn principal(x: &DMatrix<f64>, rank: usize) -> (Vec<f64>, Vec<Vec<f32>>) {
    let (k, n) = x.shape();
    let rank = rank.min(k).min(n);
    if rank == 0 {
        return (Vec::new(), Vec::new());
    }
    // The smaller of the two products has the same eigenvalues above 0.
    let small = if n < k { gram(x) } else { gram(&x.transpose()) };
    let Some(Spectrum { values, vectors }) = Spectrum::of(&small) else {
        return (Vec::new(), Vec::new());
    };
    let values: Vec<f64> = values.iter().copied().take(rank).collect();
    let kept = values
        .iter()
        .take_while(|&&v| v > values[0] * 1e-9 && v > 0.0)
        .count();
    let vectors = vectors.columns(0, kept).into_owned();
    let vectors = if n < k { product(x, &vectors) } else { vectors };
    let axis = |v: DVector<f64>| v.normalize().iter().map(|&v| narrow(v)).collect();
    let axes = vectors
        .column_iter()
        .map(|v| axis(v.into_owned()))
        .collect();
    (values[..kept].to_vec(), axes)
}

/// The directions in which `moves` `[families][pair]`, differences of unit embeddings `[D]`, are largest in proportion to
/// how far the `clean` unit embeddings lie apart: the generalised eigenvectors of both covariances. Every family counts
/// alike.
pub(super) fn drift(clean: &[&[f32]], moves: &[Vec<Vec<f32>>]) -> Drift {
    let width = clean.first().map_or(0, |u| u.len());
    let n = clean.len().max(1) as f64;
    let mut mean = DVector::zeros(width);
    for u in clean {
        mean += vector(u) / n;
    }
    let centered = columns(width, clean.iter().map(|u| vector(u) - &mean));
    let whitening = Whitening::of(&centered);
    let total = |family: &[Vec<f32>]| family.iter().map(|m| vector(m).norm_squared()).sum::<f64>();
    let scaled = moves
        .iter()
        .filter(|family| total(family) > 0.0)
        .flat_map(|family| {
            let factor = total(family).sqrt().recip();
            let whitening = &whitening;
            family
                .iter()
                .map(move |m| whitening.apply(&vector(m)) * factor)
        });
    let scaled = columns(width, scaled);
    let (values, axes) = principal(&scaled, MAX_DRIFT_RANK.min(scaled.ncols() / PER_DIRECTION));
    let (mut drift, mut weights) = (Drift::default(), Vec::new());
    for (axis, value) in axes.iter().zip(&values) {
        let axis = whitening.apply(&vector(axis)).normalize();
        let variance = centered.tr_mul(&axis).norm_squared() / n;
        weights.push(value / values.iter().sum::<f64>() / variance.max(MIN_VARIANCE));
        drift.center.push(narrow(axis.dot(&mean)));
        drift.axes.push(axis.iter().map(|&v| narrow(v)).collect());
    }
    drift.weights = weights.iter().map(|&w| narrow(w)).collect();
    let distances: Vec<f32> = clean.iter().map(|u| drift.distance(u)).collect();
    let quantiles = quantiles(&distances);
    let median = quantiles.get(QUANTILES / 2).copied().map_or(0.0, f64::from);
    if median > 0.0 {
        drift.weights = weights
            .iter()
            .map(|w| narrow(w / (median * median)))
            .collect();
        drift.quantiles = quantiles
            .iter()
            .map(|&q| narrow(f64::from(q) / median))
            .collect();
    }
    drift
}

/// The quantiles of distances at 0, 5, … 100 %; none of none.
pub(super) fn quantiles(distances: &[f32]) -> Vec<f32> {
    let mut sorted: Vec<f64> = distances.iter().map(|&d| f64::from(d)).collect();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        return Vec::new();
    }
    let at = |i: usize| narrow(quantile(&sorted, i as f64 / QUANTILES as f64));
    (0..=QUANTILES).map(at).collect()
}

/// The inverse square root of a covariance to which [`RIDGE`] was added.
struct Whitening {
    axes: Vec<DVector<f64>>,
    /// By how much each axis shrinks more than all directions do.
    shrinks: Vec<f64>,
    factor: f64,
}

impl Whitening {
    fn of(centered: &DMatrix<f64>) -> Self {
        let freedom = centered.ncols().saturating_sub(1);
        let covariance = low_rank(centered, freedom);
        let (width, freedom) = (centered.nrows().max(1) as f64, freedom.max(1) as f64);
        let ridge = RIDGE * centered.norm_squared() / freedom / width;
        let rest = f64::from(covariance.variance) + ridge;
        let shrink = |&share: &f32| {
            let variance = f64::from(covariance.variance) / (1.0 - f64::from(share)).max(1e-6);
            1.0 - (rest / (variance + ridge)).sqrt()
        };
        Self {
            axes: covariance.axes.iter().map(|a| vector(a)).collect(),
            shrinks: covariance.shares.iter().map(shrink).collect(),
            factor: rest.sqrt().recip(),
        }
    }

    fn apply(&self, v: &DVector<f64>) -> DVector<f64> {
        let mut whitened = v.clone();
        for (axis, shrink) in self.axes.iter().zip(&self.shrinks) {
            whitened -= axis * (shrink * axis.dot(v));
        }
        whitened * self.factor
    }
}

fn vector(v: &[f32]) -> DVector<f64> {
    DVector::from_iterator(v.len(), v.iter().map(|&v| f64::from(v)))
}

fn minus(a: &[f32], b: &[f32]) -> DVector<f64> {
    vector(a) - vector(b)
}

fn columns(width: usize, vectors: impl Iterator<Item = DVector<f64>>) -> DMatrix<f64> {
    let vectors: Vec<DVector<f64>> = vectors.collect();
    let mut matrix = DMatrix::zeros(width, vectors.len());
    for (i, v) in vectors.iter().enumerate() {
        matrix.set_column(i, v);
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::confidence::Locator;
    use crate::numeric::{Rng, dot};

    const WIDTH: usize = 6;

    /// Images around two classes, stretched along the first axis.
    fn images(rng: &mut Rng) -> (Vec<Vec<f32>>, Vec<usize>, Vec<Vec<f32>>) {
        let rows: Vec<Vec<f32>> = (0..2)
            .map(|_| (0..WIDTH).map(|_| rng.between(-1.0, 1.0)).collect())
            .collect();
        let classes: Vec<usize> = (0..400).map(|i| i % 2).collect();
        let image = |&class: &usize| {
            let value =
                |(i, m): (usize, &f32)| m + rng.between(-0.3, 0.3) * if i == 0 { 4.0 } else { 1.0 };
            rows[class].iter().enumerate().map(value).collect()
        };
        (classes.iter().map(image).collect(), classes, rows)
    }

    fn covariance(columns: &DMatrix<f64>, freedom: f64) -> DMatrix<f64> {
        columns * columns.transpose() / freedom
    }

    #[test]
    fn the_distance_is_that_of_the_full_covariances() {
        let (zs, classes, rows) = images(&mut Rng::new(3));
        let pairs = zs.iter().zip(&classes);
        let placed: Vec<Placed<'_>> = pairs.map(|(z, &c)| Placed { z, class: Some(c) }).collect();
        let geometry = fit(&placed, &rows, false, Drift::default());
        let residuals = columns(
            WIDTH,
            zs.iter().zip(&classes).map(|(z, &c)| minus(z, &rows[c])),
        );
        let mean = zs.iter().map(|z| vector(z)).sum::<DVector<f64>>() / 400.0;
        let centered = columns(WIDTH, zs.iter().map(|z| vector(z) - &mean));
        let inverse = |m: DMatrix<f64>| m.try_inverse().expect("a full covariance");
        let within = inverse(covariance(&residuals, 398.0));
        let background = inverse(covariance(&centered, 399.0));
        let locator = Locator::new(geometry, &rows);
        for z in &zs[..50] {
            let squared = |m: &DMatrix<f64>, d: DVector<f64>| (d.transpose() * m * &d)[0];
            let nearest = rows.iter().map(|row| squared(&within, minus(z, row)));
            let nearest = nearest.fold(f64::INFINITY, f64::min);
            let expected = (nearest - squared(&background, vector(z) - &mean)) / WIDTH as f64;
            let cosines: Vec<f32> = rows.iter().map(|row| dot(row, z)).collect();
            let found = f64::from(locator.place(z, z, &cosines).mahalanobis);
            assert!(
                (found - expected).abs() < 0.01 * (1.0 + expected.abs()),
                "{found} for {expected}"
            );
        }
    }

    #[test]
    fn drift_is_seen_where_interventions_move_and_images_do_not_vary() {
        let mut rng = Rng::new(5);
        // Images vary along the first axis; interventions move along the first and the second.
        let mut image = |moved: f32| {
            let mut v: Vec<f32> = (0..WIDTH).map(|_| rng.between(-0.02, 0.02)).collect();
            v[0] += rng.between(-0.5, 0.5) + moved;
            v[1] += moved;
            v
        };
        let clean: Vec<Vec<f32>> = (0..200).map(|_| image(0.0)).collect();
        let moves: Vec<Vec<f32>> = (0..200)
            .map(|i| vec![0.2, 0.1 + 0.001 * i as f32, 0.0, 0.0, 0.0, 0.0])
            .collect();
        let all: Vec<&[f32]> = clean.iter().map(Vec::as_slice).collect();
        let drift = drift(&all, &[moves, Vec::new()]);
        let mut distances: Vec<f32> = clean.iter().map(|u| drift.distance(u)).collect();
        distances.sort_by(f32::total_cmp);
        assert!(
            (distances[100] - 1.0).abs() < 0.05,
            "the median is the unit: {}",
            distances[100]
        );
        assert!(drift.quantile(distances[190]) > 0.9 && drift.quantile(distances[10]) < 0.1);
        let moved = drift.distance(&image(0.2));
        assert!(moved > 4.0 && drift.quantile(moved) >= 1.0, "{moved}");
    }

    #[test]
    fn centres_of_classes_from_prompts_lie_among_the_images() {
        let rows = [vec![1.0f32, 0.0, 0.0], vec![0.0, 1.0, 0.0]];
        // Images lie a gap away from the prompts; class 1 has none.
        let z = [0.9f32, 0.0, 0.5];
        let images: Vec<Placed<'_>> = (0..50)
            .map(|_| Placed {
                z: &z,
                class: Some(0),
            })
            .collect();
        let centers = fit(&images, &rows, true, Drift::default())
            .centers
            .expect("centres");
        let near = |a: &[f32], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&centers[0], z), "{centers:?}");
        assert!(near(&centers[1], [-0.1, 1.0, 0.5]), "{centers:?}");
    }
}
