//! The invariant projection: its file, and how it is applied.
//!
//! With z the unit-normalised embedding, μ the mean (zeros where the fit was not centred) and A the
//! columns that were kept, the invariant embedding is `Aᵀ(z − μ)`, normalised again. Image and class
//! embeddings go through the same map, so that their dot product is the cosine in the invariant subspace.
//! A soft map has a symmetric matrix `[D, D]` in A's place.
//!
//! The file is version 1 where the map is hard, which every constancy reads, and version 2 with metadata `kind` where
//! it is soft: a constancy that does not know soft maps says that it is too old, and not that the file is damaged.

use super::fit::Map;
use super::spec::{Lambda, MapKind};
use crate::numeric::unit;
use crate::tensor_file::{self, TensorFile, TensorFileError, Values, to_json};
use nalgebra::{DMatrix, DVector};
use serde::Serialize;
use std::collections::HashMap;
use thiserror::Error;

const FORMAT: &str = "constancy-projection";
/// The version that knows soft maps.
const SOFT_VERSION: u32 = 2;
/// How far AᵀA may be from the identity, or a soft map from its transpose, before a file is taken for damaged.
const TOLERANCE: f32 = 1e-3;

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
    #[error("its soft map {reason}; the file is damaged, fit it again")]
    NotSoft { reason: String },
    #[error("is of kind `{0}`, this program knows `hard` and `soft`; use a newer constancy")]
    Kind(String),
}

/// Whether directions are removed or shrunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectionKind {
    /// Some are removed, the others kept as they are: orthonormal columns.
    Hard,
    /// All are kept, variant ones shrunk: a symmetric matrix.
    Soft,
}

/// What a projection's file says of where it came from, beside the map itself.
#[derive(Debug, Clone)]
pub struct Provenance<'a, T> {
    /// Hash of the encoder, hex.
    pub encoder_sha256: &'a str,
    /// When it was fitted, RFC 3339.
    pub created: &'a str,
    /// How: interventions, counts, scores before and after; written as JSON.
    pub fitted: &'a T,
}

/// A map to the subspace that changes of environment leave alone.
#[derive(Debug, Clone)]
pub struct Projection {
    kind: ProjectionKind,
    /// `[D, k]`, orthonormal columns; `[D, D]`, symmetric, where it is soft.
    columns: DMatrix<f32>,
    /// `[D]`.
    mean: DVector<f32>,
}

impl Projection {
    /// Reads a projection file's bytes and checks that it belongs to the encoder that is loaded:
    /// `encoder_sha256` in hex, embeddings of `width` values.
    pub fn parse(
        bytes: &[u8],
        encoder_sha256: &str,
        width: usize,
    ) -> Result<Self, ProjectionError> {
        let file = TensorFile::parse_up_to(bytes, FORMAT, SOFT_VERSION)?;
        let fitted_for = file.text("encoder_sha256")?;
        if !fitted_for.eq_ignore_ascii_case(encoder_sha256) {
            return Err(ProjectionError::Encoder {
                fitted_for: fitted_for.into(),
                loaded: encoder_sha256.into(),
            });
        }
        let kind = if file.version() < SOFT_VERSION {
            "hard"
        } else {
            file.text("kind")?
        };
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
        let kind = match kind {
            "hard" => ProjectionKind::Hard,
            "soft" => ProjectionKind::Soft,
            other => return Err(ProjectionError::Kind(other.into())),
        };
        let projection = Self {
            kind,
            columns,
            mean,
        };
        projection.check()?;
        Ok(projection)
    }

    fn check(&self) -> Result<(), ProjectionError> {
        let (width, rank) = self.columns.shape();
        match self.kind {
            ProjectionKind::Hard => {
                let off = (self.columns.transpose() * &self.columns
                    - DMatrix::identity(rank, rank))
                .amax();
                if off > TOLERANCE {
                    Err(ProjectionError::NotOrthonormal { off })
                } else {
                    Ok(())
                }
            }
            ProjectionKind::Soft if rank != width => Err(ProjectionError::NotSoft {
                reason: format!("has {rank} columns for a width of {width}"),
            }),
            ProjectionKind::Soft => {
                let off = (&self.columns - self.columns.transpose()).amax();
                // What is left of a direction is a share of it.
                let shares = self
                    .columns
                    .diagonal()
                    .iter()
                    .all(|&d| d > 0.0 && d <= 1.0 + TOLERANCE);
                let reason = match (off > TOLERANCE, shares) {
                    (true, _) => format!("is not symmetric (off by {off:.4})"),
                    (false, false) => "does not shrink".to_owned(),
                    (false, true) => return Ok(()),
                };
                Err(ProjectionError::NotSoft { reason })
            }
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "images are embedded in f32"
    )]
    pub(super) fn of_map(map: &Map) -> Self {
        let kind = match map.spec().kind {
            MapKind::Identity | MapKind::Hard { .. } => ProjectionKind::Hard,
            MapKind::Soft { .. } => ProjectionKind::Soft,
        };
        Self {
            kind,
            columns: map.columns().map(|v| v as f32),
            mean: map.mean().map(|v| v as f32),
        }
    }

    /// Whether it removes directions or shrinks them.
    #[must_use]
    pub fn kind(&self) -> ProjectionKind {
        self.kind
    }

    /// k, the width of invariant embeddings: the directions that are kept.
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

impl Map {
    /// The bytes of a projection's file. Tensors in f32: `projection` `[D, k]`, or `[D, D]` where it is soft, `mean` `[D]`,
    /// and `eigenvalues` `[D]` of the matrix that was maximised, largest first.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "images are embedded in f32"
    )]
    pub fn to_bytes<T: Serialize>(
        &self,
        provenance: &Provenance<'_, T>,
    ) -> Result<Vec<u8>, ProjectionError> {
        let (width, rank) = self.columns().shape();
        let lambda = match self.spec().kind {
            MapKind::Identity => "0".to_owned(),
            MapKind::Hard { lambda, .. } => lambda.to_string(),
            MapKind::Soft { .. } => Lambda::Infinite.to_string(),
        };
        let mut metadata = HashMap::from([
            (
                "encoder_sha256".to_owned(),
                provenance.encoder_sha256.to_owned(),
            ),
            ("width".to_owned(), width.to_string()),
            ("rank".to_owned(), rank.to_string()),
            ("lambda".to_owned(), lambda),
            ("map".to_owned(), self.spec().to_string()),
            ("fitted".to_owned(), to_json("fitted", provenance.fitted)?),
            ("created".to_owned(), provenance.created.to_owned()),
        ]);
        let mut version = 1;
        if let MapKind::Soft { strength } = self.spec().kind {
            version = SOFT_VERSION;
            metadata.insert("kind".to_owned(), "soft".to_owned());
            metadata.insert("strength".to_owned(), strength.to_string());
        }
        let rows: Vec<f32> = self
            .columns()
            .transpose()
            .iter()
            .map(|&v| v as f32)
            .collect();
        let mean: Vec<f32> = self.mean().iter().map(|&v| v as f32).collect();
        let eigenvalues: Vec<f32> = self.eigenvalues().iter().map(|&v| v as f32).collect();
        let tensors = [
            ("projection", vec![width, rank], Values::F32(&rows)),
            ("mean", vec![width], Values::F32(&mean)),
            ("eigenvalues", vec![width], Values::F32(&eigenvalues)),
        ];
        Ok(tensor_file::to_bytes(FORMAT, version, &tensors, metadata)?)
    }
}
