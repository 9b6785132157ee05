//! Reads the configuration file: parses it, resolves its paths, checks it.

use super::camera::SourceSettings;
use super::check;
use super::error::ConfigError;
use super::queue;
use super::settings::Settings;
use crate::files::{self, MAX_TEXT_BYTES};
use constancy_engine::describe_toml_error;
use std::path::{Path, PathBuf};

impl Settings {
    /// Reads and checks the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = files::read_text(path, MAX_TEXT_BYTES).map_err(|source| ConfigError::Read {
            path: path.into(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Parses and checks `text`; `path` names the file in errors, and its folder is the one that paths are relative to.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut settings: Self = toml::from_str(text).map_err(|e| refusal(text, path, e))?;
        settings.resolve(path.parent().unwrap_or(Path::new("")));
        check::check(&settings, path)?;
        Ok(settings)
    }

    /// Resolves paths against the configuration's folder.
    fn resolve(&mut self, folder: &Path) {
        let join = |p: &mut PathBuf| *p = folder.join(&p);
        join(&mut self.model.manifest);
        self.model.projection.iter_mut().for_each(join);
        self.classes.bank.iter_mut().for_each(join);
        for camera in &mut self.cameras {
            match &mut camera.source {
                SourceSettings::Replay(replay) => join(&mut replay.path),
                SourceSettings::Synthetic(synthetic) => {
                    synthetic.controls_file.iter_mut().for_each(join);
                }
                SourceSettings::V4l(_) | SourceSettings::Pipe(_) => {}
            }
        }
        let mqtt = &mut self.mqtt;
        if let Some(password) = &mut mqtt.password_file {
            *password = credential(password).unwrap_or_else(|| folder.join(&*password));
        }
        let files = [
            &mut mqtt.ca_file,
            &mut mqtt.client_cert_file,
            &mut mqtt.client_key_file,
        ];
        files.into_iter().flatten().for_each(join);
        self.snapshots.folder.iter_mut().for_each(join);
        self.queue.folder = self
            .queue
            .folder
            .take()
            .map_or_else(queue::state_directory, |f| Some(folder.join(f)));
    }
}

/// Keys that were renamed, and what they have become.
const MOVED: [(&str, &str, &str); 1] = [(
    "mqtt",
    "queue",
    "the section `[queue]`, and a number in it `queue.memory`",
)];

/// Why `text` cannot be parsed; a key that has moved has one way out.
fn refusal(text: &str, path: &Path, error: toml::de::Error) -> ConfigError {
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let is_there = |(section, key, _): &&(&str, &str, &str)| {
        let section = table.get(*section).and_then(toml::Value::as_table);
        section.is_some_and(|section| section.contains_key(*key))
    };
    if let Some((section, key, now)) = MOVED.iter().find(is_there) {
        return ConfigError::Moved {
            path: path.into(),
            key: format!("{section}.{key}"),
            now,
        };
    }
    ConfigError::Parse {
        path: path.into(),
        message: describe_toml_error(text, error),
    }
}

/// The file of a bare name among the credentials of systemd's `LoadCredential=`; `None` outside systemd.
fn credential(name: &Path) -> Option<PathBuf> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY")?;
    (name.components().count() == 1).then(|| Path::new(&folder).join(name))
}
