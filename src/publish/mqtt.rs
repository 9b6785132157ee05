//! MQTT 3.1.1 through rumqttc: one thread that connects, publishes what the queue holds, and connects again; and one
//! that looks after the queue's disk and pace.
//!
//! Each connection gets a fresh client. rumqttc would keep unacknowledged messages itself, but forgets
//! them when the broker does not know the session any more, as after a restart; the queue does not.

mod backoff;
mod connect;
mod connection;
mod listener;
mod node;
mod outbox;
mod state;
mod subscriptions;
mod upkeep;

pub(super) use connect::Connector;
pub use connect::probe;
pub use listener::Listener;

use super::command::{Request, Rules};
use super::event::CameraState;
use super::homeassistant::Discovery;
use super::queue::{Keeper, Limits, Queue, Storage};
use super::tls::TlsError;
use crate::config::{CommandName, QueueSettings, Settings};
use crate::threads::wait_for_end;
use connect::explain;
use node::Node;
use state::{Shared, State};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use subscriptions::Subscriptions;
use thiserror::Error;

/// Unacknowledged messages under way at once; below rumqttc's own limit of 100, so that packet numbers never collide.
const WINDOW: usize = 32;
/// An event with 100 long labels stays far below this.
const MAX_PACKET_BYTES: usize = 1 << 20;
/// What is left of a packet for a picture.
pub const MAX_PICTURE_BYTES: usize = MAX_PACKET_BYTES - 1024;
/// Commands that may wait until the daemon looks after them.
const MAX_REQUESTS: usize = 16;
/// What of the time for leaving is kept for the farewell.
const FAREWELL: Duration = Duration::from_millis(300);

/// How long the threads may take to end, so that the queue's file is closed in order.
const CLOSING: Duration = Duration::from_millis(100);

/// Why there is no connection to the broker.
#[derive(Debug, Error)]
pub enum BrokerError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("`mqtt.broker` {0}")]
    Address(String),
    #[error("`mqtt.password_file` {path}: {source}")]
    Password {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("broker {broker}: {reason}")]
    Unavailable { broker: String, reason: String },
}

/// What could not be delivered before leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Events, and retained messages of topics that the broker does not have yet.
    pub messages: u64,
    /// The events are on disk, and are sent after the next start.
    pub on_disk: bool,
}

/// Publishes in the background.
pub struct MqttPublisher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    requests: Receiver<Request>,
}

impl MqttPublisher {
    /// Starts connecting as the connector says.
    pub(super) fn start(connector: Connector, settings: &Settings) -> Result<Self, BrokerError> {
        let now = Instant::now();
        let queue = &settings.queue;
        let keeper = queue
            .folder
            .as_ref()
            .map(|folder| Keeper::new(folder, queue.max_bytes(), queue.max_age()));
        let base_topic = base_topic(settings);
        let mut state = State::new(Queue::new(limits(queue), keeper.is_some(), now), queue, now);
        let (sender, requests) = sync_channel(MAX_REQUESTS);
        if let Some(address) = connector.node() {
            state.subscriptions = Subscriptions::of_node(address.commands());
            state.node = Some(Node::new(
                address.clone(),
                settings.cameras.iter().map(|c| c.name.clone()),
            ));
        } else {
            state
                .retained
                .put(status_topic(&base_topic), "online".into());
            state.subscriptions = Subscriptions::new(
                Discovery::new(settings, &base_topic),
                Rules::new(settings, &base_topic),
                sender,
            );
        }
        if let Some((topic, payload)) = state.subscriptions.discovery() {
            state.retained.put(topic, payload);
        }
        let shared = Arc::new(Shared::new(
            state,
            connector.broker.clone(),
            &settings.device,
            &base_topic,
        ));
        let refused = |e: std::io::Error| BrokerError::Unavailable {
            broker: shared.broker.clone(),
            reason: format!("the system refuses a thread: {e}"),
        };
        let (for_upkeep, for_connection) = (Arc::clone(&shared), Arc::clone(&shared));
        let named = |name: &str| thread::Builder::new().name(name.into());
        let threads = vec![
            named("queue")
                .spawn(move || upkeep::run(&for_upkeep, keeper))
                .map_err(refused)?,
            named("mqtt")
                .spawn(move || connection::run(&connector, &for_connection))
                .map_err(refused)?,
        ];
        Ok(Self {
            shared,
            threads,
            requests,
        })
    }

    /// `<prefix>/<device>/<camera>/<leaf>`.
    #[must_use]
    pub fn camera_topic(&self, camera: &str, leaf: &str) -> String {
        format!("{}/{camera}/{leaf}", self.shared.base_topic)
    }

    /// Queues an event; it is published as soon as there is a connection.
    pub fn event(&self, topic: String, payload: Vec<u8>) {
        self.shared.push(topic, payload);
    }

    /// Publishes how a camera is at present, which the broker is to keep; a newer state replaces one that waits.
    pub fn state(&self, state: &CameraState<'_>) -> serde_json::Result<()> {
        let mut shared = self.shared.lock();
        match &mut shared.node {
            Some(node) => node.sparkplug.camera(state.camera, state.fault),
            None => shared.retained.put(
                self.camera_topic(state.camera, "state"),
                serde_json::to_vec(state)?,
            ),
        }
        shared.pump(Instant::now());
        Ok(())
    }

    /// Commands that came since this was last asked.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }

    /// Says what came of a command.
    pub fn answer(&self, camera: &str, command: CommandName, outcome: &Result<String, String>) {
        self.shared
            .answer(&mut self.shared.lock(), camera, command.as_str(), outcome);
    }

    /// Publishes a JPEG of at most [`MAX_PICTURE_BYTES`].
    pub fn picture(&self, camera: &str, jpeg: Vec<u8>) {
        self.shared
            .lock()
            .once(self.camera_topic(camera, "snapshot"), jpeg, Instant::now());
    }

    /// For the status line.
    #[must_use]
    pub fn describe(&self) -> String {
        self.shared.lock().describe()
    }

    /// Publishes what is left and `stopped`, and leaves, within `limit`. What cannot be sent in that time stays on
    /// disk, where there is one.
    #[must_use]
    pub fn close(self, limit: Duration) -> Left {
        let now = Instant::now();
        let (deadline, farewell_at) = (
            now + limit,
            now + limit.saturating_sub(FAREWELL.min(limit / 2)),
        );
        let mut state = self.shared.lock();
        state.begin_closing(deadline);
        self.shared.wake_all();
        self.wait(state, farewell_at, State::may_say_farewell);
        let mut state = self.shared.lock();
        state.say_farewell(
            status_topic(&self.shared.base_topic),
            "stopped",
            Instant::now(),
        );
        self.wait(state, deadline, |state| {
            state.has_said_farewell() && state.queue_is_safe()
        });
        let mut state = self.shared.lock();
        let left = state.left();
        state.end();
        drop(state);
        self.shared.wake_all();
        // A thread may be inside a connection attempt or a disk; the process does not wait long for that.
        wait_for_end(&self.threads, deadline.max(Instant::now() + CLOSING));
        left
    }

    fn wait(&self, mut state: state::Guard<'_>, deadline: Instant, done: impl Fn(&State) -> bool) {
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn limits(queue: &QueueSettings) -> Limits {
    Limits {
        sync_every: Duration::from_secs_f64(queue.sync_s),
        sync_events: queue.sync_events,
        memory: queue.memory,
        age: queue.max_age(),
    }
}

/// `<prefix>/<device>`.
fn base_topic(settings: &Settings) -> String {
    format!("{}/{}", settings.mqtt.prefix, settings.device)
}

fn status_topic(base_topic: &str) -> String {
    format!("{base_topic}/status")
}
