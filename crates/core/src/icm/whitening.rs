//! Whitening of a class bank: shrinks the directions in which images of one class differ, and those
//! in which interventions move them.
//!
//! `W = (I + a·Δ̃ + b·S̃)^(−1/2)`, where `Δ̃ = D·Δ / tr Δ` is the covariance of the differences that
//! interventions cause, and `S̃ = D·S / tr S` that of images about the mean of their class. With a =
//! 0 and large b it is linear discriminant analysis, whose classes are the nearest by Mahalanobis'
//! distance. Both matrices are kept in the [`MAX_RANK`] directions in which they are largest, so a
//! bank's file and the work per frame stay small: all other directions are left as they are.

mod choice;
mod coordinates;
mod covariances;
mod hits;

pub(super) use choice::choose_strengths;
pub use choice::{WhiteningChoice, by_held_out_images, choose_whitening};
pub use covariances::Covariances;
pub(super) use hits::Evidence;

use crate::numeric::unit;
use nalgebra::{DMatrix, DVector};

/// The directions that a whitening changes at most.
pub(crate) const MAX_RANK: usize = 128;

/// How much a whitening shrinks variant directions; 0 leaves them as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strengths {
    /// a, of what interventions move.
    pub interventions: f64,
    /// b, of what differs within classes.
    pub within_class: f64,
}

impl Strengths {
    /// Changes nothing.
    pub const NONE: Self = Self {
        interventions: 0.0,
        within_class: 0.0,
    };
}

/// A symmetric map `[k, k]` of low rank: `z ↦ z − Σ sᵢ uᵢ uᵢᵀz`, scaled to unit length.
///
/// ```
/// use constancy_core::icm::Whitening;
///
/// // Halves the second axis.
/// let map = Whitening::new(2, &[0.0, 1.0], vec![0.5])?;
/// let z = map.apply(&[0.6, 0.8]);
/// assert!((z[0] / z[1] - 0.6 / 0.4).abs() < 1e-6);
/// // The directions must be of unit length, at right angles to each other.
/// assert!(Whitening::new(2, &[1.0, 1.0], vec![0.5]).is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Whitening {
    /// `[k, r]`, orthonormal.
    basis: DMatrix<f32>,
    /// The share of each direction that is taken away, `[r]`, `0..1`.
    shrink: DVector<f32>,
}

/// How far the Gram matrix of the directions may be from the identity.
const TOLERANCE: f32 = 1e-3;

impl Whitening {
    /// Checks `directions` `[r][width]`, orthonormal, and the share `0..1` that is taken from each.
    pub fn new(width: usize, directions: &[f32], shrink: Vec<f32>) -> Result<Self, String> {
        if directions.len() != width * shrink.len() || shrink.len() > MAX_RANK.min(width) {
            return Err(format!(
                "has {} values for {} directions of width {width}",
                directions.len(),
                shrink.len()
            ));
        }
        if !shrink.iter().all(|s| (0.0..1.0).contains(s)) {
            return Err("does not shrink".into());
        }
        let basis = DMatrix::from_column_slice(width, shrink.len(), directions);
        let off = basis.tr_mul(&basis) - DMatrix::identity(shrink.len(), shrink.len());
        // A NaN is off, too.
        if !off.iter().all(|v| v.abs() <= TOLERANCE) {
            return Err(format!(
                "has directions that are not orthonormal (off by {:.4})",
                off.amax()
            ));
        }
        Ok(Self {
            basis,
            shrink: DVector::from_vec(shrink),
        })
    }

    /// k, the width of the embeddings that it takes.
    #[must_use]
    pub fn width(&self) -> usize {
        self.basis.nrows()
    }

    /// r, the number of directions that it shrinks.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.basis.ncols()
    }

    /// The directions, `[r][k]` in a row.
    #[must_use]
    pub fn directions(&self) -> &[f32] {
        self.basis.as_slice()
    }

    /// The share that is taken from each direction, `[r]`.
    #[must_use]
    pub fn shrink(&self) -> &[f32] {
        self.shrink.as_slice()
    }

    /// Maps an embedding `[k]` to one of unit length.
    #[must_use]
    pub fn apply(&self, embedding: &[f32]) -> Vec<f32> {
        unit(&self.linear(embedding))
    }

    /// [`Self::apply`] without the scaling.
    pub(crate) fn linear(&self, embedding: &[f32]) -> Vec<f32> {
        let mut z = DVector::from_column_slice(embedding);
        let taken = self.basis.tr_mul(&z).component_mul(&self.shrink);
        z.gemv(-1.0, &self.basis, &taken, 1.0);
        z.as_slice().to_vec()
    }
}
