//! Reads and writes the product's safetensors files: f32 tensors, f64 tensors where sums need the digits, and string
//! metadata.
//!
//! Every file names its format and version in its metadata (`format`, `version`).

use crate::foreign_file::{HEAD_BYTES, Wanted, foreign};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, HashMap};
use thiserror::Error;

/// Why a file was refused. The caller knows its path.
#[derive(Debug, Error)]
pub enum TensorFileError {
    #[error("not a safetensors file, or cut short: {0}")]
    Parse(String),
    #[error("not a safetensors file of this program: {0}")]
    Foreign(String),
    #[error(
        "not a {expected} file (metadata `format` is {found}); `constancy fit` makes projections and moments, `constancy classes` makes class banks"
    )]
    Format {
        expected: &'static str,
        found: String,
    },
    #[error(
        "written in version {found} of the {expected} format, this program reads version {newest}; use a newer constancy"
    )]
    Version {
        expected: &'static str,
        found: String,
        newest: u32,
    },
    #[error("metadata `{0}` is missing")]
    NoMetadata(&'static str),
    #[error("metadata `{key}` cannot be read: {reason}")]
    Metadata { key: &'static str, reason: String },
    #[error("tensor `{0}` is missing")]
    NoTensor(&'static str),
    #[error("tensor `{name}` is {found}, expected {expected}")]
    Tensor {
        name: &'static str,
        found: String,
        expected: String,
    },
    #[error("tensor `{0}` holds a value that is not a finite number")]
    NotFinite(&'static str),
}

/// A parsed file of one of the product's formats.
///
/// ```
/// use constancy_core::tensor_file::TensorFile;
///
/// // The length of the header, a JSON header with metadata and one f32 tensor, and its data.
/// let header = r#"{"__metadata__":{"format":"example","version":"1","note":"by hand"},
///     "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
/// let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
/// bytes.extend(header.as_bytes());
/// bytes.extend([1.0f32, 2.0].iter().flat_map(|v| v.to_le_bytes()));
///
/// let file = TensorFile::parse(&bytes, "example")?;
/// assert_eq!(file.vector("a", 2)?, [1.0, 2.0]);
/// assert_eq!(file.text("note")?, "by hand");
/// assert!(TensorFile::parse(&bytes, "another").is_err());
/// # Ok::<(), constancy_core::tensor_file::TensorFileError>(())
/// ```
pub struct TensorFile<'a> {
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
    version: u32,
}

impl<'a> TensorFile<'a> {
    /// Parses `bytes` as version 1 of `format`.
    pub fn parse(bytes: &'a [u8], format: &'static str) -> Result<Self, TensorFileError> {
        Self::parse_up_to(bytes, format, 1)
    }

    /// Parses `bytes` as `format` in any version from 1 to `newest`.
    pub fn parse_up_to(
        bytes: &'a [u8],
        format: &'static str,
        newest: u32,
    ) -> Result<Self, TensorFileError> {
        let head = &bytes[..bytes.len().min(HEAD_BYTES)];
        if let Some(reason) = foreign(head, Wanted::Tensors) {
            return Err(TensorFileError::Foreign(reason));
        }
        let parse = |e: safetensors::SafeTensorError| TensorFileError::Parse(e.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(parse)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(parse)?;
        let mut file = Self {
            tensors,
            metadata: header.metadata().clone().unwrap_or_default(),
            version: 1,
        };
        match file.metadata.get("format") {
            Some(found) if found == format => {}
            found => {
                let found = found.map_or_else(|| "missing".into(), |f| format!("`{f}`"));
                return Err(TensorFileError::Format {
                    expected: format,
                    found,
                });
            }
        }
        let found = file.text("version")?;
        match found.parse() {
            Ok(version) if (1..=newest).contains(&version) => file.version = version,
            _ => {
                return Err(TensorFileError::Version {
                    expected: format,
                    found: found.into(),
                    newest,
                });
            }
        }
        Ok(file)
    }

    /// The version of the file's format.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// A required metadata value.
    pub fn text(&self, key: &'static str) -> Result<&str, TensorFileError> {
        self.optional(key).ok_or(TensorFileError::NoMetadata(key))
    }

    /// An optional metadata value.
    pub fn optional(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// A required metadata value, parsed as JSON.
    pub fn json<T: DeserializeOwned>(&self, key: &'static str) -> Result<T, TensorFileError> {
        let metadata = |e: serde_json::Error| TensorFileError::Metadata {
            key,
            reason: e.to_string(),
        };
        serde_json::from_str(self.text(key)?).map_err(metadata)
    }

    /// An f32 tensor with `rank` axes: its shape and its values in row-major order. Values that are not finite are an error.
    pub fn f32(
        &self,
        name: &'static str,
        rank: usize,
    ) -> Result<(Vec<usize>, Vec<f32>), TensorFileError> {
        let (shape, data) = self.view(name, Dtype::F32, rank)?;
        let (words, _) = data.as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|w| f32::from_le_bytes(*w)).collect();
        if values.iter().all(|v| v.is_finite()) {
            Ok((shape, values))
        } else {
            Err(TensorFileError::NotFinite(name))
        }
    }

    /// An f64 tensor with `rank` axes: its shape and its values in row-major order. Values that are not finite are an error.
    pub fn f64(
        &self,
        name: &'static str,
        rank: usize,
    ) -> Result<(Vec<usize>, Vec<f64>), TensorFileError> {
        let (shape, data) = self.view(name, Dtype::F64, rank)?;
        let (words, _) = data.as_chunks::<8>();
        let values: Vec<f64> = words.iter().map(|w| f64::from_le_bytes(*w)).collect();
        if values.iter().all(|v| v.is_finite()) {
            Ok((shape, values))
        } else {
            Err(TensorFileError::NotFinite(name))
        }
    }

    /// An f64 vector of exactly `len` values.
    pub fn f64_vector(&self, name: &'static str, len: usize) -> Result<Vec<f64>, TensorFileError> {
        let (shape, values) = self.f64(name, 1)?;
        expect_shape(name, &shape, &[len])?;
        Ok(values)
    }

    /// An f64 matrix of exactly `[rows, columns]`, in row-major order.
    pub fn f64_matrix(
        &self,
        name: &'static str,
        rows: usize,
        columns: usize,
    ) -> Result<Vec<f64>, TensorFileError> {
        let (shape, values) = self.f64(name, 2)?;
        expect_shape(name, &shape, &[rows, columns])?;
        Ok(values)
    }

    fn view(
        &self,
        name: &'static str,
        dtype: Dtype,
        rank: usize,
    ) -> Result<(Vec<usize>, &[u8]), TensorFileError> {
        let view = self
            .tensors
            .tensor(name)
            .map_err(|_| TensorFileError::NoTensor(name))?;
        if view.dtype() != dtype || view.shape().len() != rank || view.shape().contains(&0) {
            return Err(TensorFileError::Tensor {
                name,
                found: format!("{:?} {:?}", view.dtype(), view.shape()),
                expected: format!("{dtype:?} with {rank} axes, none of them empty"),
            });
        }
        Ok((view.shape().to_vec(), view.data()))
    }

    /// An f32 vector of exactly `len` values.
    pub fn vector(&self, name: &'static str, len: usize) -> Result<Vec<f32>, TensorFileError> {
        let (shape, values) = self.f32(name, 1)?;
        expect_shape(name, &shape, &[len])?;
        Ok(values)
    }
}

fn expect_shape(
    name: &'static str,
    found: &[usize],
    expected: &[usize],
) -> Result<(), TensorFileError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
    Err(TensorFileError::Tensor {
        name,
        found,
        expected,
    })
}

/// The values of a tensor to write, in row-major order.
pub(crate) enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl Values<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

/// A tensor to write: name, shape, values.
pub(crate) type NamedTensor<'a> = (&'static str, Vec<usize>, Values<'a>);

/// The bytes of a file in `version` of `format`.
pub(crate) fn to_bytes(
    format: &'static str,
    version: u32,
    tensors: &[NamedTensor<'_>],
    mut metadata: HashMap<String, String>,
) -> Result<Vec<u8>, TensorFileError> {
    metadata.insert("format".into(), format.into());
    metadata.insert("version".into(), version.to_string());
    metadata.insert(
        "tool".into(),
        concat!("constancy ", env!("CARGO_PKG_VERSION")).into(),
    );
    let parse = |e: safetensors::SafeTensorError| TensorFileError::Parse(e.to_string());
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.bytes())
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, values), data)| {
            Ok((*name, TensorView::new(values.dtype(), shape.clone(), data)?))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(parse)?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(parse)?;
    sorted(&bytes).ok_or_else(|| TensorFileError::Parse("its header is not JSON".into()))
}

/// The same file with its header's keys sorted. The library writes them in random order; sorted, equal contents give
/// equal bytes, so that files can be compared by their hashes.
fn sorted(bytes: &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = bytes.split_first_chunk::<8>()?;
    let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    let header: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(header).ok()?;
    let mut header = serde_json::to_vec(&header).ok()?;
    // Data must begin at a multiple of eight; JSON ignores trailing blanks.
    header.resize(header.len().next_multiple_of(8), b' ');
    Some([&(header.len() as u64).to_le_bytes(), &header[..], data].concat())
}

/// A metadata value as JSON, for [`TensorFile::json`] to read.
pub(crate) fn to_json(
    key: &'static str,
    value: &impl Serialize,
) -> Result<String, TensorFileError> {
    serde_json::to_string(value).map_err(|e| TensorFileError::Metadata {
        key,
        reason: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contents_give_equal_bytes() {
        let metadata = || {
            (0..20)
                .map(|i| (format!("key {i}"), i.to_string()))
                .collect::<HashMap<_, _>>()
        };
        let write = || {
            to_bytes(
                "test",
                1,
                &[("a", vec![2], Values::F32(&[1.0, 2.0]))],
                metadata(),
            )
            .unwrap()
        };
        let first = write();
        assert!((0..20).all(|_| write() == first));
        let file = TensorFile::parse(&first, "test").unwrap();
        assert_eq!(
            (file.vector("a", 2).unwrap(), file.text("key 7").unwrap()),
            (vec![1.0, 2.0], "7")
        );
    }
}
