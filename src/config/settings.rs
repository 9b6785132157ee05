//! The whole configuration, and its sections `[model]`, `[classes]`, `[homeassistant]` and `[snapshots]`.

use super::camera::CameraSettings;
use super::classes::ClassSettings;
use super::light::LightSettings;
use super::mqtt::MqttSettings;
use super::queue::QueueSettings;
use constancy_engine::EngineOptions;
use serde::Deserialize;
use std::path::PathBuf;

/// A checked configuration. Every path is absolute or relative to the working directory.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// This device's name in topics and events, `[A-Za-z0-9_-]{1,64}`. Defaults to the host's name.
    #[serde(default = "host_name")]
    pub device: String,
    pub model: ModelSettings,
    #[serde(default = "EngineOptions::for_daemon")]
    pub engine: EngineOptions,
    pub classes: ClassSettings,
    #[serde(default)]
    pub light: LightSettings,
    /// At least one; names are unique.
    #[serde(rename = "camera", default)]
    pub cameras: Vec<CameraSettings>,
    #[serde(default)]
    pub mqtt: MqttSettings,
    #[serde(default)]
    pub queue: QueueSettings,
    #[serde(default)]
    pub homeassistant: HomeAssistantSettings,
    #[serde(default)]
    pub snapshots: SnapshotSettings,
}

/// `[model]`: the model that recognises the frames.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// The model's manifest.
    pub manifest: PathBuf,
    /// The invariant projection. Defaults to the identity.
    pub projection: Option<PathBuf>,
}

/// `[homeassistant]`: Home Assistant's MQTT discovery.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HomeAssistantSettings {
    /// Publish the discovery message.
    pub discovery: bool,
    /// First part of Home Assistant's own topics.
    pub prefix: String,
}

impl Default for HomeAssistantSettings {
    fn default() -> Self {
        Self {
            discovery: false,
            prefix: "homeassistant".into(),
        }
    }
}

/// `[snapshots]`: keeps the frame of each event as a JPEG file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotSettings {
    /// Where the files go. Without a folder, none are kept.
    pub folder: Option<PathBuf>,
    /// Maximum number of files; the oldest are deleted first.
    pub max_files: usize,
    /// Maximum size of all files together, MiB.
    pub max_mib: u64,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self {
            folder: None,
            max_files: 1000,
            max_mib: 256,
        }
    }
}

/// The host's name, with every character that topics do not allow replaced by `-`.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let name: String = name.trim().chars().map(allowed).take(64).collect();
    if name.is_empty() {
        "device".into()
    } else {
        name
    }
}
