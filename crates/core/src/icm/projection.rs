//! The invariant projection as the daemon applies it in f32, and its file.
//!
//! With z the unit embedding, μ the mean (zeros if the fit was not centred) and A the kept columns,
//! the invariant embedding is `Aᵀ(z − μ)`, scaled to unit length again. Image and class embeddings
//! go through the same map, so that their dot product is the cosine in the invariant subspace. A
//! soft map has a symmetric matrix `[D, D]` in place of A.
//!
//! A hard map is written as file version 1, which every constancy reads. A soft map is written as
//! version 2 with the metadata `kind`: a constancy that predates soft maps then reports that it is
//! too old, and not that the file is damaged.

use super::map::Map;
use super::spec::{Lambda, MapKind};
use super::whitening::Strengths;
use crate::numeric::unit;
use crate::tensor_file::{self, TensorFile, TensorFileError, Values, to_json};
use nalgebra::{DMatrix, DVector};
use serde::Serialize;
use std::collections::HashMap;
use thiserror::Error;

const FORMAT: &str = "constancy-projection";
/// The first file version with soft maps.
const SOFT_VERSION: u32 = 2;
/// How far any entry of AᵀA may be from the identity, or of a soft map from its transpose, before
/// the file counts as damaged.
const TOLERANCE: f32 = 1e-3;

/// Why a projection was refused; the caller names the file.
#[derive(Debug, Error)]
pub enum ProjectionError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error(
        "fitted for the encoder with sha256 {fitted_for}, but the loaded encoder has {loaded}; use that encoder, or fit the projection again for this one"
    )]
    Encoder { fitted_for: String, loaded: String },
    #[error(
        "for embeddings of width {found}, but the encoder gives {width}; fit the projection again for this encoder"
    )]
    Width { found: usize, width: usize },
    #[error(
        "keeps {rank} directions of {width}; a projection cannot add directions: the file is damaged, fit it again"
    )]
    Rank { rank: usize, width: usize },
    #[error("its columns are not orthonormal (off by {off:.4}); the file is damaged, fit it again")]
    NotOrthonormal { off: f32 },
    #[error("its soft map {reason}; the file is damaged, fit it again")]
    NotSoft { reason: String },
    #[error(
        "is of kind `{0}`, but this program knows `hard` and `soft` only; use a newer constancy"
    )]
    Kind(String),
}

/// Whether a projection removes directions or shrinks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectionKind {
    /// Removes some directions and keeps the others unchanged: orthonormal columns.
    Hard,
    /// Keeps all directions and shrinks the variant ones: a symmetric matrix.
    Soft,
}

/// The origin of a projection, as its file records it alongside the map itself.
#[derive(Debug, Clone)]
pub struct Provenance<'a, T> {
    /// SHA-256 of the encoder, hex.
    pub encoder_sha256: &'a str,
    /// The time of the fit, RFC 3339.
    pub created: &'a str,
    /// How it was fitted (interventions, counts, scores before and after); written as JSON.
    pub fitted: &'a T,
}

/// A map to the subspace that changes of environment leave unchanged.
///
/// ```
/// use constancy_core::icm::{Fitter, MapSpec, Moments, Projection, Provenance};
///
/// // The intervention moves the second axis.
/// let mut moments = Moments::new("00ff", 2);
/// moments.add_image("image", &[1.0, 0.0])?;
/// moments.add_pair("light", "image", &[1.0, 0.1], &[1.0, -0.1])?;
/// let map = Fitter::new(&moments)?.fit(&MapSpec::without(1))?;
///
/// let provenance = Provenance {
///     encoder_sha256: "00ff",
///     created: "2026-01-01T00:00:00Z",
///     fitted: &"by hand",
/// };
/// let projection = Projection::parse(&map.to_bytes(&provenance)?, "00ff", 2)?;
/// assert_eq!(projection.rank(), 1);
/// // Embeddings that differ in the removed direction alone become equal.
/// let (a, b) = (projection.apply(&[2.0, 0.3]), projection.apply(&[2.0, -0.7]));
/// assert!((a[0].abs() - 1.0).abs() < 1e-6 && (a[0] - b[0]).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Projection {
    kind: ProjectionKind,
    /// A: `[D, k]` with orthonormal columns, or symmetric `[D, D]` if soft.
    columns: DMatrix<f32>,
    /// μ, `[D]`.
    mean: DVector<f32>,
}

impl Projection {
    /// Parses the bytes of a projection file and checks that it was fitted for the loaded encoder:
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

    /// Checks that the matrix is one that a fit can give.
    fn check(&self) -> Result<(), ProjectionError> {
        match self.kind {
            ProjectionKind::Hard => self.check_orthonormal(),
            ProjectionKind::Soft => self
                .check_soft()
                .map_err(|reason| ProjectionError::NotSoft { reason }),
        }
    }

    fn check_orthonormal(&self) -> Result<(), ProjectionError> {
        let rank = self.rank();
        let gram = self.columns.transpose() * &self.columns;
        let off = (gram - DMatrix::identity(rank, rank)).amax();
        if off > TOLERANCE {
            Err(ProjectionError::NotOrthonormal { off })
        } else {
            Ok(())
        }
    }

    fn check_soft(&self) -> Result<(), String> {
        let (width, rank) = self.columns.shape();
        if rank != width {
            return Err(format!("has {rank} columns for a width of {width}"));
        }
        let off = (&self.columns - self.columns.transpose()).amax();
        if off > TOLERANCE {
            return Err(format!("is not symmetric (off by {off:.4})"));
        }
        // Every direction keeps a share of itself.
        let shrinks = |&d: &f32| d > 0.0 && d <= 1.0 + TOLERANCE;
        if self.columns.diagonal().iter().all(shrinks) {
            Ok(())
        } else {
            Err("does not shrink".to_owned())
        }
    }

    /// Whether the projection removes directions or shrinks them.
    #[must_use]
    pub fn kind(&self) -> ProjectionKind {
        self.kind
    }

    /// k, the width of invariant embeddings.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.columns.ncols()
    }

    /// Maps an embedding `[D]` of any length to its invariant embedding `[k]` of unit length.
    #[must_use]
    pub fn apply(&self, embedding: &[f32]) -> Vec<f32> {
        let z = DVector::from_vec(unit(embedding)) - &self.mean;
        unit(self.columns.tr_mul(&z).as_slice())
    }

    /// The linear part `[k]` of a vector `[D]`, less that of the mean if it is `centred`; not scaled.
    pub(crate) fn linear(&self, vector: &[f32], centred: bool) -> Vec<f32> {
        let mut z = DVector::from_column_slice(vector);
        if centred {
            z -= &self.mean;
        }
        self.columns.tr_mul(&z).as_slice().to_vec()
    }
}

impl Map {
    /// The map in f32, as the daemon applies it.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "images are embedded in f32"
    )]
    pub fn projection(&self) -> Projection {
        let kind = match self.spec().kind {
            MapKind::Identity | MapKind::Hard { .. } => ProjectionKind::Hard,
            MapKind::Soft { .. } | MapKind::Whitened(_) => ProjectionKind::Soft,
        };
        Projection {
            kind,
            columns: self.columns().map(|v| v as f32),
            mean: self.mean().map(|v| v as f32),
        }
    }

    /// The bytes of a projection file. Its tensors are f32: `projection` `[D, k]` (`[D, D]` if
    /// soft), `mean` `[D]`, and `eigenvalues` `[D]` of the matrix whose trace was maximised,
    /// largest first.
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
            MapKind::Soft { .. } | MapKind::Whitened(_) => Lambda::Infinite.to_string(),
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
        let strengths = match self.spec().kind {
            MapKind::Soft { strength } => vec![("strength", strength)],
            MapKind::Whitened(Strengths {
                interventions,
                within_class,
            }) => vec![("strength", interventions), ("within_class", within_class)],
            MapKind::Identity | MapKind::Hard { .. } => Vec::new(),
        };
        if !strengths.is_empty() {
            version = SOFT_VERSION;
            metadata.insert("kind".to_owned(), "soft".to_owned());
        }
        for (name, strength) in strengths {
            metadata.insert(name.to_owned(), strength.to_string());
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
