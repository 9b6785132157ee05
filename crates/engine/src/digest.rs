//! SHA-256 of models: projections, class banks and caches name their encoder by it.

use crate::error::ModelError;
use crate::manifest::Manifest;
use crate::onnx::{OnnxFile, Unreadable, hex};
use crate::regular_file;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

/// SHA-256 of a file, lower-case hex.
pub fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = regular_file::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut block)?;
        if n == 0 {
            break;
        }
        hasher.update(&block[..n]);
    }
    Ok(hex(hasher.finalize()))
}

/// Size of the model at `path` with its external data.
pub fn model_bytes(path: &Path) -> Result<u64, ModelError> {
    regular_file::check(path, false).map_err(|source| ModelError::Read {
        path: path.into(),
        source,
    })?;
    match OnnxFile::open(path) {
        Ok(file) => Ok(file.bytes()),
        Err(reason) => Err(ModelError::Parse {
            path: path.into(),
            reason,
        }),
    }
}

/// A model that is open, and the hash of all its bytes.
pub(crate) struct HashedModel {
    pub(crate) file: OnnxFile,
    pub(crate) sha256: String,
}

impl HashedModel {
    /// Opens the model at `path`; an error if `manifest` names another hash as `expected`.
    pub(crate) fn open(
        path: &Path,
        manifest: &Manifest,
        expected: Option<&str>,
    ) -> Result<Self, ModelError> {
        let read = |source| ModelError::Named {
            path: path.into(),
            source,
            key: if path == manifest.encoder_file() {
                "encoder.file"
            } else {
                "text.file"
            },
            manifest: manifest.path.clone(),
        };
        regular_file::check(path, false).map_err(read)?;
        let parse_error = |reason| ModelError::Parse {
            path: path.into(),
            reason,
        };
        let file = match OnnxFile::open_alone(path) {
            Ok(file) => file.with_external(path).map_err(parse_error)?,
            Err(foreign) if foreign.is_foreign => return Err(parse_error(foreign.reason)),
            Err(Unreadable { reason, .. }) => {
                // A damaged file is told by its hash, if it has one.
                let found = expected.map(|_| sha256_of(path)).transpose();
                let found = found.map_err(read)?.unwrap_or_default();
                let wrong = mismatch(path, manifest, expected, found);
                return Err(wrong.unwrap_or_else(|| parse_error(reason)));
            }
        };
        let sha256 = file.sha256();
        match mismatch(path, manifest, expected, sha256.clone()) {
            Some(_) if names_graph(&file, expected) => Err(ModelError::HashOfGraph {
                path: path.into(),
                manifest: manifest.path.clone(),
                found: sha256,
                data_files: file.data_files().map(PathBuf::from).collect(),
            }),
            Some(error) => Err(error),
            None => Ok(Self { file, sha256 }),
        }
    }
}

/// The error if `expected` is another hash than `found`.
fn mismatch(
    path: &Path,
    manifest: &Manifest,
    expected: Option<&str>,
    found: String,
) -> Option<ModelError> {
    let expected = expected.filter(|e| !e.eq_ignore_ascii_case(&found))?;
    Some(ModelError::Hash {
        path: path.into(),
        manifest: manifest.path.clone(),
        expected: expected.into(),
        found,
    })
}

/// Whether `expected` is the hash of the file alone, although its weights lie in others.
fn names_graph(file: &OnnxFile, expected: Option<&str>) -> bool {
    let graph = file.graph_sha256();
    expected.is_some_and(|e| e.eq_ignore_ascii_case(&graph))
}
