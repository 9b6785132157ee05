//! The two covariances of a whitening in the directions where they are largest.

use super::{MAX_RANK, Strengths, Whitening};
use crate::icm::labelled::{Labelled, SAME_CLASS};
use crate::icm::linalg::{product, transposed_product};
use crate::icm::moments::Moments;
use crate::icm::spectrum::Spectrum;
use nalgebra::{DMatrix, DVector};

/// Δ̃ and S̃ of labelled images, in the 128 leading directions of their sum.
pub struct Covariances {
    /// U, `[k, r]`, orthonormal.
    pub(super) basis: DMatrix<f64>,
    /// Uᵀ Δ̃ U, `[r, r]`; zeros without interventions.
    delta: DMatrix<f64>,
    /// Uᵀ S̃ U, `[r, r]`; zeros where no class has two images.
    within: DMatrix<f64>,
    pub(super) has_interventions: bool,
    pub(super) has_classes: bool,
}

impl Covariances {
    /// The covariances of `images` and of all their versions under interventions; `None` if nothing
    /// moves: no class has two different images, and there are no interventions.
    #[must_use]
    pub fn of(images: &Labelled) -> Option<Self> {
        let moments = images.clone().with_same_class(true).moments("");
        Self::of_moments(&moments, |_| true)
    }

    /// The covariances of moments that have [`SAME_CLASS`], with the families that `wanted` accepts.
    pub(super) fn of_moments(moments: &Moments, wanted: impl Fn(&str) -> bool) -> Option<Self> {
        let width = moments.width();
        let families = moments.families().into_keys();
        let deltas: Vec<DMatrix<f64>> = families
            .filter(|family| family != SAME_CLASS && wanted(family))
            .filter_map(|family| normalised(&moments.delta(&family)?))
            .collect();
        let delta =
            (!deltas.is_empty()).then(|| deltas.iter().sum::<DMatrix<f64>>() / deltas.len() as f64);
        let within = moments.delta(SAME_CLASS).and_then(|s| normalised(&s));
        let sum = match (&delta, &within) {
            (Some(delta), Some(within)) => delta + within,
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => return None,
        };
        let rank = MAX_RANK.min(width);
        let basis = Spectrum::of(&sum)?.vectors.columns(0, rank).into_owned();
        let within_basis = |matrix: &Option<DMatrix<f64>>| match matrix {
            Some(matrix) => transposed_product(&basis, &product(matrix, &basis)),
            None => DMatrix::zeros(rank, rank),
        };
        Some(Self {
            delta: within_basis(&delta),
            within: within_basis(&within),
            basis,
            has_interventions: delta.is_some(),
            has_classes: within.is_some(),
        })
    }

    /// The directions of `W` in the basis, `[r, r]`, and the weight `0..=1` of each, `[r]`.
    pub(super) fn weights(&self, strengths: Strengths) -> Option<(DMatrix<f64>, DVector<f64>)> {
        let sum = &self.delta * strengths.interventions + &self.within * strengths.within_class;
        let spectrum: Spectrum<f64> = Spectrum::of(&sum)?;
        let weights = spectrum.values.map(|v| (1.0 + v.max(0.0)).sqrt().recip());
        Some((spectrum.vectors, weights))
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

/// `D·M / tr M`, whose eigenvalues have the mean 1; `None` if M has no trace.
fn normalised(matrix: &DMatrix<f64>) -> Option<DMatrix<f64>> {
    let trace = matrix.trace();
    (trace > 0.0).then(|| matrix * (matrix.nrows() as f64 / trace))
}
