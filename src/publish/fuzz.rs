//! Entries for the fuzz targets.

use super::command::CommandPolicy;
use super::homeassistant::Discovery;
use super::queue;
use super::sparkplug::{Address, EdgeNode};
use crate::config::Settings;
use std::sync::OnceLock;

pub use queue::fuzz::{queue_file, queue_record};

const SETTINGS: &str = r#"
device = "bench"
[model]
manifest = "model.toml"
[classes]
labels = ["a gear", "a bolt"]
[[camera]]
name = "belt"
[camera.replay]
path = "images"
[mqtt]
broker = "mqtt://localhost"
commands = ["enabled", "labels", "threshold", "snapshot", "reference", "calibrate"]
[homeassistant]
discovery = true
"#;

/// A message from the broker: flags, the topic up to a line end, and the payload.
pub fn command(data: &[u8]) {
    static SETTINGS_ONCE: OnceLock<Settings> = OnceLock::new();
    // Not checked: there is no such model.
    let settings = SETTINGS_ONCE.get_or_init(|| toml::from_str(SETTINGS).expect("settings"));
    let policy = CommandPolicy::new(settings).expect("commands");
    let mut discovery = Discovery::new(settings).expect("discovery");
    let Some((&flags, message)) = data.split_first() else {
        return;
    };
    let end = message.iter().position(|b| *b == b'\n');
    let (topic, payload) = message.split_at(end.unwrap_or(message.len()));
    let payload = payload.get(1..).unwrap_or_default();
    let topic = String::from_utf8_lossy(topic);
    let _ = policy.parse(&topic, payload, flags & 1 != 0);
    if !discovery.is_own(payload)
        && let Some(removal) = discovery.removal(payload)
    {
        let _ = discovery.after_removal(&removal);
    }
    let address = Address {
        group: "plant".into(),
        node: "bench".into(),
    };
    EdgeNode::new(address, ["belt".to_owned()]).command(payload);
}
