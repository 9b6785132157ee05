//! The MQTT publisher: starts the threads, takes what they are to publish, and closes them in order.

use super::connection;
use super::connector::Connector;
use super::error::BrokerError;
use super::node::Node;
use super::queue_thread;
use super::shared::Shared;
use super::state::{State, Undelivered};
use super::subscriptions::Subscriptions;
use crate::config::{CommandName, QueueSettings, Settings};
use crate::publish::command::{CommandPolicy, Request};
use crate::publish::event::CameraState;
use crate::publish::homeassistant::Discovery;
use crate::publish::queue::{DiskWorker, EventQueue, QueueLimits, Record};
use crate::publish::topics::Topics;
use crate::threads::wait_for_end;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Maximum commands that wait for the daemon.
const MAX_REQUESTS: usize = 16;
/// The part of the time for closing that is kept for the last message.
const LAST_MESSAGE: Duration = Duration::from_millis(300);
/// Minimum time that the threads get to end, so that the queue's file is closed cleanly.
const THREADS_END: Duration = Duration::from_millis(100);

/// Publishes in the background.
pub struct MqttPublisher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    requests: Receiver<Request>,
}

impl MqttPublisher {
    /// Starts connecting.
    pub(in crate::publish) fn start(
        connector: Connector,
        settings: &Settings,
    ) -> Result<Self, BrokerError> {
        let queue = &settings.queue;
        let worker = queue
            .folder
            .as_ref()
            .map(|folder| DiskWorker::new(folder, queue.max_bytes(), queue.max_age()));
        let (sender, requests) = sync_channel(MAX_REQUESTS);
        let shared = Arc::new(Shared::new(
            initial_state(&connector, settings, worker.is_some(), sender),
            connector.broker.clone(),
            settings,
        ));
        let (for_queue, for_connection) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            spawn("queue", &shared, move || {
                queue_thread::run(&for_queue, worker);
            })?,
            spawn("mqtt", &shared, move || {
                connection::run(connector, &for_connection);
            })?,
        ];
        Ok(Self {
            shared,
            threads,
            requests,
        })
    }

    /// Queues a camera's event. It is published as soon as there is a connection.
    pub fn event(&self, camera: &str, payload: Vec<u8>) {
        self.shared.push(self.shared.topics.event(camera), payload);
    }

    /// The broker, and the retained topics that may be on it.
    pub(in crate::publish) fn retained(&self) -> (String, Vec<String>) {
        let state = self.shared.lock();
        let topics = state.retained.topics().cloned().collect();
        (self.shared.broker.clone(), topics)
    }

    /// The largest picture that can be sent now: at most [`MAX_PICTURE_BYTES`](super::MAX_PICTURE_BYTES), and less on a
    /// broker that has refused a smaller message.
    #[must_use]
    pub fn max_picture_bytes(&self) -> usize {
        self.shared.lock().max_picture_bytes(Instant::now())
    }

    /// Publishes a camera's present state, retained. A newer state replaces one that still waits.
    pub fn state(&self, state: &CameraState<'_>) -> serde_json::Result<()> {
        let mut shared = self.shared.lock();
        match &mut shared.node {
            Some(node) => node.edge.set_camera(state.camera, state.fault),
            None => shared.retained.put(
                self.shared.topics.state(state.camera),
                serde_json::to_vec(state)?,
            ),
        }
        shared.pump(Instant::now());
        Ok(())
    }

    /// Commands received since the last call.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }

    /// Publishes the result of a command.
    pub fn command_result(
        &self,
        camera: &str,
        command: CommandName,
        outcome: &Result<String, String>,
    ) {
        self.shared
            .command_result(&mut self.shared.lock(), camera, command.as_str(), outcome);
    }

    /// Publishes a JPEG of at most [`Self::max_picture_bytes`].
    pub fn picture(&self, camera: &str, jpeg: Vec<u8>) {
        let topic = self.shared.topics.snapshot(camera);
        let mut state = self.shared.lock();
        state.send_transient(topic, jpeg, Instant::now());
    }

    /// For the status line.
    #[must_use]
    pub fn describe(&self) -> String {
        self.shared.lock().describe()
    }

    /// Publishes what waits, and then `stopped`, and disconnects, within `limit`. Events that cannot be sent in that time
    /// stay on disk, if there is one.
    #[must_use]
    pub fn close(self, limit: Duration) -> Undelivered {
        self.end(limit, |_| false, State::undelivered)
    }

    /// Closes it so that another publisher takes its place; returns the events that are neither delivered nor on disk.
    pub(in crate::publish) fn replace(self, limit: Duration) -> Vec<Record> {
        // Without a connection there is nothing to wait for: the other publisher goes on where this one stops.
        let is_away = |state: &State| !state.is_connected() && state.queue_is_safe();
        self.end(limit, is_away, |state| state.queue.unstored())
    }

    /// Queues the events that an earlier publisher could not deliver, oldest first.
    pub(in crate::publish) fn adopt(&self, records: Vec<Record>) {
        let now = Instant::now();
        let mut state = self.shared.lock();
        for record in records {
            state.push(record, now);
        }
        drop(state);
        self.shared.wake_all();
    }

    /// Closes it within `limit`, or as soon as `is_enough`; returns what `rest` finds in its last state.
    fn end<T>(
        self,
        limit: Duration,
        is_enough: impl Fn(&State) -> bool,
        rest: impl FnOnce(&State) -> T,
    ) -> T {
        let now = Instant::now();
        let (deadline, last_message_at) = (
            now + limit,
            now + limit.saturating_sub(LAST_MESSAGE.min(limit / 2)),
        );
        let shared = &self.shared;
        let mut state = shared.lock();
        state.begin_closing();
        shared.wake_all();
        shared.wait_until(state, last_message_at, |state| {
            state.may_send_last_message() || is_enough(state)
        });
        let mut state = shared.lock();
        let status = shared.topics.status();
        state.send_last_message(status, "stopped", Instant::now());
        shared.wait_until(state, deadline, |state| {
            (state.last_message_delivered() && state.queue_is_safe()) || is_enough(state)
        });
        let mut state = shared.lock();
        let rest = rest(&state);
        state.end();
        drop(state);
        shared.wake_all();
        // A thread may be blocked by a connection attempt or the disk; the process does not wait long for that.
        wait_for_end(&self.threads, deadline.max(Instant::now() + THREADS_END));
        rest
    }
}

/// The state before the first connection: an empty queue, and the first retained messages.
fn initial_state(
    connector: &Connector,
    settings: &Settings,
    on_disk: bool,
    requests: SyncSender<Request>,
) -> State {
    let now = Instant::now();
    let queue = EventQueue::new(limits(&settings.queue), on_disk, now);
    let mut state = State::new(&connector.broker, queue, &settings.queue, now);
    if let Some(address) = connector.node() {
        state.subscriptions = Subscriptions::of_node(address.command_topic());
        state.node = Some(Node::new(
            address.clone(),
            settings.cameras.iter().map(|c| c.name.clone()),
        ));
    } else {
        let status = Topics::new(settings).status();
        state.retained.put(status, "online".into());
        state.subscriptions = Subscriptions::new(
            Discovery::new(settings),
            CommandPolicy::new(settings),
            requests,
        );
    }
    if let Some((topic, payload)) = state.subscriptions.discovery() {
        state.retained.put(topic, payload);
    }
    state
}

fn limits(queue: &QueueSettings) -> QueueLimits {
    QueueLimits {
        sync_every: Duration::from_secs_f64(queue.sync_s),
        sync_events: queue.sync_events,
        memory: queue.memory,
        age: queue.max_age(),
    }
}

fn spawn(
    name: &str,
    shared: &Shared,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, BrokerError> {
    let thread = thread::Builder::new().name(name.into()).spawn(run);
    thread.map_err(|e| BrokerError::Unavailable {
        broker: shared.broker.clone(),
        reason: format!("cannot start a thread: {e}"),
    })
}
