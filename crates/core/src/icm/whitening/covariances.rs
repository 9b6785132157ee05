//! The two covariances of a whitening in the directions where they are largest.

use super::{MAX_RANK, Strengths, Whitening};
use crate::icm::fit::FitError;
use crate::icm::linalg::{Real, product, transposed_product};
use crate::icm::moments::{Moments, SAME_CLASS};
use crate::icm::pooled_moments::PooledMoments;
use crate::icm::spectrum::Spectrum;
use nalgebra::{DMatrix, DVector};

/// Δ̃ and S̃ of labelled images, in the 128 leading directions of their sum.
#[derive(Debug, Clone)]
pub struct Covariances {
    /// U, `[k, r]`, orthonormal.
    pub(super) basis: DMatrix<f64>,
    /// The directions at right angles to U, `[k, k − r]`, orthonormal.
    others: DMatrix<f64>,
    /// Uᵀ Δ̃ U, `[r, r]`; zeros without interventions.
    delta: DMatrix<f64>,
    /// Uᵀ S̃ U, `[r, r]`; zeros where no class has two images.
    within: DMatrix<f64>,
    pub(super) has_interventions: bool,
    pub(super) has_classes: bool,
}

impl Covariances {
    /// The covariances of moments, within classes if they have [`SAME_CLASS`]; `None` if nothing
    /// moves.
    #[must_use]
    pub fn of_moments(moments: &Moments) -> Option<Self> {
        Self::pooled(PooledMoments(&[moments]), moments.width(), |_| true)
    }

    /// The covariances of pooled moments that have [`SAME_CLASS`], with the families that `wanted`
    /// accepts. `encoder_width` is the D of Δ̃ and S̃ where the moments are in fewer coordinates.
    pub(in crate::icm) fn pooled(
        moments: PooledMoments<'_>,
        encoder_width: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let covariance = |wanted: &dyn Fn(&str) -> bool| {
            let (mut sum, _) = moments.sum_of_deltas(wanted)?;
            let trace = sum.trace();
            sum.fill_upper_triangle_with_lower_triangle();
            (trace > 0.0).then(|| sum * (encoder_width as f64 / trace))
        };
        let delta = covariance(&|family| family != SAME_CLASS && wanted(family));
        let within = covariance(&|family| family == SAME_CLASS);
        let sum = match (&delta, &within) {
            (Some(delta), Some(within)) => delta + within,
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => return None,
        };
        let (width, rank) = (sum.nrows(), MAX_RANK.min(sum.nrows()));
        let vectors = Spectrum::of(&sum)?.vectors;
        let basis = vectors.columns(0, rank).into_owned();
        let within_basis = |matrix: &Option<DMatrix<f64>>| match matrix {
            Some(matrix) => transposed_product(&basis, &product(matrix, &basis)),
            None => DMatrix::zeros(rank, rank),
        };
        Some(Self {
            delta: within_basis(&delta),
            within: within_basis(&within),
            others: vectors.columns(rank, width - rank).into_owned(),
            basis,
            has_interventions: delta.is_some(),
            has_classes: within.is_some(),
        })
    }

    /// The directions of `W` in the basis, `[r, r]`, and the variance a·Δ̃ + b·S̃ along each, `[r]`,
    /// largest first.
    fn variances(&self, strengths: Strengths) -> Option<Spectrum<f64>> {
        Spectrum::of(
            &(&self.delta * strengths.interventions + &self.within * strengths.within_class),
        )
    }

    /// The directions of `W` in the basis, `[r, r]`, and the weight `0..=1` of each, `[r]`.
    pub(super) fn weights(&self, strengths: Strengths) -> Option<(DMatrix<f64>, DVector<f64>)> {
        let spectrum = self.variances(strengths)?;
        let weights = spectrum.values.map(|v| (1.0 + v.max(0.0)).sqrt().recip());
        Some((spectrum.vectors, weights))
    }

    /// All directions of `W` and the eigenvalues of −(a·Δ̃ + b·S̃), largest first: zeros for those
    /// that `W` leaves as they are.
    pub(in crate::icm) fn spectrum<T: Real>(
        &self,
        strengths: Strengths,
    ) -> Result<Spectrum<T>, FitError> {
        if strengths.within_class > 0.0 && !self.has_classes {
            return Err(FitError::NoClasses);
        }
        let inside = self.variances(strengths).ok_or(FitError::NotConverged)?;
        let turned = product(&self.basis, &inside.vectors);
        let (rank, untouched) = (turned.ncols(), self.others.ncols());
        let last = untouched + rank - 1;
        let vectors = DMatrix::from_fn(turned.nrows(), untouched + rank, |row, column| {
            nalgebra::convert(if column < untouched {
                self.others[(row, column)]
            } else {
                turned[(row, last - column)]
            })
        });
        let values = DVector::from_fn(untouched + rank, |i, _| {
            nalgebra::convert(if i < untouched {
                0.0
            } else {
                -inside.values[last - i].max(0.0)
            })
        });
        Ok(Spectrum { values, vectors })
    }

    /// The map; `None` if the eigenvalue solver does not converge.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "images are embedded in f32"
    )]
    pub fn whitening(&self, strengths: Strengths) -> Option<Whitening> {
        let (vectors, weights) = self.weights(strengths)?;
        Some(Whitening {
            basis: product(&self.basis, &vectors).map(|v| v as f32),
            shrink: weights.map(|w| (1.0 - w) as f32),
        })
    }
}
