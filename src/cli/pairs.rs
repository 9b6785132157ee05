//! The manifest of pairs of images from a camera's own interventions, `pairs.jsonl`: one pair a line.

use super::CliError;
use crate::files::{self, MAX_TEXT_BYTES};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The manifest's name in its folder.
pub(super) const MANIFEST: &str = "pairs.jsonl";
/// What the names of these families begin with, so that none is one of the simulated families.
pub(super) const PREFIX: &str = "physical-";

/// A pair: the scene as it was, and with one thing changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pair {
    /// An image, relative to the manifest's folder; several pairs may share one.
    pub(super) reference: PathBuf,
    pub(super) changed: PathBuf,
    /// `physical-exposure` and the like.
    pub(super) family: String,
    /// The camera's own name of what was moved.
    pub(super) control: String,
    pub(super) from: Level,
    pub(super) to: Level,
    /// The camera's name in the configuration.
    pub(super) camera: String,
}

/// What something was set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Level {
    Number(i64),
    /// A level of the light.
    Named(String),
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(value) => value.fmt(f),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// The pairs of a folder, with paths that can be opened.
pub(super) fn read(folder: &Path) -> Result<Vec<Pair>, CliError> {
    let path = folder.join(MANIFEST);
    let text = files::read_text(&path, MAX_TEXT_BYTES).map_err(|source| CliError::Read {
        path: path.clone(),
        source,
    })?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let pairs = lines.map(|(number, line)| {
        let bad = |reason: String| CliError::PairLine {
            path: path.clone(),
            line: number + 1,
            reason,
        };
        let mut pair: Pair = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
        if !pair.family.starts_with(PREFIX) {
            return Err(bad(format!(
                "its family is `{}`, expected one that begins with `{PREFIX}`",
                pair.family
            )));
        }
        for image in [&mut pair.reference, &mut pair.changed] {
            *image = folder.join(&*image);
        }
        Ok(pair)
    });
    pairs.collect()
}
