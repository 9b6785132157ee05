//! Running sums Σv and Σv vᵀ over a stream of vectors.

use super::linalg::add_outer_products;
use faer::MatRef;
use nalgebra::{DMatrix, DVector};

/// Vectors buffered before their outer products are summed: one matrix product is faster than many
/// vector products.
const BLOCK: usize = 128;

/// Σv and Σv vᵀ over vectors of one width D.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    pub count: u64,
    /// Σv, `[D]`.
    pub first: DVector<f64>,
    /// The lower triangle of Σv vᵀ, `[D, D]`, without the pending vectors.
    pub lower: DMatrix<f64>,
    /// Up to [`BLOCK`] vectors, one after another.
    pub pending: Vec<f64>,
}

impl Sums {
    pub(super) fn new(width: usize) -> Self {
        Self {
            count: 0,
            first: DVector::zeros(width),
            lower: DMatrix::zeros(width, width),
            pending: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, vector: &DVector<f64>) {
        self.count += 1;
        self.first += vector;
        self.pending.extend_from_slice(vector.as_slice());
        if self.pending.len() >= BLOCK * vector.len() {
            self.flush();
        }
    }

    /// Adds columns `[D, n]`.
    pub(super) fn add_columns(&mut self, columns: &DMatrix<f64>) {
        self.count += columns.ncols() as u64;
        self.first += columns.column_sum();
        add_vectors(&mut self.lower, columns.as_slice(), 1.0);
    }

    pub(super) fn flush(&mut self) {
        add_vectors(&mut self.lower, &self.pending, 1.0);
        self.pending.clear();
    }

    /// The lower triangle of Σv vᵀ over all vectors.
    fn whole_lower(&self) -> DMatrix<f64> {
        let mut whole = self.lower.clone();
        add_vectors(&mut whole, &self.pending, 1.0);
        whole
    }

    /// Σv vᵀ over all vectors.
    pub(super) fn second(&self) -> DMatrix<f64> {
        let mut whole = self.whole_lower();
        whole.fill_upper_triangle_with_lower_triangle();
        whole
    }

    /// Σ‖v‖².
    pub(super) fn trace(&self) -> f64 {
        self.lower.trace() + self.pending.iter().map(|v| v * v).sum::<f64>()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.first += &other.first;
        self.lower += &other.lower;
        add_vectors(&mut self.lower, &other.pending, 1.0);
    }

    /// The upper triangle of Σv vᵀ, row by row: [`triangle_len`] values.
    pub(super) fn triangle(&self) -> Vec<f64> {
        let lower = self.whole_lower();
        (0..lower.ncols())
            .flat_map(|i| lower.column(i).as_slice()[i..].to_vec())
            .collect()
    }

    /// Rebuilds the sums from `count`, Σv and [`Self::triangle`].
    pub(super) fn from_parts(count: u64, first: &[f64], triangle: &[f64]) -> Self {
        let width = first.len();
        let mut lower = DMatrix::zeros(width, width);
        let mut rest = triangle;
        for (i, mut column) in lower.column_iter_mut().enumerate() {
            let (row, behind) = rest.split_at(width - i);
            column.rows_mut(i, width - i).copy_from_slice(row);
            rest = behind;
        }
        Self {
            count,
            first: DVector::from_column_slice(first),
            lower,
            pending: Vec::new(),
        }
    }
}

/// The number of values in the triangle of a `[width, width]` matrix, diagonal included.
pub(super) fn triangle_len(width: usize) -> usize {
    width.saturating_mul(width.saturating_add(1)) / 2
}

/// Adds `factor`·Σv vᵀ over vectors stored one after another to the lower triangle of `sum`.
pub(super) fn add_vectors(sum: &mut DMatrix<f64>, vectors: &[f64], factor: f64) {
    if !vectors.is_empty() {
        let width = sum.nrows();
        add_outer_products(
            sum,
            MatRef::from_column_major_slice(vectors, width, vectors.len() / width),
            factor,
        );
    }
}

/// The divisor that turns a sum into a mean; a sum over nothing is zero and stays zero.
pub(super) fn divisor(count: u64) -> f64 {
    count.max(1) as f64
}
