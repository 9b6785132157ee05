//! `[camera.publish]`: which of a camera's decisions become events, and when its state changes.

use constancy_core::classify::DebounceRules;
use serde::Deserialize;
use std::time::Duration;

/// `camera.publish.when`: which decisions become events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishWhen {
    #[default]
    /// All of them.
    Every,
    /// Those that change the camera's state.
    OnChange,
}

/// `[camera.publish]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishSettings {
    pub when: PublishWhen,
    /// Minimum seconds between two events. A change that comes sooner is published when they have passed.
    pub at_most_every_s: f64,
    /// With `on-change`: publish an event after this many seconds without a change.
    pub heartbeat_s: Option<f64>,
    /// The state changes when this many of the last `of` frames give the new class, or "unknown".
    pub agree: usize,
    /// How many of the last frames `agree` counts among.
    pub of: usize,
    /// Minimum score at which the current class stays known. Defaults to `classes.threshold`.
    pub stay_threshold: Option<f32>,
    /// Minimum seconds that a state lasts.
    pub dwell_s: f64,
}

impl Default for PublishSettings {
    fn default() -> Self {
        Self {
            when: PublishWhen::Every,
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
    /// When a new answer becomes the camera's state.
    #[must_use]
    pub fn steadiness(&self) -> DebounceRules {
        let dwell = Duration::from_secs_f64(self.dwell_s);
        DebounceRules {
            agree: self.agree,
            of: self.of,
            stay_threshold: self.stay_threshold,
            dwell,
        }
    }
}
