//! The invariant projection: its file, and how it is applied.
//!
//! With z the unit-normalised embedding, μ the mean (zeros where the fit was not centred) and A the
//! columns that were kept, the invariant embedding is `Aᵀ(z − μ)`, normalised again. Image and class
//! embeddings go through the same map, so that their dot product is the cosine in the invariant subspace.

use crate::tensor_file::{TensorFile, TensorFileError};
use nalgebra::{DMatrix, DVector};
use thiserror::Error;

/// How far AᵀA may be from the identity before a file is taken for damaged.
const ORTHONORMAL_TOLERANCE: f32 = 1e-3;

/// Why a projection was refused; the caller knows the file.
#[derive(Debug, Error)]
pub enum ProjectionError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error(
        "fitted for the encoder with sha256 {fitted_for}, but the encoder that is loaded has {loaded}; use that encoder, or fit the projection again for this one"
    )]
    Encoder { fitted_for: String, loaded: String },
    #[error("for embeddings of width {found}, the encoder gives {width}")]
    Width { found: usize, width: usize },
    #[error("keeps {rank} directions of {width}; a projection cannot add any")]
    Rank { rank: usize, width: usize },
    #[error("its columns are not orthonormal (off by {off:.4}); the file is damaged, fit it again")]
    NotOrthonormal { off: f32 },
}

/// A map to the subspace that changes of environment leave alone.
#[derive(Debug, Clone)]
pub struct Projection {
    /// `[D, k]`, orthonormal columns.
    columns: DMatrix<f32>,
    /// `[D]`.
    mean: DVector<f32>,
}

impl Projection {
    /// Reads a projection file's bytes and checks that it belongs to the encoder that is loaded:
    /// `encoder_sha256` in hex, embeddings of `width` values.
    pub fn parse(bytes: &[u8], encoder_sha256: &str, width: usize) -> Result<Self, ProjectionError> {
        let file = TensorFile::parse(bytes, "constancy-projection")?;
        let fitted_for = file.text("encoder_sha256")?;
        if !fitted_for.eq_ignore_ascii_case(encoder_sha256) {
            return Err(ProjectionError::Encoder { fitted_for: fitted_for.into(), loaded: encoder_sha256.into() });
        }
        let (shape, values) = file.f32("projection", 2)?;
        let (found, rank) = (shape[0], shape[1]);
        if found != width {
            return Err(ProjectionError::Width { found, width });
        }
        if rank > width {
            return Err(ProjectionError::Rank { rank, width });
        }
        file.vector("eigenvalues", width)?;
        let mean = DVector::from_vec(file.vector("mean", width)?);
        let columns = DMatrix::from_row_slice(width, rank, &values);
        let off = (columns.tr_mul(&columns) - DMatrix::identity(rank, rank)).amax();
        if off > ORTHONORMAL_TOLERANCE {
            return Err(ProjectionError::NotOrthonormal { off });
        }
        Ok(Self { columns, mean })
    }

    /// Directions that are kept.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.columns.ncols()
    }

    /// The invariant embedding `[k]`, of unit length, of an embedding `[D]` of any length.
    #[must_use]
    pub fn apply(&self, embedding: &[f32]) -> Vec<f32> {
        let z = DVector::from_vec(unit(embedding)) - &self.mean;
        unit(self.columns.tr_mul(&z).as_slice())
    }
}

/// `vector` scaled to length 1; zeros stay zeros.
#[must_use]
pub fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    if norm == 0.0 {
        return vector.to_vec();
    }
    #[expect(clippy::cast_possible_truncation, reason = "f64 only carries the sum")]
    vector.iter().map(|&v| (f64::from(v) / norm) as f32).collect()
}
