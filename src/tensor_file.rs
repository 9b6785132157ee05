//! Reading and writing the product's safetensors files: f32 tensors and string metadata, nothing else.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use thiserror::Error;

/// What is wrong with such a file; the caller knows its path.
#[derive(Debug, Error)]
pub enum TensorFileError {
    #[error("not a safetensors file, or cut short: {0}")]
    Parse(String),
    #[error("not a {expected} file (metadata `format` is {found})")]
    Format { expected: &'static str, found: String },
    #[error("written in version {found} of the {expected} format, this program reads version 1; use a newer constancy")]
    Version { expected: &'static str, found: String },
    #[error("metadata `{0}` is missing")]
    NoMetadata(&'static str),
    #[error("metadata `{key}` cannot be read: {reason}")]
    Metadata { key: &'static str, reason: String },
    #[error("tensor `{0}` is missing")]
    NoTensor(&'static str),
    #[error("tensor `{name}` is {found}, expected {expected}")]
    Tensor { name: &'static str, found: String, expected: String },
    #[error("tensor `{0}` holds a value that is not a finite number")]
    NotFinite(&'static str),
}

/// A parsed file of one of the product's formats.
pub struct TensorFile<'a> {
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> TensorFile<'a> {
    /// Parses `bytes` as version 1 of `format`.
    pub fn parse(bytes: &'a [u8], format: &'static str) -> Result<Self, TensorFileError> {
        let parse = |e: safetensors::SafeTensorError| TensorFileError::Parse(e.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(parse)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(parse)?;
        let file = Self { tensors, metadata: header.metadata().clone().unwrap_or_default() };
        match file.metadata.get("format") {
            Some(found) if found == format => {}
            found => {
                let found = found.map_or_else(|| "missing".into(), |f| format!("`{f}`"));
                return Err(TensorFileError::Format { expected: format, found });
            }
        }
        match file.text("version")? {
            "1" => Ok(file),
            found => Err(TensorFileError::Version { expected: format, found: found.into() }),
        }
    }

    /// A metadata value that must be there.
    pub fn text(&self, key: &'static str) -> Result<&str, TensorFileError> {
        self.optional(key).ok_or(TensorFileError::NoMetadata(key))
    }

    /// A metadata value that may be there.
    pub fn optional(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// A metadata value written as JSON.
    pub fn json<T: DeserializeOwned>(&self, key: &'static str) -> Result<T, TensorFileError> {
        let metadata = |e: serde_json::Error| TensorFileError::Metadata { key, reason: e.to_string() };
        serde_json::from_str(self.text(key)?).map_err(metadata)
    }

    /// An f32 tensor of `rank` axes: its shape and its finite values in row-major order.
    pub fn f32(&self, name: &'static str, rank: usize) -> Result<(Vec<usize>, Vec<f32>), TensorFileError> {
        let view = self.tensors.tensor(name).map_err(|_| TensorFileError::NoTensor(name))?;
        if view.dtype() != Dtype::F32 || view.shape().len() != rank || view.shape().contains(&0) {
            return Err(TensorFileError::Tensor {
                name,
                found: format!("{:?} {:?}", view.dtype(), view.shape()),
                expected: format!("F32 with {rank} axes, none of them empty"),
            });
        }
        let (words, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|w| f32::from_le_bytes(*w)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(TensorFileError::NotFinite(name));
        }
        Ok((view.shape().to_vec(), values))
    }

    /// An f32 vector that must have `len` values.
    pub fn vector(&self, name: &'static str, len: usize) -> Result<Vec<f32>, TensorFileError> {
        let (shape, values) = self.f32(name, 1)?;
        if shape[0] == len {
            Ok(values)
        } else {
            let (found, expected) = (format!("{shape:?}"), format!("[{len}]"));
            Err(TensorFileError::Tensor { name, found, expected })
        }
    }
}

/// A tensor to be written: name, shape, row-major values.
pub(crate) type NamedTensor<'a> = (&'static str, Vec<usize>, &'a [f32]);

/// The bytes of a file of `format`, version 1.
pub(crate) fn to_bytes(
    format: &'static str,
    tensors: &[NamedTensor<'_>],
    mut metadata: HashMap<String, String>,
) -> Result<Vec<u8>, TensorFileError> {
    metadata.insert("format".into(), format.into());
    metadata.insert("version".into(), "1".into());
    let parse = |e: safetensors::SafeTensorError| TensorFileError::Parse(e.to_string());
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), data)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), data)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(parse)?;
    safetensors::serialize(views, Some(metadata)).map_err(parse)
}
