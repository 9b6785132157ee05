//! Embeddings that were checked once: finite, of one width, scaled to unit length, in f64.

use faer::linalg::matmul::{matmul, triangular, triangular::BlockStructure};
use faer::{Accum, MatMut, MatRef, Par};
use nalgebra::{DMatrix, DVector};
use std::ops::Range;
use thiserror::Error;

/// What is wrong with an embedding; `item` is the image or the row that it came from.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EmbeddingError {
    #[error(
        "{item}: its embedding holds a value that is not a finite number; leave the image out, or check the model"
    )]
    NotFinite { item: String },
    #[error("{item}: its embedding has length 0; leave the image out, or check the model")]
    Zero { item: String },
    #[error(
        "{item}: its embedding has {found} values, expected {width}; embed all images with one model"
    )]
    Width {
        item: String,
        found: usize,
        width: usize,
    },
}

/// An embedding `[width]` of any length, scaled to length 1.
pub(super) fn checked_unit(
    item: &str,
    embedding: &[f32],
    width: usize,
) -> Result<DVector<f64>, EmbeddingError> {
    if embedding.len() != width {
        return Err(EmbeddingError::Width {
            item: item.into(),
            found: embedding.len(),
            width,
        });
    }
    if embedding.iter().any(|v| !v.is_finite()) {
        return Err(EmbeddingError::NotFinite { item: item.into() });
    }
    let z = DVector::from_iterator(width, embedding.iter().map(|&v| f64::from(v)));
    let norm = z.norm();
    if norm == 0.0 {
        Err(EmbeddingError::Zero { item: item.into() })
    } else {
        Ok(z / norm)
    }
}

/// The numbers that matrices are made of: f64 where results are kept, f32 where candidates are only compared.
pub(super) trait Real: nalgebra::RealField + faer::traits::RealField + Copy {
    /// Eigenvalues of Δ below this share of the largest are rounding: no intervention moved anything there.
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

/// `aᵀ b`. nalgebra's own `tr_mul` takes one dot product after another, which is ten times slower at these sizes than
/// to multiply in blocks.
pub(super) fn transposed_product<T: Real>(a: &DMatrix<T>, b: &DMatrix<T>) -> DMatrix<T> {
    let mut product = DMatrix::zeros(a.ncols(), b.ncols());
    add_transposed_product(&mut product, T::one(), a, b, 0..a.nrows());
    product
}

/// The lower triangle of `aᵀ a`; zeros above it.
pub(super) fn gram<T: Real>(a: &DMatrix<T>) -> DMatrix<T> {
    let mut gram = DMatrix::zeros(a.ncols(), a.ncols());
    add_products(&mut gram, view(a).transpose(), T::one());
    gram
}

/// Adds `share`·Σv vᵀ over vectors, `[D, n]`, to the lower triangle of a sum, `[D, D]`.
pub(super) fn add_products<T: Real>(lower: &mut DMatrix<T>, vectors: MatRef<'_, T>, share: T) {
    let width = lower.nrows();
    let sum = MatMut::from_column_major_slice_mut(lower.as_mut_slice(), width, width);
    let (half, all) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    triangular::matmul(
        sum,
        half,
        Accum::Add,
        vectors,
        all,
        vectors.transpose(),
        all,
        share,
        Par::Seq,
    );
}

/// `a b`. nalgebra's own product packs `a` and `b` anew, which costs more than the product where one has few rows or
/// columns.
pub(super) fn product<T: Real>(a: &DMatrix<T>, b: &DMatrix<T>) -> DMatrix<T> {
    let (height, width) = (a.nrows(), b.ncols());
    let mut product = DMatrix::zeros(height, width);
    let sum = MatMut::from_column_major_slice_mut(product.as_mut_slice(), height, width);
    matmul(sum, Accum::Replace, view(a), view(b), T::one(), Par::Seq);
    product
}

/// Adds `factor`·`aᵀ b` to `sum`, over the `rows` of both.
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

/// Every column scaled to length 1; a column of zeros stays.
pub(super) fn unit_columns<T: Real>(mut matrix: DMatrix<T>) -> DMatrix<T> {
    for mut column in matrix.column_iter_mut() {
        let norm = column.norm();
        if norm > T::zero() {
            column /= norm;
        }
    }
    matrix
}

/// Unit embeddings `[D, n]`: one column per image.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    pub(super) columns: DMatrix<f64>,
}

impl Embeddings {
    /// Checks embeddings `rows[image][width]` of any length; `name` tells an error's reader which image it was.
    pub fn new(
        width: usize,
        rows: &[Vec<f32>],
        name: impl Fn(usize) -> String,
    ) -> Result<Self, EmbeddingError> {
        let mut columns = DMatrix::zeros(width, rows.len());
        for (i, row) in rows.iter().enumerate() {
            // The name is made only for the row that needs it.
            let z = checked_unit("", row, width).or_else(|_| checked_unit(&name(i), row, width))?;
            columns.set_column(i, &z);
        }
        Ok(Self { columns })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.ncols()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// D.
    #[must_use]
    pub fn width(&self) -> usize {
        self.columns.nrows()
    }

    /// `[D, n]` in f32, for what is only compared.
    pub(super) fn rough(&self) -> DMatrix<f32> {
        #[expect(clippy::cast_possible_truncation, reason = "they came in f32")]
        self.columns.map(|v| v as f32)
    }

    /// `[D, n]`.
    #[must_use]
    pub fn columns(&self) -> &DMatrix<f64> {
        &self.columns
    }

    /// Those at `indices`, in that order.
    #[must_use]
    pub fn pick(&self, indices: &[usize]) -> Self {
        Self {
            columns: self.columns.select_columns(indices),
        }
    }
}
