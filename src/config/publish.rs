//! `[camera.publish]`: which of a camera's decisions become events, and when its state changes; `[homeassistant]`.

use crate::classify::Steadiness;
use serde::Deserialize;
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
        Steadiness { agree: self.agree, of: self.of, stay_threshold: self.stay_threshold, dwell }
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
        Self { discovery: false, prefix: "homeassistant".into() }
    }
}
