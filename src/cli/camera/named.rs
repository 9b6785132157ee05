//! The camera that a command line names, out of a configuration.

use super::super::CliError;
use crate::config::{CameraSettings, Settings};
use std::path::Path;

/// The camera of this name; `config` is the file that the settings are from.
pub(super) fn camera(
    settings: &Settings,
    name: &str,
    config: &Path,
) -> Result<CameraSettings, CliError> {
    let found = settings.cameras.iter().find(|c| c.name == name);
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = settings.cameras.iter().map(|c| c.name.as_str()).collect();
        CliError::Usage(format!(
            "there is no camera `{name}` in {}; it names {}",
            config.display(),
            names.join(", ")
        ))
    })
}
