//! From moments to a map: the subspace that interventions leave unchanged.
//!
//! Over matrices A `[D, k]` with orthonormal columns, `tr Aᵀ(C − λΔ)A` is maximised by the
//! eigenvectors of C − λΔ with the k LARGEST eigenvalues (Song et al. 2025). λ has no natural
//! scale, so it is given as λ' = λ·tr Δ / tr C, and the eigenvectors are those of `C / tr C − λ'·Δ
//! / tr Δ`. In the limit λ' → ∞, the fit removes the eigenvectors of Δ with the largest
//! eigenvalues. The soft map shrinks those directions instead of removing them.
//!
//! Δ is the mean over families of Δ / tr Δ. A family is one way in which a camera's world may
//! change, and counts once, however many pairs it has and however far it moves embeddings.
//! Otherwise the harshest family would decide alone.

mod error;

pub use error::{FitError, FitWarning};

use super::linalg::{Real, product};
use super::map::Map;
use super::moments::Moments;
use super::pooled_moments::PooledMoments;
use super::spec::{Lambda, MapKind, MapSpec};
use super::spectrum::Spectrum;
use super::whitening::{Covariances, Strengths};
use nalgebra::{DMatrix, DVector};
use serde::Serialize;

/// The matrix whose leading eigenvectors are kept; maps with the same objective share its
/// eigenvectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Objective {
    /// −Δ / tr Δ.
    Variance,
    /// C / tr C − λ'·Δ / tr Δ with λ' = `times`; C is taken about the mean if `centred`.
    Penalised { times: f64, centred: bool },
    /// −(a·Δ̃ + b·S̃), in the directions where Δ̃ + S̃ is largest.
    Whitened(Strengths),
}

impl Objective {
    pub(super) fn for_spec(spec: &MapSpec) -> Self {
        match spec.kind {
            MapKind::Hard {
                lambda: Lambda::Times(times),
                ..
            } => Self::Penalised {
                times,
                centred: spec.centred,
            },
            MapKind::Whitened(strengths) => Self::Whitened(strengths),
            _ => Self::Variance,
        }
    }
}

/// Fits maps to one set of moments.
///
/// ```
/// use constancy_core::icm::{Fitter, MapSpec, Moments};
///
/// // The images differ in the first two axes; the intervention moves the third.
/// let mut moments = Moments::new("00ff", 3);
/// for image in [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]] {
///     moments.add_image("image", &image)?;
///     moments.add_pair("light", "image", &image, &[image[0], image[1], 0.1])?;
/// }
/// let map = Fitter::new(&moments)?.fit(&MapSpec::without(1))?;
/// assert_eq!(map.columns().shape(), (3, 2));
/// // Nearly nothing is left of the third axis.
/// assert!(map.columns().row(2).norm() < 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Fitter {
    /// The lower triangle of C, `[D, D]`.
    second: DMatrix<f64>,
    /// The lower triangle of the mean over families of Δ / tr Δ, `[D, D]`; its trace is 1.
    delta: DMatrix<f64>,
    /// `E[z]`, `[D]`.
    mean: DVector<f64>,
    pairs: u64,
    /// The width of the encoder's embeddings; D is smaller after `Interventions::compact`.
    encoder_width: usize,
    /// What [`MapKind::Whitened`] takes.
    covariances: Option<Covariances>,
}

impl Fitter {
    /// A fitter over all families of `moments`.
    pub fn new(moments: &Moments) -> Result<Self, FitError> {
        Self::for_families(moments, |_| true)
    }

    /// A fitter over the families that `wanted` accepts.
    pub(super) fn for_families(
        moments: &Moments,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self, FitError> {
        Self::pooled(PooledMoments(&[moments]), wanted)
    }

    /// [`Self::for_families`] over pooled moments.
    pub(super) fn pooled(
        moments: PooledMoments<'_>,
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
            encoder_width: moments.width(),
            covariances: None,
        })
    }

    /// Adds the covariances of labelled images, for [`MapKind::Whitened`].
    #[must_use]
    pub fn with_covariances(self, covariances: Covariances) -> Self {
        Self {
            covariances: Some(covariances),
            ..self
        }
    }

    /// Sets the width of the encoder's embeddings if the moments are in fewer coordinates (see
    /// `Interventions::compact`): limits and strengths are relative to the encoder's width.
    pub(super) fn with_encoder_width(self, encoder_width: usize) -> Self {
        Self {
            encoder_width,
            ..self
        }
    }

    fn width(&self) -> usize {
        self.mean.len()
    }

    /// What a user should know besides the result.
    #[must_use]
    pub fn warning(&self) -> Option<FitWarning> {
        let (pairs, width) = (self.pairs, self.encoder_width);
        (pairs < width as u64).then_some(FitWarning::FewerPairsThanDimensions { pairs, width })
    }

    /// Fits one map.
    ///
    /// Fails if λ' or the strength is not a number above 0, or if `spec` removes every direction or
    /// more directions than interventions moved.
    pub fn fit(&self, spec: &MapSpec) -> Result<Map, FitError> {
        let spectrum: Spectrum<f64> = self.spectrum(Objective::for_spec(spec))?;
        let weights = self.weights(spec, &spectrum)?;
        let columns = match spec.kind {
            MapKind::Identity => DMatrix::identity(self.width(), self.width()),
            MapKind::Hard { removed, .. } => spectrum
                .vectors
                .columns(0, self.width() - removed)
                .into_owned(),
            MapKind::Soft { .. } | MapKind::Whitened(_) => {
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

    /// The shares of variance that `map` removes.
    #[must_use]
    pub fn removed(&self, map: &Map) -> Removed {
        let between = &self.second - &self.mean * self.mean.transpose();
        Removed {
            interventions: 1.0 - map.kept_trace(&self.delta),
            images: 1.0 - map.kept_trace(&between),
        }
    }

    /// The share of the images' variance about their mean that each map removes, `0..=1`; [`Removed`]
    /// without fitting the maps. A map that cannot be fitted removes nothing here.
    pub(super) fn images_removed(&self, specs: &[MapSpec]) -> Result<Vec<f64>, FitError> {
        let between = &self.second - &self.mean * self.mean.transpose();
        let between = between.lower_triangle() + between.lower_triangle().transpose()
            - DMatrix::from_diagonal(&between.diagonal());
        // The images' variance along each direction of one objective's spectrum.
        let mut last: Option<(Objective, Spectrum<f64>, DVector<f64>)> = None;
        let mut shares = Vec::with_capacity(specs.len());
        for spec in specs {
            let objective = Objective::for_spec(spec);
            let (_, spectrum, variances) = match last.take() {
                Some(known) if known.0 == objective => last.insert(known),
                _ => {
                    let spectrum = self.spectrum(objective)?;
                    let along = product(&between, &spectrum.vectors);
                    let variances = along.component_mul(&spectrum.vectors).row_sum_tr();
                    last.insert((objective, spectrum, variances))
                }
            };
            let kept = match self.weights(spec, spectrum) {
                Ok(weights) => weights.component_mul(&weights).dot(variances),
                Err(_) => variances.sum(),
            };
            shares.push(1.0 - kept / variances.sum().max(f64::MIN_POSITIVE));
        }
        Ok(shares)
    }

    /// μ, `[D]`; zeros if the map is not centred.
    pub(super) fn mean_of(&self, spec: &MapSpec) -> DVector<f64> {
        if spec.centred {
            self.mean.clone()
        } else {
            DVector::zeros(self.width())
        }
    }

    pub(super) fn spectrum<T: Real>(&self, objective: Objective) -> Result<Spectrum<T>, FitError> {
        let matrix: DMatrix<f64> = match objective {
            Objective::Whitened(strengths) => {
                let covariances = self.covariances.as_ref().ok_or(FitError::NoClasses)?;
                return covariances.spectrum(strengths);
            }
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

    /// The weight `0..=1` that the map gives each direction of the spectrum, `[D]`. Every map is
    /// V·diag(w)·Vᵀ up to a rotation, which leaves cosines unchanged.
    pub(super) fn weights<T: Real>(
        &self,
        spec: &MapSpec,
        spectrum: &Spectrum<T>,
    ) -> Result<DVector<T>, FitError> {
        let width = self.width();
        match spec.kind {
            MapKind::Identity => Ok(DVector::repeat(width, T::one())),
            MapKind::Hard { removed, .. } if removed >= self.encoder_width => {
                Err(FitError::TooMany {
                    removed,
                    width: self.encoder_width,
                    most: self.encoder_width - 1,
                })
            }
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
            MapKind::Whitened(_) => Ok(spectrum.values.map(|value| {
                let variance = (-T::in_f64(value)).max(0.0);
                nalgebra::convert((1.0 + variance).sqrt().recip())
            })),
            MapKind::Soft { strength } => Ok(spectrum.values.map(|value| {
                // The spectrum is that of −Δ / tr Δ; rounding may push a variance just below 0.
                let scaled = (-T::in_f64(value) * self.encoder_width as f64).max(0.0);
                nalgebra::convert((1.0 + strength * scaled).sqrt().recip())
            })),
        }
    }
}

/// Shares of variance that a map removes, `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Removed {
    /// Share of the variance that interventions cause, tr Δ.
    pub interventions: f64,
    /// Share of the images' variance about their mean.
    pub images: f64,
}

/// The number of directions in −Δ's spectrum that interventions moved.
fn moved_directions<T: Real>(spectrum: &Spectrum<T>) -> usize {
    let least = spectrum.values.min() * nalgebra::convert::<f64, T>(T::RANK_TOLERANCE);
    spectrum
        .values
        .iter()
        .filter(|&&value| value < least)
        .count()
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
        // Next to a family that moves something, it does no harm.
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
    fn removed_variance_is_reported_in_shares() {
        let mut moments = Moments::new("aa", 3);
        // Images differ in the first two axes, interventions move the third, and the second a
        // little.
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
        // δ = (0.2, 0, −0.6) and the others lie almost wholly along the third axis.
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
    fn removed_variance_is_what_embeddings_lose() {
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
            let share = fitter.images_removed(&[spec]).unwrap()[0];
            assert!((share - removed.images).abs() < 1e-9, "{spec}: {share}");
        }
    }
}
