//! `[camera.publish]`: which of a camera's decisions become events, and when its state changes; `[homeassistant]`,
//! `[snapshots]`, and the commands that `mqtt.commands` may allow.

use constancy_core::classify::Steadiness;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Which decisions become events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    #[default]
    Every,
    /// Those by which the camera's state changes.
    OnChange,
}

/// `[camera.publish]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishSettings {
    pub when: When,
    /// Seconds between two events at least; a change that comes sooner is told then.
    pub at_most_every_s: f64,
    /// With `on-change`: seconds after which there is an event although nothing has changed.
    pub heartbeat_s: Option<f64>,
    /// A new class or "unknown" becomes the state when so many of the last `of` frames give it.
    pub agree: usize,
    pub of: usize,
    /// Least score at which the present class stays known; `classes.threshold` unless given.
    pub stay_threshold: Option<f32>,
    /// Seconds that a state stays at least.
    pub dwell_s: f64,
}

impl Default for PublishSettings {
    fn default() -> Self {
        Self {
            when: When::Every,
            at_most_every_s: 0.0,
            heartbeat_s: None,
            agree: 1,
            of: 1,
            stay_threshold: None,
            dwell_s: 0.0,
        }
    }
}

impl PublishSettings {
    #[must_use]
    pub fn steadiness(&self) -> Steadiness {
        let dwell = Duration::from_secs_f64(self.dwell_s);
        Steadiness {
            agree: self.agree,
            of: self.of,
            stay_threshold: self.stay_threshold,
            dwell,
        }
    }
}

/// `[homeassistant]`: whether Home Assistant is told of this device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HomeAssistantSettings {
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

/// `mqtt.payload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadFormat {
    /// JSON on topics of our own.
    #[default]
    Json,
    /// Sparkplug B 3.0.
    Sparkplug,
}

/// What may be commanded over MQTT, by the last part of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandName {
    /// Whether the camera's frames are looked at.
    Enabled,
    /// What the camera's answer is chosen from.
    Labels,
    /// Least score of a known class.
    Threshold,
    /// A picture of the next frame.
    Snapshot,
}

impl CommandName {
    pub const ALL: [Self; 4] = [Self::Enabled, Self::Labels, Self::Threshold, Self::Snapshot];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Labels => "labels",
            Self::Threshold => "threshold",
            Self::Snapshot => "snapshot",
        }
    }
}

/// `[snapshots]`: the frames of events, as JPEG files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotSettings {
    /// Where they go; none are kept unless it is given.
    pub folder: Option<PathBuf>,
    /// Files at most; the oldest go.
    pub max_files: usize,
    /// MiB at most.
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
