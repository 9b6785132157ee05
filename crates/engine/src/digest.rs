//! SHA-256 of model files: projections, class banks and caches name their encoder by it.

use crate::error::ModelError;
use crate::manifest::Manifest;
use crate::regular_file;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

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
    Ok(hasher
        .finalize()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
}

/// SHA-256 of the model at `path`; an error if `manifest` names another one as `expected`.
pub(crate) fn checked_sha256(
    path: &Path,
    manifest: &Manifest,
    expected: Option<&str>,
) -> Result<String, ModelError> {
    let found = sha256_of(path).map_err(|source| ModelError::Named {
        path: path.into(),
        source,
        key: if path == manifest.encoder_file() {
            "encoder.file"
        } else {
            "text.file"
        },
        manifest: manifest.path.clone(),
    })?;
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(&found) => Err(ModelError::Hash {
            path: path.into(),
            manifest: manifest.path.clone(),
            expected: expected.into(),
            found,
        }),
        _ => Ok(found),
    }
}
