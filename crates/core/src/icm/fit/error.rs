//! Why a fit failed, and what a user should know about one that succeeded.

use std::fmt;
use thiserror::Error;

/// Why no map could be fitted.
#[derive(Debug, Clone, Error, PartialEq)]
pub enum FitError {
    #[error("there are no images to fit to")]
    NoImages,
    #[error("there are no interventions to fit to; at least one family is needed")]
    NoFamilies,
    #[error("the interventions changed no embedding; they are too weak, or were not applied")]
    NothingMoved,
    #[error(
        "{removed} directions cannot be removed from embeddings of width {width}; at most {most} can"
    )]
    TooMany {
        removed: usize,
        width: usize,
        most: usize,
    },
    #[error(
        "{removed} directions are to be removed, but the interventions moved the embeddings in {moved} only; use more images or interventions, or remove fewer directions"
    )]
    NothingLeft { removed: usize, moved: usize },
    #[error("λ' = {0} is not a number above 0")]
    Lambda(f64),
    #[error("strength {0} is not a number above 0")]
    Strength(f64),
    #[error(
        "within-class covariance needs a class with two images; give a folder laid out as CLASS/IMAGE or ENVIRONMENT/CLASS/IMAGE"
    )]
    NoClasses,
    #[error("the eigenvalue solver did not converge; the moments are damaged, make them again")]
    NotConverged,
}

/// What a user should know about a fit that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FitWarning {
    /// The pairs do not span all directions; directions that no pair spans are kept.
    FewerPairsThanDimensions { pairs: u64, width: usize },
}

impl fmt::Display for FitWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewerPairsThanDimensions { pairs, width } => write!(
                f,
                "{pairs} pairs for embeddings of width {width}: directions that no intervention moved are kept as they are; more images make the fit more reliable"
            ),
        }
    }
}
