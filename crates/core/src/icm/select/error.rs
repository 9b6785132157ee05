//! Why no map was chosen.

use crate::classify::calibrate::CalibrationError;
use crate::icm::fit::FitError;
use crate::icm::logistic::LogisticError;
use thiserror::Error;

/// Why no choice was made.
#[derive(Debug, Error, PartialEq)]
pub enum SelectError {
    #[error("there are {found} families of interventions; leaving one out needs at least two")]
    Families { found: usize },
    #[error("there are {found} images; splitting them into halves needs at least {least}")]
    Images { found: usize, least: usize },
    #[error("family `{family}` changes only {found} images of one half; apply it to more images")]
    FamilyImages { family: String, found: usize },
    #[error(
        "all images are of one environment, `{environment}`; leaving one out needs at least two: add another, or choose by identification, which needs no labels"
    )]
    OneEnvironment { environment: String },
    #[error(
        "environment `{environment}` has no image of a class that the others have; it cannot be scored"
    )]
    NothingInCommon { environment: String },
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error(transparent)]
    Probe(#[from] LogisticError),
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    #[error("agreement of answers needs the text tower's classes; evaluate zero-shot as well")]
    NoText,
    #[error("no candidate could be scored; give each environment images of at least two classes")]
    NoScores,
}
