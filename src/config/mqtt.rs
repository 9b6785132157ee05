//! `[mqtt]`: the broker, how to log in to it, and what is exchanged with it.

use serde::Deserialize;
use std::path::PathBuf;

/// `[mqtt]`: where events go. Without a broker they go to stdout, one JSON object per line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttSettings {
    /// `mqtt://host[:port]` or `mqtts://host[:port]`. The port defaults to 1883, or to 8883 with TLS.
    pub broker: Option<String>,
    /// First part of every topic.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Defaults to one derived from the device's name and a number that is kept and bound to the hardware, so that two
    /// devices never fight over it.
    pub client_id: Option<String>,
    pub username: Option<String>,
    /// A file that holds the password; a name without a slash is looked up among systemd's credentials.
    pub password_file: Option<PathBuf>,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// This device's own certificate for the broker: PEM certificate chain and private key.
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    /// MQTT's keep-alive interval in seconds, 5 to 3600.
    #[serde(default = "default_keep_alive_s")]
    pub keep_alive_s: u16,
    /// Maximum reconnect backoff, seconds.
    #[serde(default = "default_backoff_max_s")]
    pub backoff_max_s: u64,
    /// The format of the messages.
    #[serde(default)]
    pub payload: PayloadFormat,
    /// With Sparkplug, the group of this device's edge node.
    #[serde(default = "default_prefix")]
    pub sparkplug_group: String,
    /// The commands to accept. Defaults to none.
    #[serde(default)]
    pub commands: Vec<CommandName>,
}

impl MqttSettings {
    /// Whether the password is sent as it is, for everybody on the way to read.
    #[must_use]
    pub fn exposes_password(&self) -> bool {
        let plain = |url: &String| BrokerAddress::parse(url).is_ok_and(|address| !address.tls);
        self.password_file.is_some() && self.broker.as_ref().is_some_and(plain)
    }
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            broker: None,
            prefix: default_prefix(),
            client_id: None,
            username: None,
            password_file: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            keep_alive_s: default_keep_alive_s(),
            backoff_max_s: default_backoff_max_s(),
            payload: PayloadFormat::default(),
            sparkplug_group: default_prefix(),
            commands: Vec::new(),
        }
    }
}

/// `mqtt.payload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadFormat {
    /// JSON on constancy's own topics.
    #[default]
    Json,
    /// Sparkplug B 3.0.
    Sparkplug,
}

/// A command that MQTT may bring: the last level of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandName {
    /// Switch recognition of the camera's frames on or off.
    Enabled,
    /// Replace the classes to choose from.
    Labels,
    /// Set the minimum score for an answer to be `known`.
    Threshold,
    /// Publish the next frame as a JPEG.
    Snapshot,
    /// Learn a new reference picture.
    Reference,
    /// Make a condition profile from the next frames, undo the last one, or list them.
    Calibrate,
}

impl CommandName {
    pub const ALL: [Self; 6] = [
        Self::Enabled,
        Self::Labels,
        Self::Threshold,
        Self::Snapshot,
        Self::Reference,
        Self::Calibrate,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Labels => "labels",
            Self::Threshold => "threshold",
            Self::Snapshot => "snapshot",
            Self::Reference => "reference",
            Self::Calibrate => "calibrate",
        }
    }
}

/// The broker's address, parsed from `mqtt.broker`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

impl BrokerAddress {
    /// Parses `mqtt://host[:port]` or `mqtts://host[:port]`; IPv6 addresses are in brackets.
    pub fn parse(url: &str) -> Result<Self, String> {
        // A wrong address may hold a password, so no message quotes it.
        if url.contains('@') {
            return Err(
                "must not contain a password; use `mqtt.username` and `mqtt.password_file`".into(),
            );
        }
        let (tls, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            _ => {
                return Err("is no address; expected mqtt://host:port or mqtts://host:port".into());
            }
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let number = port.parse().ok().filter(|&p: &u16| p > 0);
                let number = number.ok_or("has a port that is none, expected 1 to 65535")?;
                (host, number)
            }
            _ => (rest, if tls { 8883 } else { 1883 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_foreign =
            |c: char| matches!(c, '/' | '?' | '#' | '\\') || c.is_whitespace() || c.is_control();
        if host.is_empty() || host.contains(is_foreign) {
            return Err("has no host name; expected mqtt://host:port or mqtts://host:port".into());
        }
        Ok(Self {
            host: host.into(),
            port,
            tls,
        })
    }
}

/// Whether `name` may stand in a topic: `[A-Za-z0-9_-]{1,64}`.
#[must_use]
pub fn is_topic_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

fn default_prefix() -> String {
    "constancy".into()
}

fn default_keep_alive_s() -> u16 {
    30
}

fn default_backoff_max_s() -> u64 {
    60
}
