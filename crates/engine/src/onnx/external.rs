//! External data: tensors whose bytes lie in files beside the model.

use super::constant::bytes_of_shape;
use super::mapped::{MappedFile, TensorData};
use constancy_core::foreign_file::Wanted;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataLocation;

/// The data of external initialisers, and the files that hold it.
#[derive(Default)]
pub(super) struct External {
    /// By name of the initialiser.
    pub(super) data: HashMap<String, TensorData>,
    /// By the location that the tensors name, which is relative to the model's folder.
    pub(super) files: BTreeMap<PathBuf, Arc<MappedFile>>,
}

impl External {
    /// Maps the external data of the initialisers of `graph`, the graph of the model at `path`, and
    /// removes their references to it. An error is the reason.
    pub(super) fn resolve(graph: &mut pb::GraphProto, path: &Path) -> Result<Self, String> {
        let folder = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut found = Self::default();
        let mut used: HashMap<PathBuf, Vec<(Range<usize>, String)>> = HashMap::new();
        for tensor in graph.initializer.iter_mut().filter(|t| is_external(t)) {
            let reference = Reference::of(tensor)?;
            let file = found.file(&reference.location, folder)?;
            let range = reference.range(tensor, file.len())?;
            used.entry(reference.location)
                .or_default()
                .push((range.clone(), tensor.name.clone()));
            found
                .data
                .insert(tensor.name.clone(), TensorData::File(file, range));
            tensor.data_location = None;
            tensor.external_data.clear();
        }
        for (location, ranges) in used {
            check_overlaps(&location, ranges)?;
        }
        match external_elsewhere(graph) {
            Some(name) => Err(format!(
                "tensor `{name}` keeps its data in another file, which only initialisers of the main graph may do; export the model again with all data in one file"
            )),
            None => Ok(found),
        }
    }

    fn file(&mut self, location: &Path, folder: &Path) -> Result<Arc<MappedFile>, String> {
        if let Some(known) = self.files.get(location) {
            return Ok(Arc::clone(known));
        }
        let path = inside(folder, location)?;
        let file = MappedFile::open(&path)
            .map_err(|e| format!("its data file {}: {e}", folder.join(location).display()))?;
        if let Some(reason) = file.foreign(Wanted::OnnxData) {
            let named = folder.join(location);
            return Err(format!("its data file {}: {reason}", named.display()));
        }
        let file = Arc::new(file);
        self.files.insert(location.into(), Arc::clone(&file));
        Ok(file)
    }
}

/// The real path of `location`, which must lie in `folder` after all links.
fn inside(folder: &Path, location: &Path) -> Result<PathBuf, String> {
    let named = folder.join(location);
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|e| format!("its data file {}: {e}", named.display()))
    };
    let (path, folder) = (real(&named)?, real(folder)?);
    if path.starts_with(&folder) {
        return Ok(path);
    }
    Err(format!(
        "its data file {} is a link that leads out of the model's folder, to {}; copy the file itself there",
        named.display(),
        path.display()
    ))
}

fn is_external(tensor: &pb::TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

/// Where a tensor says its data is.
struct Reference {
    location: PathBuf,
    offset: usize,
    len: Option<usize>,
}

impl Reference {
    fn of(tensor: &pb::TensorProto) -> Result<Self, String> {
        let value = |key: &str| {
            let entry = tensor.external_data.iter().find(|e| e.key == key);
            entry.map(|e| e.value.as_str())
        };
        let number = |key: &str| {
            let number = value(key).map(str::parse::<usize>).transpose();
            number.map_err(|_| {
                format!(
                    "tensor `{}` has an external offset or length that is not a number",
                    tensor.name
                )
            })
        };
        let location = Path::new(value("location").unwrap_or_default());
        let is_inside = |c| matches!(c, Component::Normal(_) | Component::CurDir);
        if location.as_os_str().is_empty() || !location.components().all(is_inside) {
            return Err(format!(
                "tensor `{}` names a data file outside the model's folder",
                tensor.name
            ));
        }
        let plain = |c: &Component<'_>| matches!(c, Component::Normal(_));
        Ok(Self {
            location: location.components().filter(plain).collect(),
            offset: number("offset")?.unwrap_or(0),
            len: number("length")?,
        })
    }

    /// The range of the data in its file of `file_len` bytes. Without a length it is as long as the
    /// tensor's shape says.
    fn range(&self, tensor: &pb::TensorProto, file_len: usize) -> Result<Range<usize>, String> {
        let (name, location) = (&tensor.name, self.location.display());
        let needed = bytes_of_shape(tensor);
        if let (Some(needed), Some(len)) = (needed, self.len)
            && needed != len
        {
            return Err(format!(
                "tensor `{name}` has {len} bytes in {location}, its shape needs {needed}"
            ));
        }
        let rest = file_len.saturating_sub(self.offset);
        let end = self.offset.checked_add(self.len.or(needed).unwrap_or(rest));
        match end.filter(|&end| end <= file_len) {
            Some(end) => Ok(self.offset..end),
            None => Err(format!(
                "tensor `{name}` lies beyond the end of {location}, which has {file_len} bytes: the file is cut short, or belongs to another model; fetch it again"
            )),
        }
    }
}

/// Two tensors may share all of their bytes, as tied weights do, but not a part of them.
fn check_overlaps(location: &Path, mut used: Vec<(Range<usize>, String)>) -> Result<(), String> {
    used.sort_by_key(|(range, _)| (range.start, range.end));
    let overlap = used
        .windows(2)
        .find(|pair| pair[0].0 != pair[1].0 && pair[1].0.start < pair[0].0.end);
    match overlap {
        Some([(_, a), (_, b)]) => Err(format!(
            "the tensors `{a}` and `{b}` overlap in {}; the file is damaged, export the model again",
            location.display()
        )),
        _ => Ok(()),
    }
}

/// The name of a tensor with external data that is not an initialiser of the main graph.
fn external_elsewhere(graph: &pb::GraphProto) -> Option<String> {
    let sparse = graph
        .sparse_initializer
        .iter()
        .flat_map(|s| s.values.iter().chain(&s.indices));
    let found = graph
        .initializer
        .iter()
        .chain(sparse)
        .find(|t| is_external(t));
    found.map(|t| t.name.clone()).or_else(|| {
        let mut attributes = graph.node.iter().flat_map(|n| &n.attribute);
        attributes.find_map(|a| {
            let mut tensors = a.t.iter().chain(&a.tensors);
            let own = tensors
                .find(|t| is_external(t))
                .map(|t| match t.name.as_str() {
                    "" => a.name.clone(),
                    name => name.to_owned(),
                });
            own.or_else(|| a.g.iter().chain(&a.graphs).find_map(external_elsewhere))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::check_overlaps;
    use std::path::Path;

    #[test]
    fn tensors_share_all_of_their_bytes_or_none() {
        let check = |ranges: &[std::ops::Range<usize>]| {
            let named = ranges.iter().enumerate();
            let named = named.map(|(i, r)| (r.clone(), format!("t{i}"))).collect();
            check_overlaps(Path::new("weights"), named)
        };
        assert_eq!(check(&[8..16, 0..8, 0..8, 16..16]), Ok(()));
        let reason = check(&[8..16, 0..9]).expect_err("one byte is used twice");
        assert!(
            reason.contains("`t1` and `t0` overlap in weights"),
            "{reason}"
        );
        assert!(check(&[0..8, 0..16]).is_err());
    }
}
