//! How a connection is made: address, credentials, will; and one attempt, as `constancy check` makes it.

use super::super::sparkplug::Address;
use super::super::tls;
use super::node::now_ms;
use super::{BrokerError, MAX_PACKET_BYTES, base_topic, status_topic};
use crate::config::{BrokerAddress, MqttSettings, PayloadFormat, Settings};
use rumqttc::{
    Client, ConnectReturnCode, ConnectionError, Event, LastWill, MqttOptions, QoS,
    TlsConfiguration, Transport,
};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a connection needs.
pub(in crate::publish) struct Connector {
    options: MqttOptions,
    /// Where Sparkplug is spoken, as whom.
    node: Option<Address>,
    bd_seq_file: Option<PathBuf>,
    address: BrokerAddress,
    /// The address as messages name it.
    pub(super) broker: String,
    pub(super) backoff_max: Duration,
}

impl Connector {
    pub(in crate::publish) fn new(settings: &Settings) -> Result<Self, BrokerError> {
        let mqtt = &settings.mqtt;
        let broker = mqtt.broker.clone().unwrap_or_default();
        let address = BrokerAddress::parse(&broker).map_err(BrokerError::Address)?;
        let client_id = mqtt
            .client_id
            .clone()
            .unwrap_or_else(|| default_client_id(&settings.device));
        let mut options = MqttOptions::new(client_id, address.host.clone(), address.port);
        options.set_keep_alive(Duration::from_secs(mqtt.keep_alive_s.into()));
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        let node = (mqtt.payload == PayloadFormat::Sparkplug).then(|| Address {
            group: mqtt.sparkplug_group.clone(),
            node: settings.device.clone(),
        });
        if node.is_none() {
            let topic = status_topic(&base_topic(settings));
            options.set_last_will(LastWill::new(topic, "offline", QoS::AtLeastOnce, true));
        }
        if let Some(username) = &mqtt.username {
            options.set_credentials(username, password(mqtt)?);
        }
        if address.tls {
            let config = tls::client_config(mqtt)?;
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(config)));
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

    /// What the next connection is made with; with Sparkplug its will has the connection's number.
    pub(super) fn options(&self, bd_seq: u8) -> MqttOptions {
        let mut options = self.options.clone();
        if let Some(node) = &self.node {
            let (topic, payload) = node.death(bd_seq, now_ms());
            options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, false));
        }
        options
    }

    /// As whom Sparkplug is spoken.
    pub(super) fn node(&self) -> Option<&Address> {
        self.node.as_ref()
    }

    /// Where the number of the last connection is remembered.
    pub(super) fn bd_seq_file(&self) -> Option<PathBuf> {
        self.bd_seq_file.clone()
    }
}

fn password(mqtt: &MqttSettings) -> Result<String, BrokerError> {
    let Some(path) = &mqtt.password_file else {
        return Ok(String::new());
    };
    let text = std::fs::read_to_string(path).map_err(|source| BrokerError::Password {
        path: path.clone(),
        source,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// `constancy-<device>-<8 hex digits of the machine>`: the machine id itself is not to be shown
/// (machine-id(5)), so it is hashed with the program's name.
fn default_client_id(device: &str) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let digest = Sha256::digest(format!("constancy {} {device}", machine.trim()));
    let suffix: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("constancy-{device}-{suffix}")
}

/// Tries to connect once, as `constancy check` does, and leaves again; nothing is published.
pub fn probe(settings: &Settings, limit: Duration) -> Result<String, BrokerError> {
    let connector = Connector::new(settings)?;
    let (configured, address) = (&connector.options, &connector.address);
    // Another client id, so that a daemon that runs at the same time keeps its connection; and no will.
    let client_id = format!("{}-check", configured.client_id());
    let mut options = MqttOptions::new(client_id, address.host.clone(), address.port);
    options.set_transport(configured.transport());
    if let Some(login) = configured.credentials() {
        options.set_credentials(login.username, login.password);
    }
    let (client, mut connection) = Client::new(options, 8);
    connection
        .eventloop
        .network_options
        .set_connection_timeout(limit.as_secs().max(1));
    match connection.iter().next() {
        Some(Ok(_)) => {
            let _ = client.try_disconnect();
            for notification in connection.iter() {
                if !matches!(notification, Ok(Event::Incoming(_))) {
                    break;
                }
            }
            Ok(connector.broker)
        }
        Some(Err(e)) => Err(BrokerError::Unavailable {
            reason: explain(&e),
            broker: connector.broker,
        }),
        None => Err(BrokerError::Unavailable {
            reason: "no answer".into(),
            broker: connector.broker,
        }),
    }
}

/// A connection's error in the operator's words, with what to do where that is known.
pub(super) fn explain(error: &ConnectionError) -> String {
    let what = what_of(error);
    tls::hint(error).map_or_else(|| what.clone(), |hint| format!("{what}; {hint}"))
}

fn what_of(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "refuses user name or password; see `mqtt.username` and `mqtt.password_file`".into(),
        ConnectionError::ConnectionRefused(code) => format!("refuses the connection: {code:?}"),
        ConnectionError::Io(e) => match e.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                "nothing listens there (connection refused); is the broker running, is the port right?".into()
            }
            std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::UnexpectedEof => "closed the connection".into(),
            _ => e.to_string(),
        },
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => "does not answer in time".into(),
        ConnectionError::MqttState(rumqttc::StateError::Io(e)) => format!("the connection is lost ({e})"),
        ConnectionError::MqttState(rumqttc::StateError::ConnectionAborted) => "closed the connection".into(),
        ConnectionError::Tls(e) => format!("TLS failed: {}", with_causes(e)),
        other => other.to_string(),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
