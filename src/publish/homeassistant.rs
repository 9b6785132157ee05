//! Home Assistant's device discovery: one retained message that describes the device and its entities.
//!
//! <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>. Its states are what is published
//! anyhow. The message is sent with every connection, and when Home Assistant says that it has started.

use crate::config::Settings;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The discovery of one device.
#[derive(Debug, Clone)]
pub(super) struct Discovery {
    /// `<prefix>/device/constancy_<device>/config`.
    pub(super) topic: String,
    /// `<prefix>/status`, where Home Assistant says `online`.
    pub(super) birth_topic: String,
    device: Value,
    availability: Value,
    /// By their ids within the device.
    components: BTreeMap<String, Value>,
}

impl Discovery {
    /// `None` unless it is configured.
    pub(super) fn new(settings: &Settings, base_topic: &str) -> Option<Self> {
        let prefix = settings
            .homeassistant
            .discovery
            .then_some(&settings.homeassistant.prefix)?;
        let device = &settings.device;
        let id = format!("constancy_{device}");
        let version = env!("CARGO_PKG_VERSION");
        let mut components = BTreeMap::new();
        for camera in &settings.cameras {
            let state = format!("{base_topic}/{}/state", camera.name);
            components.insert(
                format!("{}_class", camera.name),
                json!({
                    "p": "sensor", "unique_id": format!("{id}_{}_class", camera.name), "name": camera.name,
                    "icon": "mdi:cctv", "state_topic": state, "json_attributes_topic": state,
                    // A state of Home Assistant has 255 characters at most.
                    "value_template": "{{ (value_json.class if value_json.known else 'unknown')[:255] }}",
                }),
            );
            components.insert(
                format!("{}_problem", camera.name),
                json!({
                    "p": "binary_sensor", "unique_id": format!("{id}_{}_problem", camera.name),
                    "name": format!("{} problem", camera.name), "device_class": "problem",
                    "entity_category": "diagnostic", "state_topic": state,
                    "value_template": "{{ 'ON' if value_json.fault else 'OFF' }}",
                }),
            );
        }
        for (name, template) in [
            ("waiting", "{{ value_json.waiting }}"),
            ("dropped", "{{ value_json.dropped.values() | sum }}"),
        ] {
            components.insert(
                format!("queue_{name}"),
                json!({
                    "p": "sensor", "unique_id": format!("{id}_queue_{name}"), "name": format!("events {name}"),
                    "entity_category": "diagnostic", "state_topic": format!("{base_topic}/queue"),
                    "unit_of_measurement": "events", "value_template": template,
                }),
            );
        }
        Some(Self {
            topic: format!("{prefix}/device/{id}/config"),
            birth_topic: format!("{prefix}/status"),
            device: json!({"ids": [id], "name": device, "mf": "constancy", "mdl": "camera", "sw": version}),
            availability: json!([{
                "topic": format!("{base_topic}/status"),
                "value_template": "{{ 'online' if value == 'online' else 'offline' }}",
            }]),
            components,
        })
    }

    /// The message for the topic.
    pub(super) fn payload(&self) -> Vec<u8> {
        self.with(BTreeMap::new())
    }

    /// What to publish after `present` was found on the topic: a component that is gone is first sent with nothing
    /// but its platform, by which Home Assistant removes it, and then not at all.
    pub(super) fn after(&self, present: &[u8]) -> Option<Vec<u8>> {
        let present: Value = serde_json::from_slice(present).ok()?;
        let there = present.get("cmps")?.as_object()?;
        let gone: Vec<(&String, &Value)> = there
            .iter()
            .filter(|(id, _)| !self.components.contains_key(*id))
            .collect();
        if gone.is_empty() {
            return None;
        }
        let removed = |component: &Value| component.as_object().is_some_and(|c| c.len() == 1);
        if gone.iter().all(|(_, component)| removed(component)) {
            return Some(self.payload());
        }
        let platform = |component: &Value| json!({ "p": component.get("p").cloned().unwrap_or("sensor".into()) });
        Some(
            self.with(
                gone.into_iter()
                    .map(|(id, component)| (id.clone(), platform(component)))
                    .collect(),
            ),
        )
    }

    fn with(&self, removed: BTreeMap<String, Value>) -> Vec<u8> {
        let components: Map<String, Value> =
            self.components.clone().into_iter().chain(removed).collect();
        let origin = json!({"name": "constancy", "sw": env!("CARGO_PKG_VERSION")});
        let payload = json!({
            "dev": self.device, "o": origin, "availability": self.availability, "qos": 1, "cmps": components,
        });
        payload.to_string().into_bytes()
    }
}
