//! An ONNX file, memory-mapped. Large initialisers stay in the file: the decoded message holds
//! everything but their data, which is found by name.

use super::external::External;
use super::mapped::{MappedFile, TensorData, hex};
use super::ring::node_in_ring;
use constancy_core::foreign_file::Wanted;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_varint};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tract_onnx::pb::{self, NodeProto};

/// Initialisers of at least this many bytes stay in the file.
const LARGE_BYTES: usize = 4096;

// Field numbers of onnx.proto.
pub(super) const MODEL_GRAPH: u32 = 7;
pub(super) const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_NAME: u32 = 8;
pub(super) const TENSOR_RAW_DATA: u32 = 9;

/// Why a file is no ONNX model.
pub(crate) struct Unreadable {
    pub(crate) reason: String,
    /// It is something else altogether, so that its hash says nothing.
    pub(crate) is_foreign: bool,
}

impl Unreadable {
    fn damaged(reason: &dyn std::fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            is_foreign: false,
        }
    }
}

/// An ONNX model whose large initialisers are still in their files, which stay mapped: whatever is
/// read later is what was hashed, even if the files have been replaced since.
#[derive(Clone)]
pub(crate) struct OnnxFile {
    pub(crate) model: pb::ModelProto,
    /// Data of the initialisers that `model` holds without it, by name.
    pub(crate) data: HashMap<String, TensorData>,
    file: Arc<MappedFile>,
    /// Files of external data, by their paths from the model's folder.
    data_files: BTreeMap<PathBuf, Arc<MappedFile>>,
}

impl OnnxFile {
    /// Opens the model at `path` and the files of external data next to it. An error is the reason.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let file = Self::open_alone(path).map_err(|e| e.reason)?;
        file.with_external(path)
    }

    /// Opens the model at `path` without its external data.
    pub(crate) fn open_alone(path: &Path) -> Result<Self, Unreadable> {
        let file = MappedFile::open(path).map_err(|e| Unreadable::damaged(&e))?;
        let file = Arc::new(file);
        if let Some(reason) = file.foreign(Wanted::Onnx) {
            return Err(Unreadable {
                reason,
                is_foreign: true,
            });
        }
        let (message, ranges) = without_large_tensors(file.bytes()).ok_or_else(|| {
            Unreadable::damaged(
                &"it is cut short, or not a protobuf message; copy or download it again",
            )
        })?;
        let model =
            pb::ModelProto::decode(message.as_slice()).map_err(|e| Unreadable::damaged(&e))?;
        if let Some(node) = model.graph.as_ref().and_then(|g| node_in_ring(&g.node)) {
            let NodeProto { op_type, name, .. } = node;
            let reason = format!("its operator `{op_type}` `{name}` depends on its own result");
            return Err(Unreadable::damaged(&reason));
        }
        file.release(&(0..file.len()));
        let data = ranges
            .into_iter()
            .map(|(name, range)| (name, TensorData::File(Arc::clone(&file), range)))
            .collect();
        Ok(Self {
            model,
            data,
            file,
            data_files: BTreeMap::new(),
        })
    }

    /// Maps the external data of the model at `path`.
    pub(crate) fn with_external(mut self, path: &Path) -> Result<Self, String> {
        if let Some(graph) = self.model.graph.as_mut() {
            let external = External::resolve(graph, path)?;
            self.data.extend(external.data);
            self.data_files = external.files;
        }
        Ok(self)
    }

    /// SHA-256 of everything that the model consists of, lower-case hex: the hash of the file or,
    /// where data lies in other files, the hash of the list of hashes that
    /// `sha256sum FILE DATA… | cut -c-64` prints, with the data files in order of their names.
    pub(crate) fn sha256(&self) -> String {
        let own = hex(self.file.sha256());
        if self.data_files.is_empty() {
            return own;
        }
        let mut list = own + "\n";
        for file in self.data_files.values() {
            list += &hex(file.sha256());
            list.push('\n');
        }
        hex(Sha256::digest(list))
    }

    /// SHA-256 of the file without its external data.
    pub(crate) fn graph_sha256(&self) -> String {
        hex(self.file.sha256())
    }

    /// The files of external data, relative to the model's folder.
    pub(crate) fn data_files(&self) -> impl Iterator<Item = &Path> {
        self.data_files.keys().map(PathBuf::as_path)
    }

    /// Size of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        let files = std::iter::once(&self.file).chain(self.data_files.values());
        files.map(|f| f.len() as u64).sum()
    }
}

/// Where the data of initialisers is in the file, by name.
type Ranges = Vec<(String, Range<usize>)>;

/// The model's message without the data of large initialisers, and where that data is. `None` if
/// the bytes are not a message.
fn without_large_tensors(bytes: &[u8]) -> Option<(Vec<u8>, Ranges)> {
    let mut ranges = Vec::new();
    let model = edit_message(bytes, 0..bytes.len(), &mut |number, value, out| {
        if number != MODEL_GRAPH {
            return Some(false);
        }
        let graph = edit_message(bytes, value, &mut |number, value, out| {
            if number != GRAPH_INITIALIZER {
                return Some(false);
            }
            let mut raw = None;
            let mut name = String::new();
            let tensor = edit_message(bytes, value, &mut |number, value, _| {
                if number == TENSOR_NAME {
                    name = String::from_utf8_lossy(&bytes[value]).into_owned();
                    return Some(false);
                }
                let large = number == TENSOR_RAW_DATA && value.len() >= LARGE_BYTES;
                if large {
                    raw = Some(value);
                }
                Some(large)
            })?;
            ranges.extend(raw.map(|raw| (name, raw)));
            put_field(GRAPH_INITIALIZER, &tensor, out);
            Some(true)
        })?;
        put_field(MODEL_GRAPH, &graph, out);
        Some(true)
    })?;
    Some((model, ranges))
}

/// Appends a length-delimited field.
fn put_field(number: u32, value: &[u8], out: &mut Vec<u8>) {
    prost::encoding::encode_key(number, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Copies a message field by field. `edit` gets the number and the range of every length-delimited
/// field; it writes a replacement (or nothing) and returns true, or returns false to have the field
/// copied. `None` if the bytes are not a message.
fn edit_message(
    bytes: &[u8],
    range: Range<usize>,
    edit: &mut impl FnMut(u32, Range<usize>, &mut Vec<u8>) -> Option<bool>,
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let start = at;
        let mut rest = &bytes[at..range.end];
        let (number, wire) = decode_key(&mut rest).ok()?;
        let value_start = range.end - rest.len();
        let skip = match wire {
            WireType::Varint => {
                decode_varint(&mut rest).ok()?;
                range.end - rest.len() - value_start
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                let from = range.end - rest.len();
                let to = from.checked_add(len).filter(|&to| to <= range.end)?;
                at = to;
                if !edit(number, from..to, &mut out)? {
                    out.extend_from_slice(&bytes[start..to]);
                }
                continue;
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        at = value_start
            .checked_add(skip)
            .filter(|&to| to <= range.end)?;
        out.extend_from_slice(&bytes[start..at]);
    }
    Some(out)
}
