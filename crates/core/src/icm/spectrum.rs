//! Eigenvectors of symmetric matrices, always with the largest eigenvalue first.

use super::linalg::{Real, transposed_product};
use nalgebra::{DMatrix, DVector};
use std::cmp::Ordering;

/// All eigenvalues and eigenvectors of a symmetric matrix, the LARGEST first. Maps that are kept
/// are computed in f64; f32 takes less than half the time and is enough to compare candidates.
#[derive(Debug, Clone)]
pub(crate) struct Spectrum<T: Real> {
    /// `[D]`, in descending order.
    pub values: DVector<T>,
    /// `[D, D]`, one column per value, orthonormal.
    pub vectors: DMatrix<T>,
}

impl<T: Real> Spectrum<T> {
    /// Decomposes a symmetric `[D, D]` matrix, reading only its lower triangle; `None` if the
    /// iteration does not converge. The largest entry of each eigenvector is made positive, because
    /// the sign is the solver's choice and files must not depend on it.
    pub(crate) fn of(matrix: &DMatrix<T>) -> Option<Self> {
        let width = matrix.nrows();
        let view = faer::MatRef::from_column_major_slice(matrix.as_slice(), width, width);
        let solved = view.self_adjoint_eigen(faer::Side::Lower).ok()?;
        let (values, vectors) = (solved.S().column_vector(), solved.U());
        // The solver returns ascending eigenvalues. Its first columns would be the variant
        // subspace.
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| values[b].partial_cmp(&values[a]).unwrap_or(Ordering::Equal));
        let mut sorted =
            DMatrix::from_fn(width, width, |row, column| vectors[(row, order[column])]);
        for mut column in sorted.column_iter_mut() {
            if column[column.iamax()] < T::zero() {
                column.neg_mut();
            }
        }
        Some(Self {
            values: DVector::from_fn(width, |i, _| values[order[i]]),
            vectors: sorted,
        })
    }

    /// The coordinates `[D, n]` of columns `[D, n]` in the basis of the eigenvectors.
    pub(super) fn coordinates(&self, columns: &DMatrix<T>) -> DMatrix<T> {
        transposed_product(&self.vectors, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_eigenvalue_comes_first() {
        let matrix =
            DMatrix::<f64>::from_row_slice(3, 3, &[2.0, 0.0, 0.0, 0.0, -5.0, 0.0, 0.0, 0.0, 7.0]);
        let spectrum = Spectrum::of(&matrix).unwrap();
        assert!((spectrum.values - DVector::from_row_slice(&[7.0, 2.0, -5.0])).amax() < 1e-12);
        assert_eq!(spectrum.vectors.column(0).as_slice(), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn eigenvectors_reconstruct_the_matrix() {
        let mut rng = crate::numeric::Rng::new(3);
        let half = DMatrix::from_fn(40, 40, |_, _| f64::from(rng.between(-1.0, 1.0)));
        let matrix = &half * half.transpose();
        let Spectrum { values, vectors } = Spectrum::of(&matrix).unwrap();
        assert!(
            (&vectors * DMatrix::from_diagonal(&values) * vectors.transpose() - matrix).amax()
                < 1e-10
        );
        assert!((vectors.tr_mul(&vectors) - DMatrix::identity(40, 40)).amax() < 1e-12);
        assert!(vectors.column_iter().all(|v| v[v.iamax()] > 0.0));
    }
}
