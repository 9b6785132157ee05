//! The topics of a device: every topic of the JSON messages, the commands and Home Assistant's discovery is built here.
//! Sparkplug has a namespace of its own, which [`super::sparkplug`] builds.

use crate::config::{PayloadFormat, Settings, is_topic_name};
use std::collections::BTreeSet;

/// The topics of one device.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    /// `<prefix>/<device>`.
    base: String,
    device: String,
    /// `homeassistant.prefix`.
    home_assistant: String,
}

impl Topics {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            base: format!("{}/{}", settings.mqtt.prefix, settings.device),
            device: settings.device.clone(),
            home_assistant: settings.homeassistant.prefix.clone(),
        }
    }

    /// Whether the device is connected; retained.
    pub(super) fn status(&self) -> String {
        format!("{}/status", self.base)
    }

    /// The state of the queue; retained.
    pub(super) fn queue(&self) -> String {
        format!("{}/queue", self.base)
    }

    /// A camera's decisions.
    pub(super) fn event(&self, camera: &str) -> String {
        format!("{}/{camera}/event", self.base)
    }

    /// What a camera sees at present; retained.
    pub(super) fn state(&self, camera: &str) -> String {
        format!("{}/{camera}/state", self.base)
    }

    /// Pictures that commands asked for.
    pub(super) fn snapshot(&self, camera: &str) -> String {
        format!("{}/{camera}/snapshot", self.base)
    }

    /// The filter that all commands match.
    pub(super) fn commands(&self) -> String {
        format!("{}/+/set/+", self.base)
    }

    /// Where a command is sent.
    pub(super) fn command(&self, camera: &str, command: &str) -> String {
        format!("{}/{camera}/set/{command}", self.base)
    }

    /// The answers to a command.
    pub(super) fn result(&self, camera: &str, command: &str) -> String {
        format!("{}/{camera}/set/{command}/result", self.base)
    }

    /// Camera and command of a topic that [`Self::commands`] matches; `None` for other topics.
    pub(super) fn split_command<'t>(&self, topic: &'t str) -> Option<(&'t str, &'t str)> {
        let rest = topic.strip_prefix(&self.base)?.strip_prefix('/')?;
        let (camera, command) = rest.split_once("/set/")?;
        (is_topic_name(camera) && is_topic_name(command)).then_some((camera, command))
    }

    /// The device's id in Home Assistant.
    pub(super) fn home_assistant_id(&self) -> String {
        format!("constancy_{}", self.device)
    }

    /// Home Assistant's discovery message of this device; retained.
    pub(super) fn discovery(&self) -> String {
        let id = self.home_assistant_id();
        format!("{}/device/{id}/config", self.home_assistant)
    }

    /// Where Home Assistant publishes `online` when it has started.
    pub(super) fn home_assistant_birth(&self) -> String {
        format!("{}/status", self.home_assistant)
    }

    /// Every topic that a device with these settings publishes retained messages to.
    pub(super) fn retained(settings: &Settings) -> BTreeSet<String> {
        // Sparkplug retains nothing.
        if settings.mqtt.payload == PayloadFormat::Sparkplug {
            return BTreeSet::new();
        }
        let topics = Self::new(settings);
        let discovery = settings.homeassistant.discovery;
        let cameras = settings.cameras.iter().map(|c| topics.state(&c.name));
        [topics.status(), topics.queue()]
            .into_iter()
            .chain(discovery.then(|| topics.discovery()))
            .chain(cameras)
            .collect()
    }
}

#[cfg(test)]
impl Topics {
    /// The topics of device `bench`.
    pub(super) fn of_bench() -> Self {
        Self {
            base: "constancy/bench".into(),
            device: "bench".into(),
            home_assistant: "homeassistant".into(),
        }
    }
}
