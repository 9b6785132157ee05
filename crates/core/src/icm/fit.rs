//! From moments to a map: the subspace that interventions leave alone.
//!
//! Over matrices A `[D, k]` with orthonormal columns, `tr Aᵀ(C − λΔ)A` is largest for the eigenvectors of C − λΔ with
//! the k LARGEST eigenvalues (Song et al. 2025). λ has no scale of its own, so it is given as λ' = λ·tr Δ / tr C, and the
//! eigenvectors are those of `C / tr C − λ'·Δ / tr Δ`. For λ' → ∞ what remains is the removal of the eigenvectors of Δ
//! with the largest eigenvalues. The soft map shrinks them instead.
//!
//! Δ is the mean over families of Δ / tr Δ: a family is one way in which a camera's world may change, and counts once,
//! however many pairs it has and however far it moves embeddings. Else the harshest would speak for all.

use super::embeddings::{Embeddings, Real, transposed_product, unit_columns};
use super::moments::{Moments, Parts};
use super::projection::Projection;
use super::spec::{Lambda, MapKind, MapSpec};
use super::spectrum::Spectrum;
use nalgebra::{DMatrix, DVector};
use serde::Serialize;
use std::fmt;
use thiserror::Error;

/// Why no map could be fitted.
#[derive(Debug, Clone, Error, PartialEq)]
pub enum FitError {
    #[error("there are no images to fit from")]
    NoImages,
    #[error("there are no interventions to fit from; at least one family is needed")]
    NoFamilies,
    #[error("the interventions changed no embedding; they are too weak, or were not applied")]
    NothingMoved,
    #[error(
        "{removed} directions cannot be removed of embeddings of width {width}; at most {most} can"
    )]
    TooMany {
        removed: usize,
        width: usize,
        most: usize,
    },
    #[error(
        "{removed} directions are to be removed, but the interventions moved the embeddings in {moved} only; give more images or interventions, or remove fewer"
    )]
    NothingLeft { removed: usize, moved: usize },
    #[error("λ' = {0} is no number above 0")]
    Lambda(f64),
    #[error("a strength of {0} is no number above 0")]
    Strength(f64),
    #[error("the eigenvalues were not found; the moments are damaged, make them again")]
    NotConverged,
}

/// What a reader of a fit should know, though it is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FitWarning {
    /// Nothing is known of the directions that no pair spans; they are kept.
    FewerPairsThanDimensions { pairs: u64, width: usize },
}

impl fmt::Display for FitWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewerPairsThanDimensions { pairs, width } => write!(
                f,
                "{pairs} pairs for embeddings of width {width}: directions that no intervention showed are kept as they are; more images make the fit surer"
            ),
        }
    }
}

/// The matrix whose largest eigenvalues are kept; maps that share it share its eigenvectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Objective {
    /// −Δ / tr Δ.
    Variance,
    /// C / tr C − λ'·Δ / tr Δ, C about the mean where `centred`.
    Penalised { times: f64, centred: bool },
}

impl Objective {
    pub(super) fn of(spec: &MapSpec) -> Self {
        match spec.kind {
            MapKind::Hard {
                lambda: Lambda::Times(times),
                ..
            } => Self::Penalised {
                times,
                centred: spec.centred,
            },
            _ => Self::Variance,
        }
    }
}

/// Fits maps to one set of moments.
#[derive(Debug)]
pub struct Fitter {
    /// C, `[D, D]`, the lower triangle.
    second: DMatrix<f64>,
    /// The mean over families of Δ / tr Δ, `[D, D]`, the lower triangle.
    delta: DMatrix<f64>,
    /// `E[z]`, `[D]`.
    mean: DVector<f64>,
    pairs: u64,
    /// Width of the encoder's embeddings.
    ambient: usize,
}

impl Fitter {
    /// Over all families of `moments`.
    pub fn new(moments: &Moments) -> Result<Self, FitError> {
        Self::over(moments, |_| true)
    }

    /// Over the families that are wanted.
    pub(super) fn over(moments: &Moments, wanted: impl Fn(&str) -> bool) -> Result<Self, FitError> {
        Self::over_parts(Parts(&[moments]), wanted)
    }

    /// The same of moments in parts.
    pub(super) fn over_parts(
        moments: Parts<'_>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self, FitError> {
        if moments.images() == 0 {
            return Err(FitError::NoImages);
        }
        let (mut delta, pairs) = moments.sum_of_deltas(wanted).ok_or(FitError::NoFamilies)?;
        let trace = delta.trace();
        if trace <= 0.0 {
            return Err(FitError::NothingMoved);
        }
        delta /= trace;
        Ok(Self {
            second: moments.lower_second(),
            delta,
            mean: moments.mean(),
            pairs,
            ambient: moments.width(),
        })
    }

    /// The same where the moments are of embeddings that were wider, and were written in fewer coordinates without loss
    /// (see `Interventions::compact`): what is relative to a width is relative to theirs.
    pub(super) fn of_width(self, ambient: usize) -> Self {
        Self { ambient, ..self }
    }

    fn width(&self) -> usize {
        self.mean.len()
    }

    /// What to tell beside the result.
    #[must_use]
    pub fn warning(&self) -> Option<FitWarning> {
        let (pairs, width) = (self.pairs, self.ambient);
        (pairs < width as u64).then_some(FitWarning::FewerPairsThanDimensions { pairs, width })
    }

    /// Fits one map.
    pub fn fit(&self, spec: &MapSpec) -> Result<Map, FitError> {
        let spectrum: Spectrum<f64> = self.spectrum(Objective::of(spec))?;
        let weights = self.weights(spec, &spectrum)?;
        let columns = match spec.kind {
            MapKind::Identity => DMatrix::identity(self.width(), self.width()),
            MapKind::Hard { removed, .. } => spectrum
                .vectors
                .columns(0, self.width() - removed)
                .into_owned(),
            MapKind::Soft { .. } => {
                &spectrum.vectors * DMatrix::from_diagonal(&weights) * spectrum.vectors.transpose()
            }
        };
        let mean = self.mean_of(spec);
        Ok(Map {
            spec: *spec,
            columns,
            mean,
            eigenvalues: spectrum.values,
        })
    }

    /// How much of what varies a map takes away.
    #[must_use]
    pub fn removed(&self, map: &Map) -> Removed {
        let between = &self.second - &self.mean * self.mean.transpose();
        Removed {
            interventions: 1.0 - map.kept(&self.delta),
            images: 1.0 - map.kept(&between),
        }
    }

    /// μ, `[D]`: zeros where the map is not centred.
    pub(super) fn mean_of(&self, spec: &MapSpec) -> DVector<f64> {
        if spec.centred {
            self.mean.clone()
        } else {
            DVector::zeros(self.width())
        }
    }

    pub(super) fn spectrum<T: Real>(&self, objective: Objective) -> Result<Spectrum<T>, FitError> {
        let matrix: DMatrix<f64> = match objective {
            Objective::Variance => -&self.delta,
            Objective::Penalised { times, .. } if !(times.is_finite() && times > 0.0) => {
                return Err(FitError::Lambda(times));
            }
            Objective::Penalised { times, centred } => {
                let second = if centred {
                    &self.second - &self.mean * self.mean.transpose()
                } else {
                    self.second.clone()
                };
                let trace = second.trace().max(f64::MIN_POSITIVE);
                second / trace - &self.delta * times
            }
        };
        Spectrum::of(&matrix.map(nalgebra::convert)).ok_or(FitError::NotConverged)
    }

    /// What the map leaves of each of the spectrum's directions, `[D]`, `0..=1`: every map is V·diag(w)·Vᵀ up to a
    /// rotation, which no cosine sees.
    pub(super) fn weights<T: Real>(
        &self,
        spec: &MapSpec,
        spectrum: &Spectrum<T>,
    ) -> Result<DVector<T>, FitError> {
        let width = self.width();
        match spec.kind {
            MapKind::Identity => Ok(DVector::repeat(width, T::one())),
            MapKind::Hard { removed, .. } if removed >= self.ambient => Err(FitError::TooMany {
                removed,
                width: self.ambient,
                most: self.ambient - 1,
            }),
            MapKind::Hard { lambda, removed } => {
                let moved = moved_directions(spectrum);
                if removed >= width || (lambda == Lambda::Infinite && removed > moved) {
                    return Err(FitError::NothingLeft { removed, moved });
                }
                Ok(DVector::from_fn(width, |i, _| {
                    if i < width - removed {
                        T::one()
                    } else {
                        T::zero()
                    }
                }))
            }
            MapKind::Soft { strength } if !(strength.is_finite() && strength > 0.0) => {
                Err(FitError::Strength(strength))
            }
            MapKind::Soft { strength } => Ok(spectrum.values.map(|value| {
                // The spectrum is that of −Δ / tr Δ; rounding may leave a variance just below 0.
                let scaled = (-T::in_f64(value) * self.ambient as f64).max(0.0);
                nalgebra::convert((1.0 + strength * scaled).sqrt().recip())
            })),
        }
    }
}

/// Shares of variance that a map takes away, `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Removed {
    /// Of what interventions changed, tr Δ.
    pub interventions: f64,
    /// Of what images differ from their mean by.
    pub images: f64,
}

/// In how many directions of −Δ's spectrum anything moved.
fn moved_directions<T: Real>(spectrum: &Spectrum<T>) -> usize {
    let least = spectrum.values.min() * nalgebra::convert::<f64, T>(T::RANK_TOLERANCE);
    spectrum
        .values
        .iter()
        .filter(|&&value| value < least)
        .count()
}

/// A fitted map, in f64.
#[derive(Debug, Clone)]
pub struct Map {
    spec: MapSpec,
    /// `[D, k]` with orthonormal columns, or `[D, D]`, symmetric, where the map is soft.
    columns: DMatrix<f64>,
    /// `[D]`.
    mean: DVector<f64>,
    /// `[D]`, of the matrix that was maximised, largest first.
    eigenvalues: DVector<f64>,
}

impl Map {
    #[must_use]
    pub fn spec(&self) -> &MapSpec {
        &self.spec
    }

    /// `[D, k]` with orthonormal columns, or `[D, D]`, symmetric, where the map is soft.
    #[must_use]
    pub fn columns(&self) -> &DMatrix<f64> {
        &self.columns
    }

    /// The mean that is taken off first, `[D]`; zeros where the map is not centred.
    #[must_use]
    pub fn mean(&self) -> &DVector<f64> {
        &self.mean
    }

    /// Of the matrix that was maximised, `[D]`, largest first.
    #[must_use]
    pub fn eigenvalues(&self) -> &DVector<f64> {
        &self.eigenvalues
    }

    /// The share of the trace of a symmetric `[D, D]` that is left, tr AᵀMA / tr M; 1 where there is none. The lower
    /// triangle is read.
    fn kept(&self, lower: &DMatrix<f64>) -> f64 {
        let mut matrix = lower.clone();
        matrix.fill_upper_triangle_with_lower_triangle();
        let left = (&matrix * &self.columns).dot(&self.columns);
        let trace = matrix.trace();
        if trace > 0.0 { left / trace } else { 1.0 }
    }

    /// The invariant embeddings `[k, n]`, of unit length.
    #[must_use]
    pub fn apply(&self, embeddings: &Embeddings) -> DMatrix<f64> {
        self.apply_columns(embeddings.columns())
    }

    /// As [`Self::apply`], of unit columns `[D, n]`.
    pub(super) fn apply_columns(&self, columns: &DMatrix<f64>) -> DMatrix<f64> {
        let mut centred = columns.clone();
        for mut column in centred.column_iter_mut() {
            column -= &self.mean;
        }
        unit_columns(transposed_product(&self.columns, &centred))
    }

    /// The map as the daemon applies it, in f32.
    #[must_use]
    pub fn projection(&self) -> Projection {
        Projection::of_map(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interventions_that_move_nothing_are_refused() {
        let mut moments = Moments::new("aa", 2);
        moments.add_image("a", &[1.0, 0.5]).unwrap();
        moments
            .add_pair("grey", "a", &[1.0, 0.5], &[1.0, 0.5])
            .unwrap();
        assert_eq!(Fitter::new(&moments).unwrap_err(), FitError::NothingMoved);
        // Beside one that moves something, it is no harm.
        moments
            .add_pair("light", "a", &[1.0, 0.5], &[1.0, 0.0])
            .unwrap();
        let map = Fitter::new(&moments)
            .unwrap()
            .fit(&MapSpec::soft(1.0))
            .unwrap();
        assert!(map.columns.iter().all(|v| v.is_finite()));
    }

    #[test]
    fn what_is_removed_is_told_in_shares() {
        let mut moments = Moments::new("aa", 3);
        // Images differ in the first two axes, interventions move the third, and the second a little.
        for (image, changed) in [
            ([1.0, 0.0, 0.0], [1.0, 0.0, 0.75]),
            ([-1.0, 0.0, 0.0], [-1.0, 0.0, 0.75]),
            ([0.0, 1.0, 0.0], [0.0, 1.0, 0.75]),
        ] {
            moments.add_image("a", &image).unwrap();
            moments.add_pair("light", "a", &image, &changed).unwrap();
        }
        let fitter = Fitter::new(&moments).unwrap();
        let removed = |spec: MapSpec| fitter.removed(&fitter.fit(&spec).unwrap());
        let nothing = removed(MapSpec::IDENTITY);
        assert!(
            nothing.interventions.abs() < 1e-12 && nothing.images.abs() < 1e-12,
            "{nothing:?}"
        );
        let hard = removed(MapSpec::without(1));
        // Of δ = (0.2, 0, −0.6) and its like nearly all lies along the third axis.
        assert!(
            (0.85..1.0).contains(&hard.interventions) && hard.images < 0.1,
            "{hard:?}"
        );
        let soft = removed(MapSpec::soft(1.0));
        assert!(
            soft.interventions > 0.3 && soft.interventions < hard.interventions,
            "{soft:?}"
        );
    }

    #[test]
    fn what_is_removed_is_what_embeddings_lose() {
        let mut rng = fastrand::Rng::with_seed(4);
        let mut row = || (0..6).map(|_| rng.f32() - 0.3).collect::<Vec<_>>();
        let pairs: Vec<_> = (0..40).map(|_| (row(), row())).collect();
        let mut moments = Moments::new("aa", 6);
        for (image, changed) in &pairs {
            moments.add_image("a", image).unwrap();
            moments.add_pair("light", "a", image, changed).unwrap();
        }
        let unit =
            |row: &[f32]| DVector::from_iterator(6, row.iter().map(|&v| f64::from(v))).normalize();
        let differences: Vec<_> = pairs.iter().map(|(a, b)| unit(a) - unit(b)).collect();
        let mean = pairs.iter().map(|(a, _)| unit(a)).sum::<DVector<f64>>() / 40.0;
        let spread: Vec<_> = pairs.iter().map(|(a, _)| unit(a) - &mean).collect();
        let fitter = Fitter::new(&moments).unwrap();
        for spec in [MapSpec::without(2), MapSpec::soft(3.0)] {
            let map = fitter.fit(&spec).unwrap();
            let lost = |vectors: &[DVector<f64>]| {
                let squares = |f: &dyn Fn(&DVector<f64>) -> f64| vectors.iter().map(f).sum::<f64>();
                1.0 - squares(&|v| map.columns.tr_mul(v).norm_squared())
                    / squares(&|v| v.norm_squared())
            };
            let removed = fitter.removed(&map);
            assert!(
                (removed.interventions - lost(&differences)).abs() < 1e-9,
                "{spec}: {removed:?}"
            );
            assert!(
                (removed.images - lost(&spread)).abs() < 1e-9,
                "{spec}: {removed:?}"
            );
        }
    }
}
