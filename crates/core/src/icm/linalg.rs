//! Matrix products through faer, in f64 and f32, and scaling of columns to unit length.
//!
//! nalgebra holds the matrices. Its own products are slower at these sizes, as noted at each
//! function.

use faer::linalg::matmul::{matmul, triangular, triangular::BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};
use nalgebra::DMatrix;
use std::ops::Range;

/// The scalar of a matrix: f64 for results that are kept, f32 for candidates that are only
/// compared.
pub(crate) trait Real: nalgebra::RealField + faer::traits::RealField + Copy {
    /// An eigenvalue of Δ below this share of the largest is rounding error: no intervention moved
    /// anything in that direction.
    const RANK_TOLERANCE: f64;

    fn in_f64(self) -> f64;
}

impl Real for f64 {
    const RANK_TOLERANCE: f64 = 1e-12;

    fn in_f64(self) -> f64 {
        self
    }
}

impl Real for f32 {
    const RANK_TOLERANCE: f64 = 1e-5;

    fn in_f64(self) -> f64 {
        self.into()
    }
}

/// `aᵀ b`. nalgebra's `tr_mul` computes one dot product after another, which is ten times slower at
/// these sizes than a blocked product.
pub(super) fn transposed_product<T: Real>(a: &DMatrix<T>, b: &DMatrix<T>) -> DMatrix<T> {
    let mut product = DMatrix::zeros(a.ncols(), b.ncols());
    add_transposed_product(&mut product, T::one(), a, b, 0..a.nrows());
    product
}

/// The lower triangle of `aᵀ a`, with zeros above it.
pub(crate) fn gram<T: Real>(a: &DMatrix<T>) -> DMatrix<T> {
    let mut gram = DMatrix::zeros(a.ncols(), a.ncols());
    add_outer_products(&mut gram, view(a).transpose(), T::one());
    gram
}

/// Adds `factor`·Σv vᵀ over the columns v of `vectors` `[D, n]` to the lower triangle of `sum`
/// `[D, D]`.
pub(super) fn add_outer_products<T: Real>(sum: &mut DMatrix<T>, vectors: MatRef<'_, T>, factor: T) {
    let width = sum.nrows();
    let sum = MatMut::from_column_major_slice_mut(sum.as_mut_slice(), width, width);
    let (lower, all) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    triangular::matmul(
        sum,
        lower,
        Accum::Add,
        vectors,
        all,
        vectors.transpose(),
        all,
        factor,
        Par::Seq,
    );
}

/// `a b`. nalgebra's product packs `a` and `b` on every call, which costs more than the product
/// itself when one of them has few rows or columns.
pub(crate) fn product<T: Real>(a: &DMatrix<T>, b: &DMatrix<T>) -> DMatrix<T> {
    let (height, width) = (a.nrows(), b.ncols());
    let mut product = DMatrix::zeros(height, width);
    let sum = MatMut::from_column_major_slice_mut(product.as_mut_slice(), height, width);
    matmul(sum, Accum::Replace, view(a), view(b), T::one(), Par::Seq);
    product
}

/// Adds `factor`·`aᵀ b`, restricted to `rows` of both, to `sum`.
pub(super) fn add_transposed_product<T: Real>(
    sum: &mut DMatrix<T>,
    factor: T,
    a: &DMatrix<T>,
    b: &DMatrix<T>,
    rows: Range<usize>,
) {
    let (height, width) = sum.shape();
    let (a, b) = (
        view(a).subrows(rows.start, rows.len()),
        view(b).subrows(rows.start, rows.len()),
    );
    let sum = MatMut::from_column_major_slice_mut(sum.as_mut_slice(), height, width);
    matmul(sum, Accum::Add, a.transpose(), b, factor, Par::Seq);
}

fn view<T: Real>(matrix: &DMatrix<T>) -> MatRef<'_, T> {
    MatRef::from_column_major_slice(matrix.as_slice(), matrix.nrows(), matrix.ncols())
}

/// Scales every column to unit length; a column of zeros stays zero.
pub(super) fn unit_columns<T: Real>(mut matrix: DMatrix<T>) -> DMatrix<T> {
    for mut column in matrix.column_iter_mut() {
        let norm = column.norm();
        if norm > T::zero() {
            column /= norm;
        }
    }
    matrix
}
