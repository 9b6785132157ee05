//! Which map is to be fitted, in numbers and in words.

use serde::{Serialize, Serializer};
use std::fmt;

/// How much more the variance that interventions cause weighs than the variance of images: λ = λ'·tr C / tr Δ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lambda {
    /// λ', above 0.
    Times(f64),
    /// The limit λ' → ∞: Δ alone decides which directions go.
    Infinite,
}

impl fmt::Display for Lambda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}"),
            Self::Infinite => f.write_str("inf"),
        }
    }
}

/// What a map does to the directions of an embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MapKind {
    /// Leaves everything as it is.
    Identity,
    /// Removes the `removed` most variant directions and keeps the others: the eigenvectors of the D − `removed`
    /// largest eigenvalues of C − λΔ.
    Hard { lambda: Lambda, removed: usize },
    /// Shrinks every direction the more, the more variant it is: (I + `strength`·Δ̃)^(−1/2), with Δ̃ = D·Δ / tr Δ,
    /// whose eigenvalues have mean 1.
    Soft { strength: f64 },
}

/// A map to be fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapSpec {
    pub kind: MapKind,
    /// Whether the images' mean is taken off before.
    pub centred: bool,
}

impl MapSpec {
    /// The map that changes nothing.
    pub const IDENTITY: Self = Self { kind: MapKind::Identity, centred: false };

    /// Removal of the `removed` most variant directions, not centred.
    #[must_use]
    pub fn without(removed: usize) -> Self {
        Self { kind: MapKind::Hard { lambda: Lambda::Infinite, removed }, centred: false }
    }

    /// The soft map, not centred.
    #[must_use]
    pub fn soft(strength: f64) -> Self {
        Self { kind: MapKind::Soft { strength }, centred: false }
    }

    /// With the images' mean taken off, or not.
    #[must_use]
    pub fn centred(self, centred: bool) -> Self {
        Self { centred, ..self }
    }
}

impl fmt::Display for MapSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            MapKind::Identity => f.write_str("identity")?,
            MapKind::Hard { lambda: Lambda::Infinite, removed } => {
                write!(f, "without the {removed} most variant directions")?;
            }
            MapKind::Hard { lambda, removed } => {
                write!(f, "λ' = {lambda}, without the {removed} most variant directions")?;
            }
            MapKind::Soft { strength } => write!(f, "soft, strength {strength}")?,
        }
        if self.centred { f.write_str(", centred") } else { Ok(()) }
    }
}

impl Serialize for MapSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
