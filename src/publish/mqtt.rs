//! MQTT 3.1.1 through rumqttc: one thread that connects, publishes what the queue holds, and connects again.
//!
//! Each connection gets a fresh client. rumqttc would keep unacknowledged messages itself, but forgets
//! them when the broker does not know the session any more, as after a restart; the queue does not.

mod listener;

pub use listener::Listener;

use super::queue::{Message, Queue};
use super::tls::{self, TlsError};
use crate::config::{BrokerAddress, MqttSettings, Settings};
use rumqttc::{
    Client, ClientError, ConnectReturnCode, Connection, ConnectionError, Event, LastWill, MqttOptions, Outgoing,
    Packet, QoS, TlsConfiguration, Transport,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Unacknowledged messages under way at once; below rumqttc's own limit of 100, so that packet numbers never collide.
const WINDOW: usize = 32;
/// An event with 100 long labels stays far below this.
const MAX_PACKET_BYTES: usize = 1 << 20;
const CONNECT_TIMEOUT_S: u64 = 10;
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Between attempts while the last messages wait to be sent.
const CLOSING_WAIT: Duration = Duration::from_millis(100);
/// A connection that lasted this long was a good one: the next failure starts from the shortest wait.
const STABLE: Duration = Duration::from_secs(30);

/// Why there is no connection to the broker.
#[derive(Debug, Error)]
pub enum BrokerError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("`mqtt.broker` {0}")]
    Address(String),
    #[error("`mqtt.password_file` {path}: {source}")]
    Password { path: PathBuf, source: std::io::Error },
    #[error("broker {broker}: {reason}")]
    Unavailable { broker: String, reason: String },
}

/// Publishes in the background.
pub struct MqttPublisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// `<prefix>/<device>`.
    base_topic: String,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    broker: String,
}

struct State {
    queue: Queue,
    /// The newest message of each retained topic: a broker that was restarted may have forgotten them.
    retained: BTreeMap<String, Message>,
    /// There while connected.
    client: Option<Client>,
    /// Until when the last messages may be sent, once the publisher is being closed.
    close_by: Option<Instant>,
    lost_reported: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the publisher is closed and nothing more can or need be sent.
    fn is_over(&self) -> bool {
        self.close_by.is_some_and(|by| self.queue.is_empty() || Instant::now() >= by)
    }

    /// Queues what the broker should be keeping; what waits already is not doubled.
    fn renew_retained(&mut self) {
        if self.close_by.is_none() {
            self.retained.values().cloned().for_each(|m| self.queue.push(m));
        }
    }

    /// Gives the client as much as may be under way.
    fn pump(&mut self) {
        let Some(client) = &self.client else { return };
        while let Some(entry) = self.queue.next_due(WINDOW) {
            let (id, message) = (entry.id, &entry.message);
            if try_publish(client, message).is_err() {
                break;
            }
            self.queue.handed_over(Some(id));
        }
    }
}

fn try_publish(client: &Client, message: &Message) -> Result<(), ClientError> {
    client.try_publish(&*message.topic, QoS::AtLeastOnce, message.retain, message.payload.clone())
}

impl MqttPublisher {
    /// Starts connecting to `settings.mqtt.broker`.
    pub fn start(settings: &Settings) -> Result<Self, BrokerError> {
        let connector = Connector::new(settings)?;
        let base_topic = base_topic(settings);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(settings.mqtt.queue),
                retained: BTreeMap::new(),
                client: None,
                close_by: None,
                lost_reported: 0,
            }),
            changed: Condvar::new(),
            broker: connector.broker.clone(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("mqtt".into())
            .spawn(move || run(&connector, &for_thread))
            .map_err(|e| BrokerError::Unavailable { broker: shared.broker.clone(), reason: e.to_string() })?;
        Ok(Self { shared, thread: Some(thread), base_topic })
    }

    /// `<prefix>/<device>/<camera>/<leaf>`.
    #[must_use]
    pub fn camera_topic(&self, camera: &str, leaf: &str) -> String {
        format!("{}/{camera}/{leaf}", self.base_topic)
    }

    /// Queues a message; it is published as soon as there is a connection.
    pub fn publish(&self, message: Message) {
        let mut state = self.shared.lock();
        if message.retain {
            state.retained.insert(message.topic.clone(), message.clone());
        }
        state.queue.push(message);
        let lost = state.queue.lost();
        if lost > state.lost_reported && (lost.is_power_of_two() || lost.is_multiple_of(1000)) {
            state.lost_reported = lost;
            log::warn!(
                "broker {}: the queue is full, {lost} of the oldest messages are dropped so far",
                self.shared.broker
            );
        }
        state.pump();
    }

    /// For the status line.
    #[must_use]
    pub fn describe(&self) -> String {
        let state = self.shared.lock();
        let connected = if state.client.is_some() { "connected" } else { "away" };
        format!("broker {connected}, {} messages waiting, {} dropped", state.queue.len(), state.queue.lost())
    }

    /// Publishes what is left and `stopped`, and leaves, within `limit`; how many messages stay behind.
    #[must_use]
    pub fn close(mut self, limit: Duration) -> usize {
        let deadline = Instant::now() + limit;
        self.publish(status_message(&self.base_topic, "stopped"));
        let mut state = self.shared.lock();
        state.close_by = Some(deadline);
        self.shared.changed.notify_all();
        while !state.queue.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let left_behind = state.queue.len();
        if let Some(client) = &state.client {
            let _ = client.try_disconnect();
        }
        drop(state);
        // The thread may be inside a connection attempt; the process does not wait for that.
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
        }
        left_behind
    }
}

/// `<prefix>/<device>`.
fn base_topic(settings: &Settings) -> String {
    format!("{}/{}", settings.mqtt.prefix, settings.device)
}

fn status_message(base_topic: &str, status: &str) -> Message {
    Message { topic: format!("{base_topic}/status"), payload: status.into(), retain: true }
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
    connection.eventloop.network_options.set_connection_timeout(limit.as_secs().max(1));
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
        Some(Err(e)) => Err(BrokerError::Unavailable { reason: explain(&e), broker: connector.broker }),
        None => Err(BrokerError::Unavailable { reason: "no answer".into(), broker: connector.broker }),
    }
}

/// Everything that a connection needs.
struct Connector {
    options: MqttOptions,
    address: BrokerAddress,
    /// The address as messages name it.
    broker: String,
    online: Message,
    backoff_max: Duration,
}

impl Connector {
    fn new(settings: &Settings) -> Result<Self, BrokerError> {
        let mqtt = &settings.mqtt;
        let broker = mqtt.broker.clone().unwrap_or_default();
        let address = BrokerAddress::parse(&broker).map_err(BrokerError::Address)?;
        let client_id = mqtt.client_id.clone().unwrap_or_else(|| default_client_id(&settings.device));
        let mut options = MqttOptions::new(client_id, address.host.clone(), address.port);
        options.set_keep_alive(Duration::from_secs(mqtt.keep_alive_s.into()));
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        let base = base_topic(settings);
        let will = status_message(&base, "offline");
        options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true));
        if let Some(username) = &mqtt.username {
            options.set_credentials(username, password(mqtt)?);
        }
        if address.tls {
            let config = tls::client_config(mqtt)?;
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(config)));
        }
        let online = status_message(&base, "online");
        let backoff_max = Duration::from_secs(mqtt.backoff_max_s);
        Ok(Self { options, address, broker, online, backoff_max })
    }
}

fn password(mqtt: &MqttSettings) -> Result<String, BrokerError> {
    let Some(path) = &mqtt.password_file else { return Ok(String::new()) };
    let text = std::fs::read_to_string(path).map_err(|source| BrokerError::Password { path: path.clone(), source })?;
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

/// Connects again and again until the publisher is closed: the one home of the retry policy.
fn run(connector: &Connector, shared: &Shared) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let start = Instant::now();
        let result = run_once(connector, shared);
        let mut state = shared.lock();
        state.client = None;
        state.queue.disconnected();
        shared.changed.notify_all();
        if state.is_over() {
            return;
        }
        if start.elapsed() > STABLE {
            backoff = BACKOFF_MIN;
        }
        let wait = backoff.mul_f64(0.5 + fastrand::f64());
        // While being closed there is no time for the full wait, and the reason has been told.
        let closing = state.close_by.is_some();
        let wait = if closing { wait.min(CLOSING_WAIT) } else { wait };
        if let Err(e) = result
            && !closing
        {
            let (broker, waiting) = (&shared.broker, state.queue.len());
            let seconds = wait.as_secs_f64();
            log::warn!("broker {broker}: {}; {waiting} messages wait, next attempt in {seconds:.1} s", explain(&e));
        }
        let is_open = |s: &mut State| s.close_by.is_none();
        drop(shared.changed.wait_timeout_while(state, wait, is_open));
        backoff = (backoff * 2).min(connector.backoff_max);
    }
}

/// One connection from start to end.
fn run_once(connector: &Connector, shared: &Shared) -> Result<(), ConnectionError> {
    // Room for everything that may be under way, and for the status and the farewell.
    let (client, mut connection): (Client, Connection) = Client::new(connector.options.clone(), WINDOW + 8);
    connection.eventloop.network_options.set_connection_timeout(CONNECT_TIMEOUT_S);
    for notification in connection.iter() {
        match notification? {
            Event::Incoming(Packet::ConnAck(_)) => {
                log::info!("broker {}: connected", shared.broker);
                let mut state = shared.lock();
                if try_publish(&client, &connector.online).is_ok() {
                    state.queue.handed_over(None);
                }
                state.renew_retained();
                state.client = Some(client.clone());
                state.pump();
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let mut state = shared.lock();
                state.queue.acknowledged(ack.pkid);
                state.pump();
                shared.changed.notify_all();
            }
            Event::Outgoing(Outgoing::Publish(packet)) => shared.lock().queue.sent(packet),
            Event::Outgoing(Outgoing::Disconnect) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// A connection's error in the operator's words.
fn explain(error: &ConnectionError) -> String {
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
