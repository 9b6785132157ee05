//! Everything that a connection is made with: address, credentials, TLS, will.

use super::error::BrokerError;
use super::hardware;
use super::memory::Memory;
use super::node::now_ms;
use super::packet_size::MAX_PACKET_BYTES;
use crate::config::{BrokerAddress, MqttSettings, PayloadFormat, Settings};
use crate::files;
use crate::publish::sparkplug::Address;
use crate::publish::tls;
use crate::publish::topics::Topics;
use rumqttc::{LastWill, MqttOptions, QoS, TlsConfiguration, Transport};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

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
    pub(super) keep_alive: Duration,
    /// The device's name, if the client id derives from it.
    id_from_device: Option<String>,
    /// What is remembered over restarts goes here.
    folder: Option<PathBuf>,
    /// The retained topics that these settings lead to.
    retained: BTreeSet<String>,
    /// Those that the settings before a reload led to.
    replaced: Vec<String>,
    /// The password crosses the network as it is.
    pub(super) exposes_password: bool,
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
            let topic = Topics::new(settings).status();
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
            keep_alive: Duration::from_secs(mqtt.keep_alive_s.into()),
            id_from_device: mqtt.client_id.is_none().then(|| settings.device.clone()),
            folder: settings.queue.folder.clone(),
            retained: Topics::retained(settings),
            replaced: Vec::new(),
            exposes_password: mqtt.exposes_password(),
        })
    }

    /// Notes the retained topics of the publisher that this one replaces, and its broker.
    pub(in crate::publish) fn replace(&mut self, broker: &str, topics: Vec<String>) {
        if broker == self.broker {
            self.replaced = topics;
        }
    }

    /// Takes from memory what it holds: the client id. Returns the retained topics that are published no longer.
    pub(super) fn remember(&mut self) -> (Memory, Vec<String>) {
        let hardware = hardware::fingerprint();
        let mut memory = Memory::open(self.folder.as_deref(), hardware.clone());
        if let Some(device) = &self.id_from_device {
            let id = memory
                .id()
                .map_or_else(|| hardware::default_id(&hardware), str::to_owned);
            let id = client_id(device, &id);
            self.options.set_client_id(id);
        }
        let mut gone = memory.publish(&self.remembered_as(), &self.retained);
        let replaced = self.replaced.drain(..);
        gone.extend(replaced.filter(|topic| !self.retained.contains(topic)));
        (memory, gone)
    }

    /// The broker as memory names it: the same with TLS and without.
    pub(super) fn remembered_as(&self) -> String {
        format!("{}:{}", self.address.host, self.address.port)
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
    let client_id = mqtt.client_id.clone().unwrap_or_else(|| {
        let id = hardware::default_id(&hardware::fingerprint());
        client_id(&settings.device, &id)
    });
    let mut options = MqttOptions::new(client_id, address.host.clone(), address.port);
    options.set_keep_alive(Duration::from_secs(mqtt.keep_alive_s.into()));
    // Incoming: whatever is longer is no command and no discovery message, and would have to be held in memory. Outgoing:
    // nothing longer gets as far as the client, where it would end the connection.
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

/// `constancy-<device>-<8 hex digits>`. The digits are a hash, since neither a machine id nor a serial number must be
/// exposed (machine-id(5)).
fn client_id(device: &str, id: &str) -> String {
    let suffix = hardware::short_hash(&format!("constancy {id} {device}"), 4);
    format!("constancy-{device}-{suffix}")
}
