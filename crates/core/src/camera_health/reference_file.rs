//! The file of a [`Reference`]: safetensors of about 5 KB.

use super::glance::{CELLS, TILES};
use super::reference::Reference;
use crate::tensor_file::{self, TensorFile, TensorFileError, Values, to_json};
use std::collections::HashMap;
use thiserror::Error;

const FORMAT: &str = "constancy-reference";

/// Which camera a reference belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceOrigin {
    /// The camera's name.
    pub camera: String,
    /// The part of the picture that is used, in any form that differs where it does.
    pub view: String,
    /// When it was learnt, RFC 3339.
    pub learnt: String,
}

/// Why a reference file was refused. The caller knows its path.
#[derive(Debug, Error)]
pub enum ReferenceError {
    #[error(transparent)]
    File(#[from] TensorFileError),
    #[error("its numbers are none that can be measured")]
    Damaged,
}

impl Reference {
    /// Reads what [`Self::to_bytes`] wrote.
    pub fn parse(bytes: &[u8]) -> Result<(Self, ReferenceOrigin), ReferenceError> {
        let file = TensorFile::parse(bytes, FORMAT)?;
        let [blank, structure, sharpness]: [f32; 3] = file.json("measures")?;
        let reference = Self {
            frames: file.json("frames")?,
            blank,
            structure,
            sharpness,
            background: file.vector("background", CELLS)?,
            profile: file.vector("profile", TILES)?,
        };
        let text = |key| file.text(key).map(str::to_owned);
        let origin = ReferenceOrigin {
            camera: text("camera")?,
            view: text("view")?,
            learnt: text("learnt")?,
        };
        let possible = reference.background.iter().all(|m| m.abs() <= 1.0)
            && reference.profile.iter().all(|&p| p >= 0.0)
            && (0.0..=1.0).contains(&blank)
            && sharpness >= 0.0
            && reference.frames > 0;
        if possible {
            Ok((reference, origin))
        } else {
            Err(ReferenceError::Damaged)
        }
    }

    /// The bytes of a reference file.
    pub fn to_bytes(&self, origin: &ReferenceOrigin) -> Result<Vec<u8>, ReferenceError> {
        let measures = [self.blank, self.structure, self.sharpness];
        let metadata = HashMap::from([
            ("camera".to_owned(), origin.camera.clone()),
            ("view".to_owned(), origin.view.clone()),
            ("learnt".to_owned(), origin.learnt.clone()),
            ("frames".to_owned(), to_json("frames", &self.frames)?),
            ("measures".to_owned(), to_json("measures", &measures)?),
        ]);
        let tensors = [
            ("background", vec![CELLS], Values::F32(&self.background)),
            ("profile", vec![TILES], Values::F32(&self.profile)),
        ];
        Ok(tensor_file::to_bytes(FORMAT, 1, &tensors, metadata)?)
    }
}
