//! Embeddings that were checked once: finite, of one width, scaled to unit length, in f64.

use nalgebra::{DMatrix, DVector};
use thiserror::Error;

/// What is wrong with an embedding; `item` is the image or the row that it came from.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EmbeddingError {
    #[error("{item}: its embedding holds a value that is not a finite number; leave the image out, or check the model")]
    NotFinite { item: String },
    #[error("{item}: its embedding has length 0; leave the image out, or check the model")]
    Zero { item: String },
    #[error("{item}: its embedding has {found} values, expected {width}; embed all images with one model")]
    Width { item: String, found: usize, width: usize },
}

/// An embedding `[width]` of any length, scaled to length 1.
pub(super) fn checked_unit(item: &str, embedding: &[f32], width: usize) -> Result<DVector<f64>, EmbeddingError> {
    if embedding.len() != width {
        return Err(EmbeddingError::Width { item: item.into(), found: embedding.len(), width });
    }
    if embedding.iter().any(|v| !v.is_finite()) {
        return Err(EmbeddingError::NotFinite { item: item.into() });
    }
    let z = DVector::from_iterator(width, embedding.iter().map(|&v| f64::from(v)));
    let norm = z.norm();
    if norm == 0.0 { Err(EmbeddingError::Zero { item: item.into() }) } else { Ok(z / norm) }
}

/// `aᵀ b`. nalgebra's own `tr_mul` takes one dot product after another, which is ten times slower at these sizes than
/// to turn `a` and multiply in blocks.
pub(super) fn transposed_product(a: &DMatrix<f64>, b: &DMatrix<f64>) -> DMatrix<f64> {
    a.transpose() * b
}

/// Every column scaled to length 1; a column of zeros stays.
pub(super) fn unit_columns(mut matrix: DMatrix<f64>) -> DMatrix<f64> {
    for mut column in matrix.column_iter_mut() {
        let norm = column.norm();
        if norm > 0.0 {
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
    pub fn new(width: usize, rows: &[Vec<f32>], name: impl Fn(usize) -> String) -> Result<Self, EmbeddingError> {
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

    /// `[D, n]`.
    #[must_use]
    pub fn columns(&self) -> &DMatrix<f64> {
        &self.columns
    }

    /// Those at `indices`, in that order.
    #[must_use]
    pub fn pick(&self, indices: &[usize]) -> Self {
        Self { columns: self.columns.select_columns(indices) }
    }
}
