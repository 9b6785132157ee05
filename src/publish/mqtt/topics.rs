//! The topics of a device.

use crate::config::Settings;

/// `<prefix>/<device>`.
pub(super) fn base_topic(settings: &Settings) -> String {
    format!("{}/{}", settings.mqtt.prefix, settings.device)
}

/// `<prefix>/<device>/status`.
pub(super) fn status_topic(base_topic: &str) -> String {
    format!("{base_topic}/status")
}
