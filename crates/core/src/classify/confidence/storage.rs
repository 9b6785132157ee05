//! Confidence in a class bank's file: metadata `confidence` and tensors whose names begin with `confidence_`. A program
//! that does not know them reads the bank without.

use super::geometry::{Drift, Geometry, LowRank, MAX_DRIFT_RANK, MAX_RANK, Tails, product};
use super::model::ConfidenceModel;
use super::open_set::OpenSet;
use super::outcome::Outcome;
use super::threshold::{Resolved, Target};
use crate::classify::condition::{self, Reference};
use crate::tensor_file::{NamedTensor, TensorFile, TensorFileError, Values, to_json};
use serde::{Deserialize, Serialize};

const KEY: &str = "confidence";
/// Columns of the tables of outcomes: confidence, image, answer, truth (-1: none), changed (0 or 1).
const COLUMNS: usize = 5;
/// Indices up to here are exact in f32.
const MAX_INDEX: f32 = 16_777_216.0;
/// How far from orthonormal directions may be by rounding.
const TOLERANCE: f32 = 1e-3;

/// What a confidence rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// Calibration images, and answers to them as they are and changed by interventions.
    pub images: usize,
    pub answers: usize,
    /// The families of interventions.
    pub families: Vec<String>,
    /// The share of right answers to clean and to changed images; `None` if there were none.
    pub accuracy_clean: Option<f32>,
    pub accuracy_changed: Option<f32>,
}

/// The confidence that a class bank carries.
#[derive(Debug, Clone, PartialEq)]
pub struct Confidence {
    /// Digest of the projection that it was calibrated under, or `identity`. It is valid for no other.
    pub projection: String,
    /// SHA-256 of the image tower that it was calibrated with, hex.
    pub encoder_sha256: String,
    pub model: ConfidenceModel,
    pub geometry: Geometry,
    pub tails: Tails,
    /// What calibration answered.
    pub outcomes: Vec<Outcome>,
    /// What was answered to images of each class while it was left out; empty with fewer than three classes.
    pub unseen: Vec<Outcome>,
    pub basis: Basis,
    /// The light that it was calibrated in; `None` if the images do not tell how those of one class differ from all.
    pub reference: Option<Reference>,
}

impl Confidence {
    /// The thresholds of a target: one for all answers, or one for each of the bank's `classes`. None is below 0.5, unless
    /// costs say so: a class that the bank does not have would be accepted.
    #[must_use]
    pub fn resolve(&self, target: &Target, level: f64, classes: Option<u32>) -> Vec<Resolved> {
        target.resolve_of_bank(&self.outcomes, &self.unseen, level, classes)
    }

    /// How often images of a class that the bank does not have are accepted at `threshold`, as they are or `changed` by
    /// interventions; `None` if that was not measured.
    #[must_use]
    pub fn open_set(&self, threshold: f32, changed: bool) -> Option<OpenSet> {
        OpenSet::at(&self.unseen, threshold, changed)
    }

    /// k, the width of the invariant embeddings that it takes.
    #[must_use]
    pub fn width(&self) -> usize {
        self.geometry.mean.len()
    }
}

/// The metadata.
#[derive(Serialize, Deserialize)]
struct Entry {
    projection: String,
    encoder_sha256: String,
    model: ConfidenceModel,
    tails: Tails,
    basis: Basis,
    within: Covariance,
    background: Covariance,
    drift_center: Vec<f32>,
    drift_weights: Vec<f32>,
    drift_quantiles: Vec<f32>,
    centers: bool,
    unseen: bool,
}

#[derive(Serialize, Deserialize)]
struct Covariance {
    shares: Vec<f32>,
    variance: f32,
}

/// The tensors to write, and the metadata.
pub(in crate::classify) struct Stored {
    tensors: Vec<(&'static str, Vec<usize>, Vec<f32>)>,
    entry: String,
    reference: Option<condition::Stored>,
}

impl Stored {
    pub(in crate::classify) fn new(confidence: &Confidence) -> Result<Self, TensorFileError> {
        let Confidence {
            geometry,
            outcomes,
            unseen,
            ..
        } = confidence;
        let matrix = |name, rows: &[Vec<f32>]| {
            let width = rows.first().map_or(0, Vec::len);
            (!rows.is_empty()).then(|| (name, vec![rows.len(), width], rows.concat()))
        };
        let table = |name, outcomes: &[Outcome]| {
            matrix(
                name,
                &outcomes.iter().map(|o| row(o).to_vec()).collect::<Vec<_>>(),
            )
        };
        let mean = std::slice::from_ref(&geometry.mean);
        let tensors = [
            matrix("confidence_mean", mean),
            matrix("confidence_within", &geometry.within.axes),
            matrix("confidence_background", &geometry.background.axes),
            matrix("confidence_drift", &geometry.drift.axes),
            geometry
                .centers
                .as_deref()
                .and_then(|c| matrix("confidence_centers", c)),
            table("confidence_outcomes", outcomes),
            table("confidence_unseen", unseen),
        ];
        let covariance = |c: &LowRank| Covariance {
            shares: c.shares.clone(),
            variance: c.variance,
        };
        let entry = Entry {
            projection: confidence.projection.clone(),
            encoder_sha256: confidence.encoder_sha256.clone(),
            model: confidence.model.clone(),
            tails: confidence.tails,
            basis: confidence.basis.clone(),
            within: covariance(&geometry.within),
            background: covariance(&geometry.background),
            drift_center: geometry.drift.center.clone(),
            drift_weights: geometry.drift.weights.clone(),
            drift_quantiles: geometry.drift.quantiles.clone(),
            centers: geometry.centers.is_some(),
            unseen: !unseen.is_empty(),
        };
        Ok(Self {
            tensors: tensors.into_iter().flatten().collect(),
            entry: to_json(KEY, &entry)?,
            reference: confidence
                .reference
                .as_ref()
                .map(condition::Stored::new)
                .transpose()?,
        })
    }

    pub(in crate::classify) fn tensors(&self) -> impl Iterator<Item = NamedTensor<'_>> {
        self.tensors
            .iter()
            .map(|(name, shape, values)| (*name, shape.clone(), Values::F32(values)))
            .chain(self.reference.iter().flat_map(condition::Stored::tensors))
    }

    pub(in crate::classify) fn metadata(&self) -> impl Iterator<Item = (String, String)> {
        let own = (KEY.to_owned(), self.entry.clone());
        let reference = self.reference.iter().map(condition::Stored::metadata);
        std::iter::once(own).chain(reference)
    }
}

#[expect(clippy::cast_precision_loss, reason = "indices are below 2^24")]
fn row(o: &Outcome) -> [f32; COLUMNS] {
    let truth = o.truth.map_or(-1.0, |t| t as f32);
    [
        o.confidence,
        o.image as f32,
        o.answer as f32,
        truth,
        f32::from(u8::from(o.changed)),
    ]
}

/// Reads the confidence of a bank with embeddings `[classes, width]`, if it has one. The inner error says what is damaged.
pub(in crate::classify) fn read(
    file: &TensorFile<'_>,
    classes: usize,
    width: usize,
) -> Result<Option<Result<Confidence, String>>, TensorFileError> {
    if file.optional(KEY).is_none() {
        return Ok(None);
    }
    let entry: Entry = file.json(KEY)?;
    let (shape, mean) = file.f32("confidence_mean", 2)?;
    if shape[0] != 1 {
        return Ok(Some(Err(format!("has {} means, expected one", shape[0]))));
    }
    let matrix = |name, there: bool| {
        if !there {
            return Ok(Vec::new());
        }
        let (shape, values) = file.f32(name, 2)?;
        Ok(values
            .chunks(shape[1])
            .map(<[f32]>::to_vec)
            .collect::<Vec<_>>())
    };
    let matrices = Matrices {
        mean,
        within: matrix("confidence_within", !entry.within.shares.is_empty())?,
        background: matrix("confidence_background", !entry.background.shares.is_empty())?,
        drift: matrix("confidence_drift", !entry.drift_center.is_empty())?,
        centers: matrix("confidence_centers", entry.centers)?,
        outcomes: matrix("confidence_outcomes", true)?,
        unseen: matrix("confidence_unseen", entry.unseen)?,
    };
    let reference = condition::read(file, width)?.transpose();
    let confidence = assemble(entry, matrices, classes, width);
    Ok(Some(confidence.and_then(|confidence| {
        Ok(Confidence {
            reference: reference?,
            ..confidence
        })
    })))
}

/// The tensors as they were read.
struct Matrices {
    mean: Vec<f32>,
    within: Vec<Vec<f32>>,
    background: Vec<Vec<f32>>,
    drift: Vec<Vec<f32>>,
    centers: Vec<Vec<f32>>,
    outcomes: Vec<Vec<f32>>,
    unseen: Vec<Vec<f32>>,
}

fn assemble(entry: Entry, m: Matrices, classes: usize, width: usize) -> Result<Confidence, String> {
    check_entry(&entry)?;
    let (within, background) = (entry.within.shares.len(), entry.background.shares.len());
    let (rank, centers) = (m.mean.len(), if entry.centers { classes } else { 0 });
    expect_matrix("within", &m.within, within, MAX_RANK, rank)?;
    expect_matrix("background", &m.background, background, MAX_RANK, rank)?;
    expect_matrix(
        "drift",
        &m.drift,
        entry.drift_center.len(),
        MAX_DRIFT_RANK,
        width,
    )?;
    expect_matrix("centers", &m.centers, centers, classes, rank)?;
    expect_directions("within", &m.within, true)?;
    expect_directions("background", &m.background, true)?;
    expect_directions("drift", &m.drift, false)?;
    let outcomes = |rows: &[Vec<f32>]| -> Result<Vec<Outcome>, String> {
        rows.iter().map(|r| outcome(r, classes)).collect()
    };
    let low_rank = |axes, c: Covariance| LowRank {
        axes,
        shares: c.shares,
        variance: c.variance,
    };
    Ok(Confidence {
        projection: entry.projection,
        encoder_sha256: entry.encoder_sha256,
        model: entry.model,
        tails: entry.tails,
        basis: entry.basis,
        outcomes: outcomes(&m.outcomes)?,
        unseen: outcomes(&m.unseen)?,
        geometry: Geometry {
            within: low_rank(m.within, entry.within),
            background: low_rank(m.background, entry.background),
            mean: m.mean,
            centers: entry.centers.then_some(m.centers),
            drift: Drift {
                axes: m.drift,
                center: entry.drift_center,
                weights: entry.drift_weights,
                quantiles: entry.drift_quantiles,
            },
        },
        reference: None,
    })
}

fn expect_matrix(
    name: &str,
    rows: &[Vec<f32>],
    count: usize,
    most: usize,
    width: usize,
) -> Result<(), String> {
    if rows.len() != count || count > most || rows.iter().any(|r| r.len() != width) {
        let found = rows.first().map_or(0, Vec::len);
        return Err(format!(
            "has `confidence_{name}` [{}, {found}], expected [{count}, {width}] and at most {most} rows",
            rows.len()
        ));
    }
    Ok(())
}

/// Directions must be of unit length and, if they span a covariance, at right angles: distances assume so.
fn expect_directions(name: &str, rows: &[Vec<f32>], at_right_angles: bool) -> Result<(), String> {
    for (i, row) in rows.iter().enumerate() {
        let others = if at_right_angles { 0 } else { i };
        for (j, other) in rows.iter().enumerate().take(i + 1).skip(others) {
            let expected = if i == j { 1.0 } else { 0.0 };
            let off = (product(row, other) - expected).abs();
            // A NaN does not fit.
            let fits = off <= TOLERANCE;
            if !fits {
                return Err(format!(
                    "has directions in `confidence_{name}` that are not orthonormal (off by {off:.4})"
                ));
            }
        }
    }
    Ok(())
}

fn check_entry(entry: &Entry) -> Result<(), String> {
    entry.model.check()?;
    for (name, c) in [("within", &entry.within), ("background", &entry.background)] {
        let fine = c.variance.is_finite() && c.variance > 0.0;
        if !fine || !c.shares.iter().all(|s| (0.0..=1.0).contains(s)) {
            return Err(format!("has impossible variances in `{name}`"));
        }
    }
    let Tails {
        cosine,
        mahalanobis,
        drift,
    } = entry.tails;
    if ![cosine, mahalanobis, drift].iter().all(|v| v.is_finite()) {
        return Err("has tails that are not finite numbers".into());
    }
    let (center, weights) = (&entry.drift_center, &entry.drift_weights);
    let quantiles = &entry.drift_quantiles;
    let finite = |v: &[f32]| v.iter().all(|v| v.is_finite() && v.abs() < 1e18);
    if weights.len() != center.len()
        || !finite(center)
        || !finite(weights)
        || weights.iter().any(|&w| w < 0.0)
        || !finite(quantiles)
        || !quantiles.is_sorted()
    {
        return Err("has an impossible measure of drift".into());
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be indices"
)]
fn outcome(row: &[f32], classes: usize) -> Result<Outcome, String> {
    let index =
        |v: f32, below: f32| (v.fract() == 0.0 && v >= 0.0 && v < below).then_some(v as u32);
    let classes = (classes as f32).min(MAX_INDEX);
    let parsed = match *row {
        [confidence, image, answer, truth, changed] if (0.0..=1.0).contains(&confidence) => {
            let unknown = truth.to_bits() == (-1.0f32).to_bits();
            let truth = if unknown {
                Some(None)
            } else {
                index(truth, classes).map(Some)
            };
            let indices = (
                index(image, MAX_INDEX),
                index(answer, classes),
                truth,
                index(changed, 2.0),
            );
            match indices {
                (Some(image), Some(answer), Some(truth), Some(changed)) => Some(Outcome {
                    confidence,
                    image,
                    answer,
                    truth,
                    changed: changed == 1,
                }),
                _ => None,
            }
        }
        _ => None,
    };
    parsed.ok_or_else(|| format!("has an impossible outcome {row:?}"))
}
