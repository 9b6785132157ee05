//! What calibration takes, and its checks.

use crate::classify::bank::ClassBank;
use crate::classify::probe::ProbeError;
use crate::icm::Projection;
use thiserror::Error;

/// Why nothing could be calibrated. Images are named by their index.
#[derive(Debug, Error, PartialEq)]
pub enum CalibrationError {
    #[error("there is no image to calibrate on")]
    NoImages,
    #[error(
        "no answer can be judged: each class needs two images, or images that the bank was not made from; unsorted images need interventions"
    )]
    NoAnswers,
    #[error("image {image}: its embedding has {found} values, the classes have {width}")]
    Width {
        image: usize,
        found: usize,
        width: usize,
    },
    #[error("image {image}: its embedding holds a value that is not a finite number")]
    NotFinite { image: usize },
    #[error("image {image} is of class {class}, the bank has {classes}")]
    Class {
        image: usize,
        class: usize,
        classes: usize,
    },
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// What a calibration image shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// A class of the bank, by its index.
    Class(usize),
    /// None of the bank's classes: every answer is wrong.
    Other,
    /// Nobody said. The answer to the clean image counts as the truth for its changed versions.
    Unlabelled,
}

/// An image, as it is and changed by interventions.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationImage {
    pub truth: Truth,
    /// Whether the bank's row of its class is the mean of images with this one among them.
    pub own: bool,
    /// `[D]`, of any length.
    pub embedding: Vec<f32>,
    /// The image under interventions: the index of the family, and the embedding.
    pub changed: Vec<(usize, Vec<f32>)>,
}

/// What to calibrate, and on what.
#[derive(Debug, Clone, Copy)]
pub struct Calibration<'a> {
    /// The bank without confidence. Its origin says whether its rows lie among images or, if they come from prompts, apart
    /// from them.
    pub bank: &'a ClassBank,
    pub projection: Option<&'a Projection>,
    /// Its digest, or `identity`.
    pub projection_digest: &'a str,
    /// Multiplies cosines.
    pub logit_scale: f32,
    /// SHA-256 of the image tower, hex.
    pub encoder_sha256: &'a str,
    pub images: &'a [CalibrationImage],
    /// The names of the interventions' families.
    pub families: &'a [String],
}

impl Calibration<'_> {
    /// Checks that embeddings and classes fit the bank.
    pub(super) fn check(&self) -> Result<(), CalibrationError> {
        if self.images.is_empty() {
            return Err(CalibrationError::NoImages);
        }
        let (classes, width) = (
            self.bank.rows.len(),
            self.bank.rows.first().map_or(0, Vec::len),
        );
        for (image, given) in self.images.iter().enumerate() {
            for e in std::iter::once(&given.embedding).chain(given.changed.iter().map(|c| &c.1)) {
                if e.len() != width {
                    return Err(CalibrationError::Width {
                        image,
                        found: e.len(),
                        width,
                    });
                }
                if e.iter().any(|v| !v.is_finite()) {
                    return Err(CalibrationError::NotFinite { image });
                }
            }
            match given.truth {
                Truth::Class(class) if class >= classes => {
                    return Err(CalibrationError::Class {
                        image,
                        class,
                        classes,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}
