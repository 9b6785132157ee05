//! The class bank: one embedding per class, its origin, and how far examples lie from it.
//!
//! A bank may carry a linear probe: tensors `probe_weights` `[C, k]` and `probe_biases` `[C]`, and metadata `probe` with
//! the projection that it was trained under. It may carry a whitening: tensors `whitening_directions` `[r, k]` and
//! `whitening_shrink` `[r]`, and metadata `whitening`; and a [`Confidence`]. The format stays version 1: a program that
//! knows none of these can still read the file and classify by the class means.

use super::confidence::{self, Confidence};
use super::label::check_label;
use super::probe::Probe;
use super::support::Support;
use crate::icm::{Strengths, Whitening};
use crate::numeric::{unit, unit_mean};
use crate::tensor_file::{self, TensorFile, TensorFileError, Values, to_json};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use thiserror::Error;

const FORMAT: &str = "constancy-classes";

/// Why a class bank was refused. The caller knows the file.
#[derive(Debug, Error)]
pub enum BankError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error(
        "has {labels} labels for {rows} embeddings; the file is damaged, make it again with `constancy classes`"
    )]
    Count { labels: usize, rows: usize },
    #[error(
        "holds classes of width {found}, the encoder gives {width}; make it again with `constancy classes`"
    )]
    Width { found: usize, width: usize },
    #[error(
        "made with the {origin} encoder with sha256 {made_with}, but the one that is loaded has {loaded}; make it again with `constancy classes`"
    )]
    Encoder {
        origin: &'static str,
        made_with: String,
        loaded: String,
    },
    #[error(
        "class `{label}` has an embedding of length 0; the file is damaged, make it again with `constancy classes`"
    )]
    Zero { label: String },
    /// A name that no class may have.
    #[error("{0}; rename the class and make the bank again with `constancy classes`")]
    Label(String),
    #[error(
        "two classes are called `{label}`; rename one, and make the bank again with `constancy classes`"
    )]
    Duplicate { label: String },
    #[error(
        "its probe was learnt under projection {learnt_under}, but {loaded} is loaded; use that projection, or make the bank again with `constancy classes`"
    )]
    Probe {
        learnt_under: String,
        loaded: String,
    },
    #[error(
        "its probe is for embeddings of width {found}, the projection gives {width}; make the bank again with `constancy classes`"
    )]
    ProbeWidth { found: usize, width: usize },
    #[error("its whitening {0}; the file is damaged, make it again with `constancy classes`")]
    Whitening(String),
    #[error(
        "its whitening was made under projection {made_under}, but {loaded} is loaded; use that projection, or make the bank again with `constancy classes`"
    )]
    WhitenedUnder { made_under: String, loaded: String },
    #[error("its confidence {0}; the file is damaged, calibrate again with `constancy calibrate`")]
    Confidence(String),
    #[error(
        "its confidence was calibrated under {what} {calibrated}, but {loaded} is loaded; use that {what}, or calibrate again with `constancy calibrate`"
    )]
    Calibrated {
        what: &'static str,
        calibrated: String,
        loaded: String,
    },
}

/// The tower that computed a bank's embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BankOrigin {
    /// The image tower: means of example images.
    Images,
    /// The text tower: prompts.
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

/// Labelled class embeddings `[C, D]` of unit length, before projection.
///
/// ```
/// use constancy_core::classify::{BankOrigin, ClassBank};
///
/// let bank = ClassBank {
///     labels: vec!["ok".into(), "defect".into()],
///     templates: Vec::new(),
///     origin: BankOrigin::Images,
///     encoder_sha256: "ab".repeat(32),
///     rows: vec![vec![1.0, 0.0], vec![0.0, 1.0]],
///     support: None,
///     probe: None,
///     whitening: None,
///     confidence: None,
/// };
/// let read = ClassBank::parse(&bank.to_bytes()?)?;
/// assert_eq!(read, bank);
///
/// // A bank is bound to its encoder by hash and width.
/// assert!(read.check(2, &"ab".repeat(32), None).is_ok());
/// assert!(read.check(512, &"ab".repeat(32), None).is_err());
/// # Ok::<(), constancy_core::classify::BankError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ClassBank {
    pub labels: Vec<String>,
    /// The prompt templates averaged over; empty for banks of images.
    pub templates: Vec<String>,
    pub origin: BankOrigin,
    /// SHA-256 of the tower named by `origin`, hex.
    pub encoder_sha256: String,
    /// One unit row per label.
    pub rows: Vec<Vec<f32>>,
    /// How far in-distribution images lie from their class, if it was measured.
    pub support: Option<Support>,
    /// A linear probe. Without one, the nearest class wins.
    pub probe: Option<Probe>,
    /// Shrinks what differs within classes, before classes are told apart.
    pub whitening: Option<BankWhitening>,
    /// How probable it is that an answer is right, if it was calibrated.
    pub confidence: Option<Confidence>,
}

/// A bank's whitening and what it was made under.
#[derive(Debug, Clone, PartialEq)]
pub struct BankWhitening {
    /// Digest of the projection whose results it takes, or `identity`.
    pub projection: String,
    pub strengths: Strengths,
    pub map: Whitening,
}

/// A whitening's metadata.
#[derive(Serialize, Deserialize)]
struct WhiteningEntry {
    projection: String,
    interventions: f64,
    within_class: f64,
}

/// A probe's metadata.
#[derive(Serialize, Deserialize)]
struct ProbeEntry {
    projection: String,
    c: f64,
}

impl ClassBank {
    /// Reads a bank from a file's bytes. Fails on a wrong format, missing parts, labels that are duplicates or that
    /// [`check_label`] refuses, and embeddings of length 0.
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
            whitening: read_whitening(&file)?,
            confidence: confidence::read(&file, labels.len(), shape[1])?
                .transpose()
                .map_err(BankError::Confidence)?,
            labels,
            support,
        };
        bank.check_rows()?;
        Ok(bank)
    }

    fn check_rows(&self) -> Result<(), BankError> {
        for (i, (label, row)) in self.labels.iter().zip(&self.rows).enumerate() {
            check_label(label).map_err(BankError::Label)?;
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

    /// Checks that the bank fits the model: embeddings of `width` values, made by the tower with that hash. Hashes are in
    /// hex. A bank made from text is not checked against a model whose text tower is unknown.
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

    /// Checks that the probe and the whitening, if there are any, were made under the loaded projection.
    /// `projection_digest` is that projection's digest, or `identity`; `width` is the width of its results.
    pub fn check_made_under(&self, projection_digest: &str, width: usize) -> Result<(), BankError> {
        match &self.whitening {
            Some(whitening) if whitening.projection != projection_digest => {
                return Err(BankError::WhitenedUnder {
                    made_under: whitening.projection.clone(),
                    loaded: projection_digest.into(),
                });
            }
            Some(BankWhitening { map, .. }) if map.width() != width => {
                let found = map.width();
                return Err(BankError::Whitening(format!(
                    "is for embeddings of width {found}, the projection gives {width}"
                )));
            }
            _ => {}
        }
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

    /// Checks that the confidence, if there is one, was calibrated under the loaded projection and image tower.
    /// `projection_digest` is as for [`Self::check_made_under`], `width` the width of the projection's results, and
    /// `image_sha256` in hex.
    pub fn check_confidence(
        &self,
        projection_digest: &str,
        width: usize,
        image_sha256: &str,
    ) -> Result<(), BankError> {
        let Some(confidence) = &self.confidence else {
            return Ok(());
        };
        let differs = |what, calibrated: &str, loaded: &str| {
            let (calibrated, loaded) = (calibrated.to_owned(), loaded.to_owned());
            Err(BankError::Calibrated {
                what,
                calibrated,
                loaded,
            })
        };
        let made_with = &confidence.encoder_sha256;
        if !made_with.eq_ignore_ascii_case(image_sha256) {
            return differs("encoder", made_with, image_sha256);
        }
        if confidence.projection != projection_digest {
            return differs("projection", &confidence.projection, projection_digest);
        }
        let found = confidence.width();
        if found != width {
            let reason =
                format!("is for embeddings of width {found}, the projection gives {width}");
            return Err(BankError::Confidence(reason));
        }
        Ok(())
    }

    /// The file's bytes. Fails on labels that [`check_label`] refuses: the file could not be read again.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BankError> {
        for label in &self.labels {
            check_label(label).map_err(BankError::Label)?;
        }
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
        if let Some(BankWhitening {
            projection,
            strengths,
            map,
        }) = &self.whitening
        {
            let entry = WhiteningEntry {
                projection: projection.clone(),
                interventions: strengths.interventions,
                within_class: strengths.within_class,
            };
            metadata.insert("whitening".to_owned(), to_json("whitening", &entry)?);
            let shape = vec![map.rank(), map.width()];
            tensors.push(("whitening_directions", shape, Values::F32(map.directions())));
            tensors.push((
                "whitening_shrink",
                vec![map.rank()],
                Values::F32(map.shrink()),
            ));
        }
        let stored = self
            .confidence
            .as_ref()
            .map(confidence::Stored::new)
            .transpose()?;
        if let Some(stored) = &stored {
            metadata.extend(stored.metadata());
            tensors.extend(stored.tensors());
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

fn read_whitening(file: &TensorFile<'_>) -> Result<Option<BankWhitening>, BankError> {
    if file.optional("whitening").is_none() {
        return Ok(None);
    }
    let WhiteningEntry {
        projection,
        interventions,
        within_class,
    } = file.json("whitening")?;
    let (shape, directions) = file.f32("whitening_directions", 2)?;
    let shrink = file.vector("whitening_shrink", shape[0])?;
    Ok(Some(BankWhitening {
        projection,
        strengths: Strengths {
            interventions,
            within_class,
        },
        map: Whitening::new(shape[1], &directions, shrink).map_err(BankError::Whitening)?,
    }))
}

/// The unit mean of each class's embeddings, which are normalised first: `examples[class][image]`, each `[D]`.
///
/// ```
/// use constancy_core::classify::class_means;
///
/// let examples = [vec![vec![2.0, 0.0], vec![5.0, 0.0]], vec![vec![0.0, 3.0]]];
/// assert_eq!(class_means(&examples), [[1.0, 0.0], [0.0, 1.0]]);
/// ```
#[must_use]
pub fn class_means(examples: &[Vec<Vec<f32>>]) -> Vec<Vec<f32>> {
    examples
        .iter()
        .map(|class| unit_mean(class.iter().map(|e| unit(e))))
        .collect()
}
