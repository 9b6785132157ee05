//! The file of a camera's reference picture, `reference-<camera>.safetensors` in the folder that outlives restarts.

use crate::publish::state_file;
use constancy_core::camera_health::{Reference, ReferenceOrigin};
use constancy_core::preprocess::View;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Larger files are none of ours.
const MAX_BYTES: u64 = 64 << 10;

/// A reference from before.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) reference: Reference,
    /// RFC 3339.
    pub(crate) learnt: String,
}

/// Where a camera's reference lies.
pub(crate) fn path(folder: &Path, camera: &str) -> PathBuf {
    folder.join(format!("reference-{camera}.safetensors"))
}

/// A view as the file names it.
pub(super) fn view_text(view: &View) -> String {
    format!("{view:?}")
}

/// The reference of a camera with this view, or why its file cannot be used; `None` if there is none.
pub(crate) fn read(folder: &Path, camera: &str, view: &View) -> Result<Option<Known>, String> {
    let bytes = state_file::read(&path(folder, camera), MAX_BYTES).map_err(|e| e.to_string())?;
    let Some(bytes) = bytes else { return Ok(None) };
    let (reference, origin) = Reference::parse(&bytes).map_err(|e| e.to_string())?;
    if origin.camera != camera {
        return Err(format!("it belongs to camera `{}`", origin.camera));
    }
    if origin.view != view_text(view) {
        return Err("it was learnt with another `camera.view`".into());
    }
    Ok(Some(Known {
        reference,
        learnt: origin.learnt,
    }))
}

/// Like [`read`]; a file that cannot be used is named in the log, and another will take its place.
pub(super) fn load(folder: &Path, camera: &str, view: &View) -> Option<Known> {
    read(folder, camera, view).unwrap_or_else(|reason| {
        log::warn!(
            "{}: {reason}; the camera's reference picture is learnt anew",
            path(folder, camera).display()
        );
        None
    })
}

/// Replaces the file as a whole; returns whether that worked.
pub(super) fn save(folder: &Path, reference: &Reference, origin: &ReferenceOrigin) -> bool {
    let path = path(folder, &origin.camera);
    let bytes = reference.to_bytes(origin).map_err(|e| e.to_string());
    let written =
        bytes.and_then(|bytes| state_file::replace(&path, &bytes).map_err(|e| e.to_string()));
    if let Err(reason) = &written {
        log::warn!(
            "{}: {reason}; after a restart, the camera's reference picture is learnt anew",
            path.display()
        );
    }
    written.is_ok()
}

/// Whether the file was removed, from a folder that is there.
pub(super) fn is_gone(folder: &Path, camera: &str) -> bool {
    let path = path(folder, camera);
    let missing = std::fs::symlink_metadata(&path).is_err_and(|e| e.kind() == ErrorKind::NotFound);
    missing && folder.is_dir()
}
