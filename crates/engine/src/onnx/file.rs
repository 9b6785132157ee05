//! An ONNX file, memory-mapped. Large initialisers stay in the file: the decoded message holds
//! everything but their data, which is found by name.

use crate::regular_file;
use memmap2::Mmap;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_varint};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tract_onnx::pb;

/// Initialisers of at least this many bytes stay in the file.
const LARGE_BYTES: usize = 4096;

// Field numbers of onnx.proto.
pub(super) const MODEL_GRAPH: u32 = 7;
pub(super) const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_NAME: u32 = 8;
pub(super) const TENSOR_RAW_DATA: u32 = 9;

/// A mapped file.
pub(crate) struct MappedFile {
    map: Mmap,
}

impl MappedFile {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = regular_file::open(path)?;
        // SAFETY: a model file is not written to while it is loaded; models are replaced by
        // renaming. A file that is truncated all the same kills the process with SIGBUS, as it does
        // with every program that maps files.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map })
    }

    /// Releases the pages of a range that will not be read again soon; they stay in the page cache.
    fn release(&self, range: &Range<usize>) {
        const PAGE: usize = 4096;
        let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
        if start < end {
            // SAFETY: in a read-only mapping of a file, released pages are read again when they are
            // touched.
            let _ = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    start,
                    end - start,
                )
            };
        }
    }
}

/// The data of one tensor, in a mapped file or in memory.
#[derive(Clone)]
pub(crate) enum TensorData {
    File(Arc<MappedFile>, Range<usize>),
    Owned(Arc<Vec<u8>>),
}

impl TensorData {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::File(file, range) => &file.map[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }

    /// Releases the memory that reading has taken, if it can be read again.
    pub(crate) fn release(&self) {
        if let Self::File(file, range) = self {
            file.release(range);
        }
    }
}

/// An ONNX model whose large initialisers are still in their file.
pub(crate) struct OnnxFile {
    pub(crate) model: pb::ModelProto,
    /// Data of the initialisers that `model` holds without it, by name.
    pub(crate) data: HashMap<String, TensorData>,
}

impl OnnxFile {
    /// Opens the model at `path` and the files of external data next to it. An error is the reason.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let file = Arc::new(MappedFile::open(path).map_err(|e| e.to_string())?);
        let (message, ranges) =
            without_large_tensors(&file.map).ok_or("it is cut short, or not a protobuf message")?;
        let model = pb::ModelProto::decode(message.as_slice()).map_err(|e| e.to_string())?;
        file.release(&(0..file.map.len()));
        let data = ranges
            .into_iter()
            .map(|(name, range)| (name, TensorData::File(Arc::clone(&file), range)))
            .collect();
        let mut opened = Self { model, data };
        opened.resolve_external(path)?;
        Ok(opened)
    }

    /// Maps external data, which must lie in the model's folder.
    fn resolve_external(&mut self, path: &Path) -> Result<(), String> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut files: HashMap<PathBuf, Arc<MappedFile>> = HashMap::new();
        let external = pb::tensor_proto::DataLocation::External as i32;
        for tensor in self.model.graph.iter_mut().flat_map(|g| &mut g.initializer) {
            if tensor.data_location != Some(external) {
                continue;
            }
            let (location, (offset, len)) = external_location(tensor)?;
            let file = match files.entry(location) {
                Entry::Occupied(known) => Arc::clone(known.get()),
                Entry::Vacant(new) => {
                    let beside = folder.join(new.key());
                    let mapped = MappedFile::open(&beside)
                        .map_err(|e| format!("{}: {e}", beside.display()))?;
                    Arc::clone(new.insert(Arc::new(mapped)))
                }
            };
            let end = len.map_or(file.map.len(), |len| offset.saturating_add(len));
            if offset > end || end > file.map.len() {
                return Err(format!(
                    "tensor `{}` lies beyond the end of its data file",
                    tensor.name
                ));
            }
            self.data
                .insert(tensor.name.clone(), TensorData::File(file, offset..end));
            tensor.data_location = None;
            tensor.external_data.clear();
        }
        Ok(())
    }
}

/// File, offset and length of a tensor's external data; without a length it ends with the file.
fn external_location(
    tensor: &pb::TensorProto,
) -> Result<(PathBuf, (usize, Option<usize>)), String> {
    let value = |key: &str| {
        tensor
            .external_data
            .iter()
            .find(|e| e.key == key)
            .map(|e| e.value.as_str())
    };
    let number = |key: &str| value(key).map(str::parse::<usize>).transpose();
    let wrong = |_| {
        format!(
            "tensor `{}` has an external offset or length that is not a number",
            tensor.name
        )
    };
    let location = PathBuf::from(value("location").unwrap_or_default());
    let inside = |c| matches!(c, Component::Normal(_) | Component::CurDir);
    if location.as_os_str().is_empty() || !location.components().all(inside) {
        return Err(format!(
            "tensor `{}` names a data file outside the model's folder",
            tensor.name
        ));
    }
    Ok((
        location,
        (
            number("offset").map_err(wrong)?.unwrap_or(0),
            number("length").map_err(wrong)?,
        ),
    ))
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
