//! What commands find through a configuration.

use super::CliError;
use crate::config::{CameraSettings, Settings};
use std::path::Path;

/// The configuration of the service.
pub(super) const SERVICE_CONFIG: &str = "/etc/constancy/constancy.toml";

/// The camera of this name, or the only one; `config` is the file that the settings are from.
pub(super) fn camera<'a>(
    settings: &'a Settings,
    name: Option<&str>,
    config: &Path,
) -> Result<&'a CameraSettings, CliError> {
    let cameras = &settings.cameras;
    let names: Vec<&str> = cameras.iter().map(|c| c.name.as_str()).collect();
    let listed = names.join(", ");
    match (name, &cameras[..]) {
        (None, [only]) => Ok(only),
        (None, _) => Err(CliError::Usage(format!(
            "{} has several cameras; name one of {listed} with --camera",
            config.display()
        ))),
        (Some(name), _) => cameras.iter().find(|c| c.name == name).ok_or_else(|| {
            CliError::Usage(format!(
                "there is no camera `{name}` in {}; it names {listed}",
                config.display()
            ))
        }),
    }
}

/// The folder that outlives restarts, where the daemon keeps `what`.
pub(super) fn state_folder<'a>(settings: &'a Settings, what: &str) -> Result<&'a Path, CliError> {
    settings.queue.folder.as_deref().ok_or_else(|| {
        CliError::Usage(format!(
            "{what} are kept in `queue.folder`, and there is none: set it, or STATE_DIRECTORY as the service does (/var/lib/constancy)"
        ))
    })
}
