//! Home Assistant's device discovery: one retained message that describes the device and its entities.
//!
//! <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>. The entities take their states from the
//! topics that are published anyway. The message is sent on every connection, and when Home Assistant has started.

use crate::config::Settings;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The discovery message of one device.
#[derive(Debug, Clone)]
pub(super) struct Discovery {
    /// `<prefix>/device/constancy_<device>/config`.
    pub(super) topic: String,
    /// `<prefix>/status`, where Home Assistant publishes `online` when it has started.
    pub(super) birth_topic: String,
    device: Value,
    availability: Value,
    /// By id within the device.
    components: BTreeMap<String, Value>,
}

impl Discovery {
    /// `None` unless `homeassistant.discovery` is set.
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
            components.extend(camera_components(&id, &camera.name, base_topic));
        }
        components.extend(queue_components(&id, base_topic));
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

    /// The discovery message, for [`Self::topic`].
    pub(super) fn payload(&self) -> Vec<u8> {
        self.payload_with(BTreeMap::new())
    }

    /// The message that must replace `present`, the retained one, if that has components that are no longer configured.
    /// Each is first sent with only its platform, which makes Home Assistant remove it, and then left out.
    pub(super) fn replacement(&self, present: &[u8]) -> Option<Vec<u8>> {
        let present: Value = serde_json::from_slice(present).ok()?;
        let components = present.get("cmps")?.as_object()?;
        let gone: Vec<(&String, &Value)> = components
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
            self.payload_with(
                gone.into_iter()
                    .map(|(id, component)| (id.clone(), platform(component)))
                    .collect(),
            ),
        )
    }

    fn payload_with(&self, removed: BTreeMap<String, Value>) -> Vec<u8> {
        let components: Map<String, Value> =
            self.components.clone().into_iter().chain(removed).collect();
        let origin = json!({"name": "constancy", "sw": env!("CARGO_PKG_VERSION")});
        let payload = json!({
            "dev": self.device, "o": origin, "availability": self.availability, "qos": 1, "cmps": components,
        });
        payload.to_string().into_bytes()
    }
}

/// Its class, and whether it works.
fn camera_components(id: &str, camera: &str, base_topic: &str) -> [(String, Value); 2] {
    let state = format!("{base_topic}/{camera}/state");
    let class = json!({
        "p": "sensor", "unique_id": format!("{id}_{camera}_class"), "name": camera,
        "icon": "mdi:cctv", "state_topic": state, "json_attributes_topic": state,
        // Home Assistant limits a state to 255 characters.
        "value_template": "{{ (value_json.class if value_json.known else 'unknown')[:255] }}",
    });
    let problem = json!({
        "p": "binary_sensor", "unique_id": format!("{id}_{camera}_problem"),
        "name": format!("{camera} problem"), "device_class": "problem",
        "entity_category": "diagnostic", "state_topic": state,
        "value_template": "{{ 'ON' if value_json.fault else 'OFF' }}",
    });
    [
        (format!("{camera}_class"), class),
        (format!("{camera}_problem"), problem),
    ]
}

/// Events waiting, and events dropped.
fn queue_components(id: &str, base_topic: &str) -> [(String, Value); 2] {
    [
        ("waiting", "{{ value_json.waiting }}"),
        ("dropped", "{{ value_json.dropped.values() | sum }}"),
    ]
    .map(|(name, template)| {
        let sensor = json!({
            "p": "sensor", "unique_id": format!("{id}_queue_{name}"), "name": format!("events {name}"),
            "entity_category": "diagnostic", "state_topic": format!("{base_topic}/queue"),
            "unit_of_measurement": "events", "value_template": template,
        });
        (format!("queue_{name}"), sensor)
    })
}
