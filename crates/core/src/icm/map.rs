//! A fitted map in f64, and its application to embeddings.

use super::embeddings::Embeddings;
use super::linalg::{transposed_product, unit_columns};
use super::spec::MapSpec;
use nalgebra::{DMatrix, DVector};

/// A fitted map, in f64: z ↦ Aᵀ(z − μ), scaled to unit length.
#[derive(Debug, Clone)]
pub struct Map {
    pub(super) spec: MapSpec,
    /// A: `[D, k]` with orthonormal columns, or symmetric `[D, D]` for a soft map.
    pub(super) columns: DMatrix<f64>,
    /// μ, `[D]`.
    pub(super) mean: DVector<f64>,
    /// Eigenvalues `[D]` of the matrix whose trace was maximised, largest first.
    pub(super) eigenvalues: DVector<f64>,
}

impl Map {
    /// The spec that the map was fitted to.
    #[must_use]
    pub fn spec(&self) -> &MapSpec {
        &self.spec
    }

    /// A: `[D, k]` with orthonormal columns, or symmetric `[D, D]` for a soft map.
    #[must_use]
    pub fn columns(&self) -> &DMatrix<f64> {
        &self.columns
    }

    /// μ, the mean `[D]` that is subtracted first; zeros if the map is not centred.
    #[must_use]
    pub fn mean(&self) -> &DVector<f64> {
        &self.mean
    }

    /// Eigenvalues `[D]` of the matrix whose trace was maximised, largest first.
    #[must_use]
    pub fn eigenvalues(&self) -> &DVector<f64> {
        &self.eigenvalues
    }

    /// The invariant embeddings `[k, n]`, of unit length.
    #[must_use]
    pub fn apply(&self, embeddings: &Embeddings) -> DMatrix<f64> {
        self.apply_columns(embeddings.columns())
    }

    /// [`Self::apply`] for unit columns `[D, n]`.
    pub(super) fn apply_columns(&self, columns: &DMatrix<f64>) -> DMatrix<f64> {
        let mut centred = columns.clone();
        for mut column in centred.column_iter_mut() {
            column -= &self.mean;
        }
        unit_columns(transposed_product(&self.columns, &centred))
    }

    /// The share of the trace of a symmetric M `[D, D]` that the map keeps, tr AᵀMA / tr M; 1 if M
    /// has no trace. Reads the lower triangle only.
    pub(super) fn kept_trace(&self, lower: &DMatrix<f64>) -> f64 {
        let mut matrix = lower.clone();
        matrix.fill_upper_triangle_with_lower_triangle();
        let left = (&matrix * &self.columns).dot(&self.columns);
        let trace = matrix.trace();
        if trace > 0.0 { left / trace } else { 1.0 }
    }
}
