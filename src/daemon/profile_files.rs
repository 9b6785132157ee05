//! The files of condition profiles, `condition-<camera>-<id>.safetensors` in the folder that outlives restarts.
//!
//! An id is a number that rises, and four random hex digits, so that no id comes twice.

use crate::clock;
use crate::publish::{Proposal, rfc3339, state_file};
use constancy_core::classify::Classifier;
use constancy_core::classify::condition::{Binding, Profile, Refusal};
use std::path::{Path, PathBuf};

/// Larger files are none of ours.
const MAX_BYTES: u64 = 1 << 20;
/// A camera's profiles; the oldest are forgotten first.
pub(crate) const MAX_PROFILES: usize = 8;
/// Files of a camera, with those of other models and banks, which a later configuration may use again.
const MAX_FILES: usize = 24;

pub(crate) fn path(folder: &Path, camera: &str, id: &str) -> PathBuf {
    folder.join(format!("condition-{camera}-{id}.safetensors"))
}

/// The number of an id; `None` if it is none.
pub(crate) fn number(id: &str) -> Option<u64> {
    let (number, rest) = id.split_once('-')?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits =
        rest.len() == 4 && rest.bytes().all(hex) && number.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| number.parse().ok()).flatten()
}

/// An id after these.
pub(crate) fn next_id<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let last = ids.filter_map(number).max().unwrap_or(0);
    format!("{}-{:04x}", last.saturating_add(1), fastrand::u16(..))
}

/// The ids of a camera's files, oldest first. A folder that is not there has none.
pub(crate) fn ids(folder: &Path, camera: &str) -> Vec<String> {
    let prefix = format!("condition-{camera}-");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let id = |name: &str| {
        let id = name.strip_prefix(&prefix)?.strip_suffix(".safetensors")?;
        Some((number(id)?, id.to_owned()))
    };
    let mut found: Vec<(u64, String)> = entries
        .flatten()
        .filter_map(|entry| id(entry.file_name().to_str()?))
        .collect();
    found.sort();
    found.into_iter().map(|(_, id)| id).collect()
}

/// The profiles of a camera that belong to `binding`, oldest first, and what is said of the other files.
pub(crate) fn load(folder: &Path, binding: &Binding, width: usize) -> (Vec<Profile>, Vec<String>) {
    let (mut profiles, mut refused) = (Vec::new(), Vec::new());
    for id in ids(folder, &binding.camera).iter().rev().take(MAX_FILES) {
        if profiles.len() == MAX_PROFILES {
            break;
        }
        let path = path(folder, &binding.camera, id);
        match read(&path, binding, width) {
            Ok(Some(profile)) if profile.id == *id => profiles.push(profile),
            Ok(Some(_)) => refused.push(format!(
                "{}: it was renamed; it is not used",
                path.display()
            )),
            Ok(None) => {}
            Err(reason) => refused.push(format!("{}: {reason}; it is not used", path.display())),
        }
    }
    profiles.reverse();
    (profiles, refused)
}

fn read(path: &Path, binding: &Binding, width: usize) -> Result<Option<Profile>, String> {
    let bytes = state_file::read(path, MAX_BYTES).map_err(|e| e.to_string())?;
    let parsed = bytes.map(|bytes| Profile::parse(&bytes, binding, width));
    parsed.transpose().map_err(|e| e.to_string())
}

/// Writes a profile's file as a whole, and removes the oldest if there are too many.
pub(crate) fn save(folder: &Path, profile: &Profile, binding: &Binding) -> Result<(), String> {
    let path = path(folder, &binding.camera, &profile.id);
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let bytes = profile.to_bytes(binding).map_err(|e| named(&e))?;
    std::fs::create_dir_all(folder).map_err(|e| named(&e))?;
    state_file::replace(&path, &bytes).map_err(|e| named(&e))?;
    let ids = ids(folder, &binding.camera);
    for id in ids.iter().take(ids.len().saturating_sub(MAX_FILES)) {
        remove(folder, &binding.camera, id).map_err(|e| named(&e))?;
    }
    Ok(())
}

/// Removes a profile's file; one that is not there is no error.
pub(crate) fn remove(folder: &Path, camera: &str, id: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path(folder, camera, id)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// A profile of the light of these frames.
pub(crate) fn make_profile(
    id: String,
    frames: &[Vec<f32>],
    before: Option<&[f32]>,
    classifier: &Classifier,
) -> Result<Profile, Refusal> {
    let offset = classifier.estimate(frames)?;
    let shown = classifier.compare(frames, before, Some(&offset.vector));
    let places: Vec<Vec<f32>> = frames
        .iter()
        .filter_map(|f| classifier.variant_place(f))
        .collect();
    Ok(Profile {
        id,
        created: rfc3339(clock::now().unix_ns),
        offset,
        place: median(&places),
        shown,
    })
}

/// The median of each coordinate.
fn median(places: &[Vec<f32>]) -> Vec<f32> {
    let width = places.first().map_or(0, Vec::len);
    let middle = |d: usize| {
        let mut values: Vec<f32> = places.iter().map(|p| p[d]).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    };
    (0..width).map(middle).collect()
}

/// A profile and what it changed, for a person.
pub(crate) fn describe(profile: &Profile) -> String {
    format!(
        "condition profile {} from {}",
        profile.id,
        Proposal::text(&profile.offset, &profile.shown)
    )
}
