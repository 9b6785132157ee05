//! Home Assistant's device discovery: one retained message that describes the device and its entities.
//!
//! <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>. The entities take their states from the
//! topics that are published anyway. The message is sent on every connection, and when Home Assistant has started.

use super::topics::Topics;
use crate::config::Settings;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Maximum bytes of the removed components in a message, several hundred of them. A message of somebody else on this
/// topic may name any number.
const MAX_REMOVED_BYTES: usize = 64 << 10;

/// The discovery message of one device.
#[derive(Debug, Clone)]
pub(super) struct Discovery {
    topics: Topics,
    device: Value,
    availability: Value,
    /// By id within the device.
    components: BTreeMap<String, Value>,
    /// The message that removes components, once it was published.
    removal: Option<Vec<u8>>,
}

impl Discovery {
    /// `None` unless `homeassistant.discovery` is set.
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        if !settings.homeassistant.discovery {
            return None;
        }
        let topics = Topics::new(settings);
        let id = topics.home_assistant_id();
        let mut components = BTreeMap::new();
        for camera in &settings.cameras {
            components.extend(camera_components(&id, &camera.name, &topics));
        }
        components.extend(queue_components(&id, &topics));
        let version = env!("CARGO_PKG_VERSION");
        Some(Self {
            device: json!({"ids": [id], "name": settings.device, "mf": "constancy", "mdl": "camera", "sw": version}),
            availability: json!([{
                "topic": topics.status(),
                "value_template": "{{ 'online' if value == 'online' else 'offline' }}",
            }]),
            topics,
            components,
            removal: None,
        })
    }

    /// Where the message goes.
    pub(super) fn topic(&self) -> String {
        self.topics.discovery()
    }

    /// Where Home Assistant says that it has started.
    pub(super) fn birth_topic(&self) -> String {
        self.topics.home_assistant_birth()
    }

    /// The discovery message, for [`Self::topic`].
    pub(super) fn payload(&self) -> Vec<u8> {
        self.payload_with(BTreeMap::new())
    }

    /// Whether this device has published this message.
    pub(super) fn is_own(&self, message: &[u8]) -> bool {
        self.removal.as_deref() == Some(message) || message == self.payload()
    }

    /// The message that must replace `present`, the one that was retained when this device connected, if that has
    /// components of this device that are no longer configured. With only its platform, a component is removed by Home
    /// Assistant. [`Self::after_removal`] follows.
    pub(super) fn removal(&mut self, present: &[u8]) -> Option<Vec<u8>> {
        let present: Value = serde_json::from_slice(present).ok()?;
        let components = present.get("cmps")?.as_object()?;
        let prefix = format!("{}_", self.topics.home_assistant_id());
        let mut bytes = 0;
        let removed: BTreeMap<String, Value> = components
            .iter()
            .filter(|(id, _)| !self.components.contains_key(*id))
            .filter(|(_, component)| text(component, "unique_id").starts_with(&prefix))
            .map(|(id, component)| (id.clone(), json!({ "p": text(component, "p") })))
            .take_while(|(id, component)| {
                bytes += id.len() + component.to_string().len();
                bytes <= MAX_REMOVED_BYTES
            })
            .collect();
        if removed.is_empty() {
            return None;
        }
        self.removal = Some(self.payload_with(removed));
        self.removal.clone()
    }

    /// The message to publish when the broker has [`Self::removal`].
    pub(super) fn after_removal(&mut self, delivered: &[u8]) -> Option<Vec<u8>> {
        (self.removal.as_deref() == Some(delivered)).then(|| self.payload())
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

/// A component's text under `key`; empty if it has none.
fn text<'c>(component: &'c Value, key: &str) -> &'c str {
    component
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Its class, whether it works, how well it sees, and the drift of its light.
fn camera_components(id: &str, camera: &str, topics: &Topics) -> [(String, Value); 5] {
    let state = topics.state(camera);
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
    let health = json!({
        "p": "binary_sensor", "unique_id": format!("{id}_{camera}_health"),
        "name": format!("{camera} view"), "device_class": "problem",
        "entity_category": "diagnostic", "state_topic": state, "json_attributes_topic": state,
        "json_attributes_template": "{{ {'health': value_json.camera_health, 'image': value_json.image} | tojson }}",
        "value_template":
            "{{ 'OFF' if value_json.camera_health in ['good', 'learning', 'dark', none] else 'ON' }}",
    });
    let diagnostic = |part: &str, icon: &str, template: &str| {
        json!({
            "p": "sensor", "unique_id": format!("{id}_{camera}_{part}"), "name": format!("{camera} {part}"),
            "icon": icon, "entity_category": "diagnostic", "state_topic": state, "value_template": template,
        })
    };
    // `None` makes the state unknown.
    let light = diagnostic(
        "light",
        "mdi:brightness-6",
        "{{ value_json.light or 'None' }}",
    );
    let mut drift = diagnostic(
        "drift",
        "mdi:chart-bell-curve",
        "{{ value_json.drift.level if value_json.drift else 'None' }}",
    );
    drift["state_class"] = "measurement".into();
    [
        (format!("{camera}_class"), class),
        (format!("{camera}_problem"), problem),
        (format!("{camera}_health"), health),
        (format!("{camera}_light"), light),
        (format!("{camera}_drift"), drift),
    ]
}

/// Events waiting, and events dropped.
fn queue_components(id: &str, topics: &Topics) -> [(String, Value); 2] {
    [
        ("waiting", "{{ value_json.waiting }}"),
        ("dropped", "{{ value_json.dropped.values() | sum }}"),
    ]
    .map(|(name, template)| {
        let sensor = json!({
            "p": "sensor", "unique_id": format!("{id}_queue_{name}"), "name": format!("events {name}"),
            "entity_category": "diagnostic", "state_topic": topics.queue(),
            "unit_of_measurement": "events", "value_template": template,
        });
        (format!("queue_{name}"), sensor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovery(cameras: &[&str]) -> Discovery {
        let camera = |name: &&str| format!("[[camera]]\nname = \"{name}\"\n[camera.synthetic]\n");
        let text = format!(
            "device = \"bench\"\n[model]\nmanifest = \"Cargo.toml\"\n[classes]\nlabels = [\"a\"]\n{}[homeassistant]\ndiscovery = true\n",
            cameras.iter().map(camera).collect::<String>()
        );
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let settings = Settings::parse(&text, &folder.join("bench.toml")).expect("settings");
        Discovery::new(&settings).expect("discovery is on")
    }

    fn components(message: &[u8]) -> BTreeMap<String, Value> {
        let message: Value = serde_json::from_slice(message).expect("JSON");
        serde_json::from_value(message["cmps"].clone()).expect("components")
    }

    #[test]
    fn a_removed_camera_is_named_once_more_and_then_left_out() {
        let mut now = discovery(&["belt"]);
        let before = discovery(&["belt", "gate"]).payload();
        assert!(!now.is_own(&before));
        let removal = now.removal(&before).expect("a camera is gone");
        assert_eq!(components(&removal)["gate_class"], json!({"p": "sensor"}));
        assert_eq!(
            components(&removal)["gate_problem"],
            json!({"p": "binary_sensor"})
        );
        assert!(now.is_own(&removal));
        let last = now.after_removal(&removal).expect("the last message");
        assert_eq!(last, now.payload());
        assert_eq!(now.removal(&last), None);
        assert_eq!(now.after_removal(&last), None);
    }

    #[test]
    fn no_message_of_somebody_else_makes_a_large_one() {
        let mut own = discovery(&["belt"]);
        let foreign: Map<String, Value> = (0..40_000)
            .map(|i| (format!("c{i}"), json!({"p": "sensor"})))
            .collect();
        let foreign = json!({ "cmps": foreign }).to_string();
        assert_eq!(own.removal(foreign.as_bytes()), None);
        let forged: Map<String, Value> = (0..40_000)
            .map(|i| {
                (
                    format!("c{i}"),
                    json!({"p": "sensor", "unique_id": "constancy_bench_x"}),
                )
            })
            .collect();
        let forged = json!({ "cmps": forged }).to_string();
        let removal = own.removal(forged.as_bytes()).expect("some are removed");
        assert!(
            removal.len() < 2 * MAX_REMOVED_BYTES,
            "{} bytes",
            removal.len()
        );
        for noise in ["", "[]", "{\"cmps\": 3}", "{\"cmps\": {\"a\": 3}}", "\u{0}"] {
            assert_eq!(own.removal(noise.as_bytes()), None, "{noise}");
        }
    }
}
