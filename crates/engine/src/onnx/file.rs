//! An ONNX file, memory-mapped. Large initialisers stay in the file: the decoded message holds everything but their
//! bytes, which are found by name.

use super::pb;
use memmap2::Mmap;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_varint};
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Initialisers of fewer bytes are decoded with the rest.
const LARGE: usize = 4096;

// Field numbers of onnx.proto.
pub(super) const MODEL_GRAPH: u32 = 7;
pub(super) const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_NAME: u32 = 8;
pub(super) const TENSOR_RAW_DATA: u32 = 9;

/// A file's bytes, mapped.
pub(in super::super) struct Mapped {
    map: Mmap,
}

impl Mapped {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: a model file is not written to while it is loaded; models are replaced by renaming. A file that is
        // cut short all the same ends the process, as it does for every program that maps files.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map })
    }

    /// Lets go of the pages of a range that will not be read again soon; they stay in the system's cache.
    fn forget(&self, range: &Range<usize>) {
        const PAGE: usize = 4096;
        let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
        if start < end {
            // SAFETY: a read-only mapping of a file: pages that are let go of are read again when they are touched.
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

/// Bytes of one tensor: within a mapped file, or made here.
#[derive(Clone)]
pub(in super::super) enum Slice {
    File(Arc<Mapped>, Range<usize>),
    Owned(Arc<Vec<u8>>),
}

impl Slice {
    pub(in super::super) fn bytes(&self) -> &[u8] {
        match self {
            Self::File(file, range) => &file.map[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }

    /// Gives the memory back that reading has taken, where it can be read again.
    pub(in super::super) fn forget(&self) {
        if let Self::File(file, range) = self {
            file.forget(range);
        }
    }
}

/// An ONNX model whose large initialisers are still in their file.
pub(in super::super) struct OnnxFile {
    pub(in super::super) model: pb::ModelProto,
    /// Bytes of the initialisers that `model` holds without data.
    pub(in super::super) data: HashMap<String, Slice>,
}

impl OnnxFile {
    /// Reads the model at `path`, and the files beside it that hold its weights, if any do.
    pub(in super::super) fn open(path: &Path) -> Result<Self, String> {
        let file = Arc::new(Mapped::open(path).map_err(|e| e.to_string())?);
        let (slim, ranges) = slim_model(&file.map).ok_or("it is cut short, or no protobuf")?;
        let model = pb::ModelProto::decode(slim.as_slice()).map_err(|e| e.to_string())?;
        file.forget(&(0..file.map.len()));
        let data = ranges
            .into_iter()
            .map(|(name, range)| (name, Slice::File(Arc::clone(&file), range)))
            .collect();
        let mut opened = Self { model, data };
        opened.resolve_external(path)?;
        Ok(opened)
    }

    /// Initialisers in files of their own, which must lie in the model's folder.
    fn resolve_external(&mut self, path: &Path) -> Result<(), String> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut files: HashMap<PathBuf, Arc<Mapped>> = HashMap::new();
        let external = pb::tensor_proto::DataLocation::External as i32;
        for tensor in self.model.graph.iter_mut().flat_map(|g| &mut g.initializer) {
            if tensor.data_location != Some(external) {
                continue;
            }
            let (location, range) = external_range(tensor)?;
            let file = match files.entry(location) {
                std::collections::hash_map::Entry::Occupied(known) => Arc::clone(known.get()),
                std::collections::hash_map::Entry::Vacant(new) => {
                    let beside = folder.join(new.key());
                    let mapped =
                        Mapped::open(&beside).map_err(|e| format!("{}: {e}", beside.display()))?;
                    Arc::clone(new.insert(Arc::new(mapped)))
                }
            };
            let end = range
                .1
                .map_or(file.map.len(), |len| range.0.saturating_add(len));
            if range.0 > end || end > file.map.len() {
                return Err(format!(
                    "tensor `{}` lies beyond the end of its data file",
                    tensor.name
                ));
            }
            self.data
                .insert(tensor.name.clone(), Slice::File(file, range.0..end));
            tensor.data_location = None;
            tensor.external_data.clear();
        }
        Ok(())
    }
}

/// File, offset and length of a tensor outside the model.
fn external_range(tensor: &pb::TensorProto) -> Result<(PathBuf, (usize, Option<usize>)), String> {
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
            "tensor `{}` has an external offset or length that is no number",
            tensor.name
        )
    };
    let location = PathBuf::from(value("location").unwrap_or_default());
    let inside = |c| {
        matches!(
            c,
            std::path::Component::Normal(_) | std::path::Component::CurDir
        )
    };
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

/// Where initialisers lie in the file, by name.
type Ranges = Vec<(String, Range<usize>)>;

/// The model's bytes without the data of large initialisers, and where that lies, by name.
fn slim_model(bytes: &[u8]) -> Option<(Vec<u8>, Ranges)> {
    let mut ranges = Vec::new();
    let slim = rewrite(bytes, 0..bytes.len(), &mut |number, value, out| {
        if number != MODEL_GRAPH {
            return Some(false);
        }
        let graph = rewrite(bytes, value, &mut |number, value, out| {
            if number != GRAPH_INITIALIZER {
                return Some(false);
            }
            let mut raw = None;
            let mut name = String::new();
            let tensor = rewrite(bytes, value, &mut |number, value, _| {
                if number == TENSOR_NAME {
                    name = String::from_utf8_lossy(&bytes[value]).into_owned();
                    return Some(false);
                }
                let large = number == TENSOR_RAW_DATA && value.len() >= LARGE;
                if large {
                    raw = Some(value);
                }
                Some(large)
            })?;
            ranges.extend(raw.map(|raw| (name, raw)));
            put(GRAPH_INITIALIZER, &tensor, out);
            Some(true)
        })?;
        put(MODEL_GRAPH, &graph, out);
        Some(true)
    })?;
    Some((slim, ranges))
}

/// Appends a length-delimited field.
fn put(number: u32, value: &[u8], out: &mut Vec<u8>) {
    prost::encoding::encode_key(number, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Copies a message field by field. `edit` sees every length-delimited one, writes what stands in its place, and says
/// whether it did; otherwise the field is copied. `None` where the bytes are no message.
fn rewrite(
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
