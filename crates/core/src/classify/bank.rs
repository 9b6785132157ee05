//! The class bank: one embedding per class, where it came from, and how typical examples lie around it.
//!
//! A bank may carry a linear probe: tensors `probe_weights` `[C, k]` and `probe_biases` `[C]`, and metadata `probe`, which
//! names the projection that it was learnt under. The file stays version 1, since a program that does not know probes
//! still reads it and goes by the class means.

use super::probe::Probe;
use super::reject::Support;
use crate::numeric::{unit, unit_mean};
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
    Encoder {
        origin: &'static str,
        made_with: String,
        loaded: String,
    },
    #[error("class `{label}` has an embedding of length 0")]
    Zero { label: String },
    #[error("two classes are called `{label}`")]
    Duplicate { label: String },
    #[error(
        "its probe was learnt under projection {learnt_under}, but {loaded} is loaded; use that projection, or make the bank again with `constancy classes`"
    )]
    Probe {
        learnt_under: String,
        loaded: String,
    },
    #[error("its probe is for embeddings of width {found}, the projection gives {width}")]
    ProbeWidth { found: usize, width: usize },
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
    /// What was learnt to tell the classes apart; where there is none, the nearest class is the answer.
    pub probe: Option<Probe>,
}

/// What the metadata says of a probe.
#[derive(Serialize, Deserialize)]
struct ProbeEntry {
    projection: String,
    c: f64,
}

impl ClassBank {
    /// Reads a bank's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, BankError> {
        let file = TensorFile::parse(bytes, FORMAT)?;
        let labels: Vec<String> = file.json("labels")?;
        let (shape, values) = file.f32("classes", 2)?;
        if shape[0] != labels.len() {
            return Err(BankError::Count {
                labels: labels.len(),
                rows: shape[0],
            });
        }
        let support = file
            .optional("support")
            .map(|_| file.json("support"))
            .transpose()?;
        let bank = Self {
            templates: file.json("templates")?,
            origin: file.json("origin")?,
            encoder_sha256: file.text("encoder_sha256")?.to_owned(),
            rows: values.chunks(shape[1]).map(unit).collect(),
            probe: read_probe(&file, labels.len())?,
            labels,
            support,
        };
        bank.check_rows()?;
        Ok(bank)
    }

    fn check_rows(&self) -> Result<(), BankError> {
        for (i, (label, row)) in self.labels.iter().zip(&self.rows).enumerate() {
            if self.labels[..i].contains(label) {
                return Err(BankError::Duplicate {
                    label: label.clone(),
                });
            }
            if row.iter().all(|&v| v == 0.0) {
                return Err(BankError::Zero {
                    label: label.clone(),
                });
            }
        }
        Ok(())
    }

    /// Checks that the bank fits the model: `image_sha256` and `text_sha256` in hex where they are known.
    pub fn check(
        &self,
        width: usize,
        image_sha256: &str,
        text_sha256: Option<&str>,
    ) -> Result<(), BankError> {
        let found = self.rows.first().map_or(0, Vec::len);
        if found != width {
            return Err(BankError::Width { found, width });
        }
        let loaded = match self.origin {
            BankOrigin::Images => Some(image_sha256),
            BankOrigin::Text => text_sha256,
        };
        match loaded {
            Some(loaded) if !loaded.eq_ignore_ascii_case(&self.encoder_sha256) => {
                Err(BankError::Encoder {
                    origin: self.origin.name(),
                    made_with: self.encoder_sha256.clone(),
                    loaded: loaded.into(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Checks that the probe, if there is one, was learnt under the projection that is loaded: its digest, or
    /// `identity`, and the width of what it gives.
    pub fn check_probe(&self, projection_digest: &str, width: usize) -> Result<(), BankError> {
        match &self.probe {
            Some(probe) if probe.projection != projection_digest => Err(BankError::Probe {
                learnt_under: probe.projection.clone(),
                loaded: projection_digest.into(),
            }),
            Some(probe) if probe.rank() != width => Err(BankError::ProbeWidth {
                found: probe.rank(),
                width,
            }),
            _ => Ok(()),
        }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BankError> {
        let mut metadata = HashMap::from([
            ("labels".to_owned(), to_json("labels", &self.labels)?),
            (
                "templates".to_owned(),
                to_json("templates", &self.templates)?,
            ),
            ("origin".to_owned(), to_json("origin", &self.origin)?),
            ("encoder_sha256".to_owned(), self.encoder_sha256.clone()),
        ]);
        if let Some(support) = &self.support {
            metadata.insert("support".to_owned(), to_json("support", support)?);
        }
        let flat = self.rows.concat();
        let shape = vec![self.rows.len(), self.rows.first().map_or(0, Vec::len)];
        let mut tensors = vec![("classes", shape, Values::F32(&flat))];
        let weights = self.probe.as_ref().map(|p| p.weights.concat());
        if let (Some(probe), Some(weights)) = (&self.probe, &weights) {
            let entry = ProbeEntry {
                projection: probe.projection.clone(),
                c: probe.c,
            };
            metadata.insert("probe".to_owned(), to_json("probe", &entry)?);
            tensors.push((
                "probe_weights",
                vec![probe.weights.len(), probe.rank()],
                Values::F32(weights),
            ));
            tensors.push((
                "probe_biases",
                vec![probe.biases.len()],
                Values::F32(&probe.biases),
            ));
        }
        Ok(tensor_file::to_bytes(FORMAT, 1, &tensors, metadata)?)
    }
}

fn read_probe(file: &TensorFile<'_>, classes: usize) -> Result<Option<Probe>, BankError> {
    if file.optional("probe").is_none() {
        return Ok(None);
    }
    let ProbeEntry { projection, c } = file.json("probe")?;
    let (shape, values) = file.f32("probe_weights", 2)?;
    if shape[0] != classes {
        return Err(BankError::Count {
            labels: classes,
            rows: shape[0],
        });
    }
    let weights = values.chunks(shape[1]).map(<[f32]>::to_vec).collect();
    Ok(Some(Probe {
        projection,
        c,
        weights,
        biases: file.vector("probe_biases", classes)?,
    }))
}

/// Unit mean of each class's unit-normalised embeddings.
#[must_use]
pub fn class_means(examples: &[Vec<Vec<f32>>]) -> Vec<Vec<f32>> {
    examples
        .iter()
        .map(|class| unit_mean(class.iter().map(|e| unit(e))))
        .collect()
}
