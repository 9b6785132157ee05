//! Everything that a connection is made with: address, credentials, TLS, will.

use super::error::BrokerError;
use super::node::now_ms;
use super::topics::{base_topic, status_topic};
use crate::config::{BrokerAddress, MqttSettings, PayloadFormat, Settings};
use crate::files;
use crate::publish::sparkplug::Address;
use crate::publish::tls;
use rumqttc::{LastWill, MqttOptions, QoS, TlsConfiguration, Transport};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::time::Duration;

/// An event with 100 long labels stays far below this.
const MAX_PACKET_BYTES: usize = 1 << 20;
/// A packet's payload, less its topic.
pub const MAX_PICTURE_BYTES: usize = MAX_PACKET_BYTES - 1024;

/// MQTT's limit, and a line's end.
const MAX_PASSWORD_BYTES: u64 = 65_535 + 2;

/// Everything that a connection needs.
pub(in crate::publish) struct Connector {
    pub(super) options: MqttOptions,
    /// With Sparkplug, the name of the edge node.
    node: Option<Address>,
    /// The file that keeps `bdSeq` over restarts.
    bd_seq_file: Option<PathBuf>,
    pub(super) address: BrokerAddress,
    /// The broker as log lines name it.
    pub(super) broker: String,
    pub(super) backoff_max: Duration,
}

impl Connector {
    /// Reads the password and certificates. Only settings that can never work are errors.
    pub(in crate::publish) fn new(settings: &Settings) -> Result<Self, BrokerError> {
        let mqtt = &settings.mqtt;
        let broker = mqtt.broker.clone().unwrap_or_default();
        let address = BrokerAddress::parse(&broker).map_err(BrokerError::Address)?;
        let node = (mqtt.payload == PayloadFormat::Sparkplug).then(|| Address {
            group: mqtt.sparkplug_group.clone(),
            node: settings.device.clone(),
        });
        let mut options = connect_options(settings, &address)?;
        if node.is_none() {
            let topic = status_topic(&base_topic(settings));
            options.set_last_will(LastWill::new(topic, "offline", QoS::AtLeastOnce, true));
        }
        let backoff_max = Duration::from_secs(mqtt.backoff_max_s);
        let bd_seq_file = node
            .as_ref()
            .and(settings.queue.folder.as_ref())
            .map(|folder| folder.join("bdseq"));
        Ok(Self {
            options,
            node,
            bd_seq_file,
            address,
            broker,
            backoff_max,
        })
    }

    /// The options of a connection; with Sparkplug its will contains `bd_seq`.
    pub(super) fn options(&self, bd_seq: u8) -> MqttOptions {
        let mut options = self.options.clone();
        if let Some(node) = &self.node {
            let (topic, payload) = node.death(bd_seq, now_ms());
            options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, false));
        }
        options
    }

    /// With Sparkplug, the name of the edge node.
    pub(super) fn node(&self) -> Option<&Address> {
        self.node.as_ref()
    }

    /// The file that keeps `bdSeq` over restarts.
    pub(super) fn bd_seq_file(&self) -> Option<PathBuf> {
        self.bd_seq_file.clone()
    }
}

/// Client id, limits, credentials and TLS.
fn connect_options(
    settings: &Settings,
    address: &BrokerAddress,
) -> Result<MqttOptions, BrokerError> {
    let mqtt = &settings.mqtt;
    let client_id = mqtt
        .client_id
        .clone()
        .unwrap_or_else(|| default_client_id(&settings.device));
    let mut options = MqttOptions::new(client_id, address.host.clone(), address.port);
    options.set_keep_alive(Duration::from_secs(mqtt.keep_alive_s.into()));
    options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
    if let Some(username) = &mqtt.username {
        options.set_credentials(username, password(mqtt)?);
    }
    if address.tls {
        let config = tls::client_config(mqtt)?;
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(config)));
    }
    Ok(options)
}

fn password(mqtt: &MqttSettings) -> Result<String, BrokerError> {
    let Some(path) = &mqtt.password_file else {
        return Ok(String::new());
    };
    let text =
        files::read_text(path, MAX_PASSWORD_BYTES).map_err(|source| BrokerError::Password {
            path: path.clone(),
            source,
        })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// `constancy-<device>-<8 hex digits>`. The digits are a hash of the machine id with the program's and the device's name,
/// since the machine id itself must not be exposed (machine-id(5)).
fn default_client_id(device: &str) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let digest = Sha256::digest(format!("constancy {} {device}", machine.trim()));
    let suffix: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("constancy-{device}-{suffix}")
}
