//! Embeddings checked once: finite, of one width, scaled to unit length, in f64.

use nalgebra::{DMatrix, DVector};
use thiserror::Error;

/// What is wrong with an embedding; `item` names the image or row it came from.
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

/// Checks an embedding `[width]` of any length and scales it to unit length.
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

/// Unit embeddings `[D, n]`, one column per image.
///
/// ```
/// use constancy_core::icm::Embeddings;
///
/// let rows = [vec![3.0, 4.0], vec![0.0, 2.0]];
/// let embeddings = Embeddings::new(2, &rows, |i| format!("{i}.jpg"))?;
/// assert_eq!((embeddings.len(), embeddings.width()), (2, 2));
/// assert!((embeddings.columns()[(0, 0)] - 0.6).abs() < 1e-12);
///
/// let error = Embeddings::new(2, &[vec![0.0, 0.0]], |i| format!("{i}.jpg")).unwrap_err();
/// assert!(error.to_string().starts_with("0.jpg: "));
/// # Ok::<(), constancy_core::icm::EmbeddingError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    columns: DMatrix<f64>,
}

impl Embeddings {
    /// Checks embeddings `rows[image][width]` of any length; `name` names the image in an error.
    pub fn new(
        width: usize,
        rows: &[Vec<f32>],
        name: impl Fn(usize) -> String,
    ) -> Result<Self, EmbeddingError> {
        let mut columns = DMatrix::zeros(width, rows.len());
        for (i, row) in rows.iter().enumerate() {
            // `name` is called only for a row that is refused.
            let z = checked_unit("", row, width).or_else(|_| checked_unit(&name(i), row, width))?;
            columns.set_column(i, &z);
        }
        Ok(Self { columns })
    }

    /// Takes unit columns `[D, n]` as they are.
    pub(super) fn from_unit_columns(columns: DMatrix<f64>) -> Self {
        Self { columns }
    }

    /// The embeddings after `map`, which gives unit vectors of `width` values.
    pub(super) fn mapped(&self, width: usize, map: impl Fn(&[f32]) -> Vec<f32>) -> Self {
        let mut columns = DMatrix::zeros(width, self.len());
        let rows = self.columns_f32();
        for (mut column, row) in columns.column_iter_mut().zip(rows.column_iter()) {
            let mapped = map(&row.iter().copied().collect::<Vec<f32>>());
            for (value, mapped) in column.iter_mut().zip(mapped) {
                *value = f64::from(mapped);
            }
        }
        Self { columns }
    }

    /// The number of embeddings, n.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.ncols()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The embeddings' width, D.
    #[must_use]
    pub fn width(&self) -> usize {
        self.columns.nrows()
    }

    /// The unit columns `[D, n]` in f32, for comparing candidates.
    pub(super) fn columns_f32(&self) -> DMatrix<f32> {
        #[expect(clippy::cast_possible_truncation, reason = "they came in f32")]
        self.columns.map(|v| v as f32)
    }

    /// The embeddings in f32, `[n][D]`, of unit length.
    pub fn rows(&self) -> impl Iterator<Item = Vec<f32>> {
        let columns = self.columns_f32();
        (0..columns.ncols()).map(move |i| columns.column(i).iter().copied().collect())
    }

    /// The unit columns `[D, n]`.
    #[must_use]
    pub fn columns(&self) -> &DMatrix<f64> {
        &self.columns
    }

    /// The embeddings at `indices`, in that order.
    #[must_use]
    pub fn pick(&self, indices: &[usize]) -> Self {
        Self {
            columns: self.columns.select_columns(indices),
        }
    }
}
