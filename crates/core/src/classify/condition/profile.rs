//! A condition profile: an offset with what it belongs to, as a file of its own.

use super::compare::Comparison;
use super::offset::{Offset, OffsetKind};
use crate::tensor_file::{self, TensorFile, TensorFileError, Values, to_json};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use thiserror::Error;

const FORMAT: &str = "constancy-condition";
const KEY: &str = "condition";
/// No direction of drift is more than this.
const MAX_PLACE: usize = 64;

/// What a profile is valid for, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub camera: String,
    /// SHA-256 of the image tower, hex.
    pub encoder_sha256: String,
    /// Digest of the projection, or `identity`.
    pub projection: String,
    /// Digest of the class bank.
    pub bank: String,
}

/// A light that a camera was calibrated in.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Names it among a camera's profiles.
    pub id: String,
    /// RFC 3339, UTC.
    pub created: String,
    pub offset: Offset,
    /// The mean place `[q]` of its frames inside the directions of drift.
    pub place: Vec<f32>,
    /// What it changed for the frames that it was made from.
    pub shown: Comparison,
}

/// Why a profile's file was refused. The caller knows its path.
#[derive(Debug, Error)]
pub enum ProfileError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error("belongs to {what} {theirs}, and {ours} is loaded")]
    Foreign {
        what: &'static str,
        theirs: String,
        ours: String,
    },
    #[error("holds numbers that no calibration gives")]
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    created: String,
    kind: OffsetKind,
    frames: u32,
    light: f32,
    /// Values of the place.
    places: usize,
    shown: Comparison,
    #[serde(flatten)]
    binding: Binding,
}

impl Binding {
    /// Refuses a profile that is another's.
    fn check(&self, theirs: &Self) -> Result<(), ProfileError> {
        let pairs = [
            ("camera", &self.camera, &theirs.camera),
            ("the model", &self.encoder_sha256, &theirs.encoder_sha256),
            ("projection", &self.projection, &theirs.projection),
            ("class bank", &self.bank, &theirs.bank),
        ];
        match pairs.iter().find(|(_, ours, theirs)| ours != theirs) {
            None => Ok(()),
            Some((what, ours, theirs)) => Err(ProfileError::Foreign {
                what,
                theirs: short(theirs),
                ours: short(ours),
            }),
        }
    }
}

/// As much of a digest as names it.
fn short(text: &str) -> String {
    if text.len() == 64 {
        text[..12].to_owned()
    } else {
        text.to_owned()
    }
}

impl Profile {
    /// Reads what [`Self::to_bytes`] wrote, of embeddings `[width]`. Refuses a profile that belongs to anything but `ours`.
    pub fn parse(bytes: &[u8], ours: &Binding, width: usize) -> Result<Self, ProfileError> {
        let file = TensorFile::parse(bytes, FORMAT)?;
        let entry: Entry = file.json(KEY)?;
        ours.check(&entry.binding)?;
        // A tensor is never empty.
        let place = match entry.places {
            0 => Vec::new(),
            n => file.vector("place", n.min(MAX_PLACE))?,
        };
        let profile = Self {
            id: entry.id,
            created: entry.created,
            offset: Offset {
                vector: file.vector("offset", width)?,
                kind: entry.kind,
                frames: entry.frames,
                light: entry.light,
            },
            place,
            shown: entry.shown,
        };
        let fine = |v: &[f32]| v.iter().all(|v| v.abs() <= 4.0);
        let named = (1..=64).contains(&profile.id.len())
            && profile
                .id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let share = (0.0..=1.0).contains(&profile.offset.light);
        if named && share && fine(&profile.place) && fine(&profile.offset.vector) {
            Ok(profile)
        } else {
            Err(ProfileError::Damaged)
        }
    }

    /// The bytes of a profile's file.
    pub fn to_bytes(&self, binding: &Binding) -> Result<Vec<u8>, ProfileError> {
        let entry = Entry {
            id: self.id.clone(),
            created: self.created.clone(),
            kind: self.offset.kind,
            frames: self.offset.frames,
            light: self.offset.light,
            places: self.place.len(),
            shown: self.shown,
            binding: binding.clone(),
        };
        let metadata = HashMap::from([(KEY.to_owned(), to_json(KEY, &entry)?)]);
        let vector = &self.offset.vector;
        let mut tensors = vec![("offset", vec![vector.len()], Values::F32(vector))];
        if !self.place.is_empty() {
            tensors.push(("place", vec![self.place.len()], Values::F32(&self.place)));
        }
        Ok(tensor_file::to_bytes(FORMAT, 1, &tensors, metadata)?)
    }
}
