//! The class bank: one embedding per class, where it came from, and how typical examples lie around it.

use super::reject::Support;
use crate::icm::unit;
use crate::tensor_file::{self, TensorFile, TensorFileError, Values, to_json};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use thiserror::Error;

const FORMAT: &str = "constancy-classes";

/// Why a class bank was refused; the caller knows the file.
#[derive(Debug, Error)]
pub enum BankError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error("has {labels} labels for {rows} embeddings")]
    Count { labels: usize, rows: usize },
    #[error("holds classes of width {found}, the encoder gives {width}")]
    Width { found: usize, width: usize },
    #[error(
        "made with the {origin} encoder with sha256 {made_with}, but the one that is loaded has {loaded}; make it again with `constancy classes`"
    )]
    Encoder { origin: &'static str, made_with: String, loaded: String },
    #[error("class `{label}` has an embedding of length 0")]
    Zero { label: String },
    #[error("two classes are called `{label}`")]
    Duplicate { label: String },
}

/// Which tower made a bank's embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BankOrigin {
    /// Means of example images.
    Images,
    /// Prompts through the text tower.
    Text,
}

impl BankOrigin {
    fn name(self) -> &'static str {
        match self {
            Self::Images => "image",
            Self::Text => "text",
        }
    }
}

/// Class embeddings `[C, D]` of unit length, not projected, with what they are called.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassBank {
    pub labels: Vec<String>,
    /// Prompt templates that were averaged over; empty for banks of images.
    pub templates: Vec<String>,
    pub origin: BankOrigin,
    /// Hash of the tower named by `origin`, hex.
    pub encoder_sha256: String,
    /// One unit row per label.
    pub rows: Vec<Vec<f32>>,
    /// How far images that belong lie from their class, where it was measured.
    pub support: Option<Support>,
}

impl ClassBank {
    /// Reads a bank's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, BankError> {
        let file = TensorFile::parse(bytes, FORMAT)?;
        let labels: Vec<String> = file.json("labels")?;
        let (shape, values) = file.f32("classes", 2)?;
        if shape[0] != labels.len() {
            return Err(BankError::Count { labels: labels.len(), rows: shape[0] });
        }
        let support = file.optional("support").map(|_| file.json("support")).transpose()?;
        let bank = Self {
            templates: file.json("templates")?,
            origin: file.json("origin")?,
            encoder_sha256: file.text("encoder_sha256")?.to_owned(),
            rows: values.chunks(shape[1]).map(unit).collect(),
            labels,
            support,
        };
        bank.check_rows()?;
        Ok(bank)
    }

    fn check_rows(&self) -> Result<(), BankError> {
        for (i, (label, row)) in self.labels.iter().zip(&self.rows).enumerate() {
            if self.labels[..i].contains(label) {
                return Err(BankError::Duplicate { label: label.clone() });
            }
            if row.iter().all(|&v| v == 0.0) {
                return Err(BankError::Zero { label: label.clone() });
            }
        }
        Ok(())
    }

    /// Checks that the bank fits the model: `image_sha256` and `text_sha256` in hex where they are known.
    pub fn check(&self, width: usize, image_sha256: &str, text_sha256: Option<&str>) -> Result<(), BankError> {
        let found = self.rows.first().map_or(0, Vec::len);
        if found != width {
            return Err(BankError::Width { found, width });
        }
        let loaded = match self.origin {
            BankOrigin::Images => Some(image_sha256),
            BankOrigin::Text => text_sha256,
        };
        match loaded {
            Some(loaded) if !loaded.eq_ignore_ascii_case(&self.encoder_sha256) => Err(BankError::Encoder {
                origin: self.origin.name(),
                made_with: self.encoder_sha256.clone(),
                loaded: loaded.into(),
            }),
            _ => Ok(()),
        }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BankError> {
        let mut metadata = HashMap::from([
            ("labels".to_owned(), to_json("labels", &self.labels)?),
            ("templates".to_owned(), to_json("templates", &self.templates)?),
            ("origin".to_owned(), to_json("origin", &self.origin)?),
            ("encoder_sha256".to_owned(), self.encoder_sha256.clone()),
        ]);
        if let Some(support) = &self.support {
            metadata.insert("support".to_owned(), to_json("support", support)?);
        }
        let flat = self.rows.concat();
        let shape = vec![self.rows.len(), self.rows.first().map_or(0, Vec::len)];
        Ok(tensor_file::to_bytes(FORMAT, 1, &[("classes", shape, Values::F32(&flat))], metadata)?)
    }
}

/// Unit mean of each class's unit-normalised embeddings.
#[must_use]
pub fn class_means(examples: &[Vec<Vec<f32>>]) -> Vec<Vec<f32>> {
    examples.iter().map(|class| mean(class.iter().map(|e| unit(e)))).collect()
}

/// Unit-normalised mean of vectors of the same width.
pub(super) fn mean(vectors: impl Iterator<Item = Vec<f32>>) -> Vec<f32> {
    let sum = vectors.fold(Vec::new(), |mut sum: Vec<f32>, v| {
        sum.resize(v.len(), 0.0);
        sum.iter_mut().zip(&v).for_each(|(s, x)| *s += x);
        sum
    });
    unit(&sum)
}
