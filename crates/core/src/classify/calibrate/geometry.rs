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

/// The directions in which `moves` `[families][pair]`, differences of unit embeddings `[D]`, are largest, with every
/// family counted alike, and how far the clean unit embeddings lie apart there.
pub(super) fn drift(clean: &[Vec<f32>], moves: &[Vec<Vec<f32>>]) -> Drift {
    let width = clean.first().map_or(0, Vec::len);
    let total = |family: &[Vec<f32>]| family.iter().map(|m| vector(m).norm_squared()).sum::<f64>();
    let scaled = moves
        .iter()
        .filter(|family| total(family) > 0.0)
        .flat_map(|family| {
            let factor = total(family).sqrt().recip();
            family.iter().map(move |m| vector(m) * factor)
        });
    let scaled = columns(width, scaled);
    let (values, axes) = principal(&scaled, MAX_DRIFT_RANK.min(scaled.ncols() / PER_DIRECTION));
    let n = clean.len().max(1) as f64;
    let along = |axis: &Vec<f32>| {
        clean
            .iter()
            .map(|u| vector(axis).dot(&vector(u)))
            .collect::<Vec<_>>()
    };
    let (mut center, mut weights) = (Vec::new(), Vec::new());
    for (axis, value) in axes.iter().zip(&values) {
        let at = along(axis);
        let mean = at.iter().sum::<f64>() / n;
        let variance = at.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / n;
        center.push(narrow(mean));
        weights.push(value / values.iter().sum::<f64>() / variance.max(MIN_VARIANCE));
    }
    let narrowed = |factor: f64| weights.iter().map(|w| narrow(w * factor)).collect();
    let mut drift = Drift {
        axes,
        center,
        weights: narrowed(1.0),
        quantiles: Vec::new(),
    };
    let distances = |drift: &Drift| {
        let mut all: Vec<f64> = clean.iter().map(|u| f64::from(drift.distance(u))).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let all = distances(&drift);
    let median = if all.is_empty() {
        0.0
    } else {
        quantile(&all, 0.5)
    };
    if median > 0.0 {
        drift.weights = narrowed(median.powi(-2));
        let at = |i: usize| narrow(quantile(&all, i as f64 / QUANTILES as f64) / median);
        drift.quantiles = (0..=QUANTILES).map(at).collect();
    }
    drift
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
