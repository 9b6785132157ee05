//! Linear systems with symmetric positive definite matrices, and the span of few vectors.

use super::linalg::{Real, gram, product, transposed_product};
use faer::linalg::solvers::{Llt, Solve};
use faer::{MatMut, MatRef, Side};
use nalgebra::DMatrix;

/// Ridge added to the diagonal of a Gram matrix, as a share of its mean: some of the vectors may be
/// equal.
const RIDGE: f64 = 1e-5;

/// The Cholesky factor of `M = L Lᵀ`.
pub(super) struct Cholesky<T: Real>(Llt<T>);

impl<T: Real> Cholesky<T> {
    /// Factorises a symmetric `[k, k]` matrix, reading only its lower triangle; `None` if it is not
    /// positive definite.
    pub(super) fn of(matrix: &DMatrix<T>) -> Option<Self> {
        let width = matrix.nrows();
        let view = MatRef::from_column_major_slice(matrix.as_slice(), width, width);
        Llt::new(view, Side::Lower).ok().map(Self)
    }

    /// `M⁻¹ b`, `[k, n]`.
    pub(super) fn solve(&self, mut b: DMatrix<T>) -> DMatrix<T> {
        let (height, width) = b.shape();
        self.0.solve_in_place(MatMut::from_column_major_slice_mut(
            b.as_mut_slice(),
            height,
            width,
        ));
        b
    }

    /// L, `[k, k]`.
    fn lower(&self) -> DMatrix<T> {
        let lower = self.0.L();
        DMatrix::from_fn(lower.nrows(), lower.ncols(), |i, j| {
            if i < j { T::zero() } else { lower[(i, j)] }
        })
    }
}

/// Coordinates in the span of the n columns of X `[k, n]`, n < k: `X = Q Lᵀ` with orthonormal Q
/// `[k, n]`, and `XᵀX = L Lᵀ`.
pub(super) struct Span<T: Real> {
    gram: Cholesky<T>,
    /// L, `[n, n]`.
    lower: DMatrix<T>,
}

impl<T: Real> Span<T> {
    /// `None` if X has as many columns as rows or more, or holds a value that is not a number.
    pub(super) fn of(x: &DMatrix<T>) -> Option<Self> {
        if x.ncols() >= x.nrows() || x.is_empty() {
            return None;
        }
        let mut gram = gram(x);
        let ridge: T = gram.trace() * nalgebra::convert::<f64, T>(RIDGE / x.ncols() as f64);
        (0..gram.nrows()).for_each(|i| gram[(i, i)] += ridge);
        let gram = Cholesky::of(&gram)?;
        Some(Self {
            lower: gram.lower(),
            gram,
        })
    }

    /// The columns of X in these coordinates, Lᵀ, `[n, n]`.
    pub(super) fn examples(&self) -> DMatrix<T> {
        self.lower.transpose()
    }

    /// Rows W `[r, k]` in these coordinates, `[r, n]`: W Q = W X L⁻ᵀ, by M⁻¹ = L⁻ᵀ L⁻¹.
    pub(super) fn compress(&self, x: &DMatrix<T>, rows: &DMatrix<f64>) -> DMatrix<f64> {
        let products = transposed_product(x, &rows.transpose().map(nalgebra::convert));
        product(&self.examples(), &self.gram.solve(products))
            .transpose()
            .map(Real::in_f64)
    }

    /// Rows B `[r, n]` of these coordinates as rows `[r, k]`: B Qᵀ = B L⁻¹ Xᵀ.
    pub(super) fn expand(&self, x: &DMatrix<T>, rows: &DMatrix<f64>) -> DMatrix<f64> {
        let rows: DMatrix<T> = rows.transpose().map(nalgebra::convert);
        let shares = self.gram.solve(product(&self.lower, &rows));
        product(x, &shares).transpose().map(Real::in_f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(height: usize, width: usize) -> DMatrix<f64> {
        let mut rng = crate::numeric::Rng::new(7);
        DMatrix::from_fn(height, width, |_, _| f64::from(rng.between(-1.0, 1.0)))
    }

    #[test]
    fn solutions_satisfy_the_system() {
        let x = columns(9, 6);
        let matrix = transposed_product(&x, &x);
        let b = columns(6, 2);
        let solved = Cholesky::of(&matrix).unwrap().solve(b.clone());
        assert!((matrix * solved - b).amax() < 1e-10);
        assert!(Cholesky::of(&-DMatrix::<f64>::identity(3, 3)).is_none());
    }

    #[test]
    fn a_span_keeps_dot_products_and_expands_back() {
        let x = columns(40, 6);
        let span = Span::of(&x).unwrap();
        let inner = span.examples();
        assert!(
            (inner.tr_mul(&inner) - x.tr_mul(&x)).amax() < 1e-3,
            "but for the ridge"
        );
        let weights = columns(6, 3).transpose() * x.transpose();
        let compressed = span.compress(&x, &weights);
        assert!((&compressed * &inner - &weights * &x).amax() < 1e-3 * weights.amax());
        assert!((span.expand(&x, &compressed) - &weights).amax() < 1e-3 * weights.amax());
        assert!(Span::of(&columns(6, 6)).is_none());
    }
}
