//! The connection's state: what waits, what is in flight, and what is sent next.

mod closing;
mod sparkplug;

use super::in_flight::{Content, InFlight, MAX_IN_FLIGHT};
use super::node::Node;
use super::retained::Retained;
use super::subscriptions::Subscriptions;
use crate::config::QueueSettings;
use crate::publish::queue::{EventQueue, Pace, Record, Storage};
use rumqttc::{Client, QoS};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum command results and pictures that wait; the oldest are dropped first.
const MAX_TRANSIENT: usize = 32;

/// What could not be delivered before closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Undelivered {
    /// Events, and retained messages that the broker does not have yet.
    pub messages: u64,
    /// The events are on disk, and will be sent after the next start.
    pub on_disk: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The publisher is being closed: what waits is sent, and then the last message.
    Closing,
    /// The threads must end.
    Over,
}

pub(super) struct State {
    pub(super) queue: EventQueue,
    pace: Pace,
    pub(super) retained: Retained,
    pub(super) subscriptions: Subscriptions,
    /// With Sparkplug, the edge node.
    pub(super) node: Option<Node>,
    /// Topics and payloads that are sent once, and dropped if the connection is lost.
    transient: VecDeque<(String, Vec<u8>)>,
    pub(super) in_flight: InFlight<Content>,
    /// Present while connected.
    client: Option<Client>,
    live_first: bool,
    /// Maximum random delay before a backlog is sent.
    drain_delay: Duration,
    away_since: Instant,
    /// An earlier process has left a backlog, so it is unknown how long the broker was away.
    has_inherited: bool,
    phase: Phase,
    drops_logged: u64,
}

impl State {
    pub(super) fn new(queue: EventQueue, settings: &QueueSettings, now: Instant) -> Self {
        Self {
            queue,
            pace: Pace::new(settings.drain_per_s, now),
            retained: Retained::default(),
            subscriptions: Subscriptions::default(),
            node: None,
            transient: VecDeque::new(),
            in_flight: InFlight::default(),
            client: None,
            live_first: settings.live_first,
            drain_delay: Duration::from_secs_f64(settings.drain_delay_s),
            away_since: now,
            has_inherited: false,
            phase: Phase::Running,
            drops_logged: 0,
        }
    }

    /// Queues an event, and sends it if it may be sent now.
    pub(super) fn push(&mut self, record: Record, broker: &str, now: Instant) {
        self.queue.push(record, now);
        if self.client.is_some() && !self.live_first {
            self.pace.earn();
        }
        self.pump(now);
        let dropped = self.queue.dropped().full;
        if dropped > self.drops_logged
            && (dropped.is_power_of_two() || dropped.is_multiple_of(1000))
        {
            self.drops_logged = dropped;
            log::warn!(
                "broker {broker}: the queue is full, {dropped} of the oldest events are dropped so far"
            );
        }
    }

    /// Sends a message once, as soon as there is room. Drops it if there is no connection.
    pub(super) fn send_transient(&mut self, topic: String, payload: Vec<u8>, now: Instant) {
        if self.client.is_some() {
            if self.transient.len() == MAX_TRANSIENT {
                self.transient.pop_front();
            }
            self.transient.push_back((topic, payload));
            self.pump(now);
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.is_some()
    }

    /// Starts sending on a new connection. The backlog waits for a random delay, since other devices may have waited for
    /// the same broker; never longer than the broker was away.
    pub(super) fn connected(&mut self, client: Client, bd_seq: u8, now: Instant) {
        let subscribing = self.subscriptions.connected(&client, now);
        if let Some(node) = &mut self.node {
            node.connected(bd_seq, self.queue.next_id(), subscribing);
        }
        self.client = Some(client);
        self.retained.renew();
        self.queue.connected(self.live_first);
        let away = now.saturating_duration_since(self.away_since);
        self.delay_backlog(
            if self.has_inherited {
                self.drain_delay
            } else {
                self.drain_delay.min(away)
            },
            now,
        );
        self.pump(now);
    }

    /// Notes that an earlier process has left events.
    pub(super) fn inherited(&mut self, now: Instant) {
        self.has_inherited = true;
        if self.client.is_some() {
            self.delay_backlog(self.drain_delay, now);
        }
    }

    fn delay_backlog(&mut self, max: Duration, now: Instant) {
        // Without a backlog, or when what is not sent now may be lost, there is no reason to wait.
        let at_once = self.is_closing() || self.queue.is_empty();
        self.pace.start(
            if at_once {
                Duration::ZERO
            } else {
                max.mul_f64(fastrand::f64())
            },
            now,
        );
    }

    pub(super) fn disconnected(&mut self, now: Instant) {
        if self.client.take().is_some() {
            self.away_since = now;
            self.has_inherited = false;
        }
        self.in_flight.clear();
        self.transient.clear();
        self.queue.disconnected();
    }

    /// Hands messages to the client until [`MAX_IN_FLIGHT`] are in flight.
    pub(super) fn pump(&mut self, now: Instant) {
        while self.client.is_some() && self.in_flight.len() < MAX_IN_FLIGHT && self.send_next(now) {
        }
        self.send_barrier(now);
    }

    /// Sends one message; returns whether one was due and the client took it.
    fn send_next(&mut self, now: Instant) -> bool {
        if self.node.is_some() {
            return self.send_next_of_node(now);
        }
        let sent = self.send_next_retained();
        sent.or_else(|| self.send_next_transient())
            .unwrap_or_else(|| self.send_next_event(now))
    }

    /// `None` if no retained message is due.
    fn send_next_retained(&mut self) -> Option<bool> {
        let client = self.client.as_ref()?;
        let (topic, version, payload) = self.retained.next(|topic| topic.ends_with("/status"))?;
        let topic = topic.to_owned();
        let taken = client
            .try_publish(&topic, QoS::AtLeastOnce, true, payload)
            .is_ok();
        if taken {
            self.retained.handed_over(&topic);
            let content = Content::Retained(topic, version);
            self.in_flight.handed_over(content);
        }
        Some(taken)
    }

    /// `None` if no transient message is due.
    fn send_next_transient(&mut self) -> Option<bool> {
        let client = self.client.as_ref()?;
        let (topic, payload) = self.transient.front()?;
        let taken = client
            .try_publish(topic, QoS::AtLeastOnce, false, payload.as_slice())
            .is_ok();
        if taken {
            self.transient.pop_front();
            self.in_flight.handed_over(Content::Transient);
        }
        Some(taken)
    }

    fn send_next_event(&mut self, now: Instant) -> bool {
        let Some((id, record, of_backlog)) = self.next_event(now) else {
            return false;
        };
        let Some(client) = &self.client else {
            return false;
        };
        let payload = record.payload.as_slice();
        let taken = client
            .try_publish(&record.topic, QoS::AtLeastOnce, false, payload)
            .is_ok();
        if taken {
            self.in_flight.handed_over(Content::Event(id));
            self.event_handed_over(id, of_backlog);
        }
        taken
    }

    /// Notes that the client has taken an event.
    fn event_handed_over(&mut self, id: i64, of_backlog: bool) {
        self.queue.handed_over(id);
        if of_backlog {
            self.pace.spend();
        }
    }

    /// The event that may be sent next, and whether it is of the backlog.
    fn next_event(&mut self, now: Instant) -> Option<(i64, Arc<Record>, bool)> {
        let unpaced = self.is_closing() && *self.queue.storage() == Storage::Memory;
        let backlog = if unpaced || self.pace.is_due(now) {
            self.queue.next_of_backlog()
        } else {
            None
        };
        let of_backlog = backlog.is_some();
        let live = || {
            if self.live_first {
                self.queue.next_live()
            } else {
                None
            }
        };
        backlog
            .or_else(live)
            .map(|(id, record)| (id, record, of_backlog))
    }

    /// When suspended subscriptions resume, while connected.
    pub(super) fn resume_at(&self) -> Option<Instant> {
        self.client.as_ref().and(self.subscriptions.resume_at())
    }

    /// Resumes suspended subscriptions when it is time.
    pub(super) fn resume_subscriptions(&mut self, now: Instant) {
        if let Some(client) = &self.client {
            self.subscriptions.resume(client, now);
        }
    }

    /// Notes the packet identifier of the oldest message that has none yet.
    pub(super) fn sent(&mut self, packet: u16) {
        self.in_flight.sent(packet);
    }

    pub(super) fn acknowledged(&mut self, packet: u16, now: Instant) {
        if let Some(content) = self.in_flight.acknowledged(packet) {
            self.delivered(content, now);
        }
        self.pump(now);
    }

    /// Notes that the broker has this.
    fn delivered(&mut self, content: Content, now: Instant) {
        match content {
            Content::Event(id) => self.queue.acknowledged(id, now),
            Content::Retained(topic, version) => self.retained.acknowledged(&topic, version),
            Content::Transient => {}
            Content::NodeDeath => self.node.iter_mut().for_each(Node::death_acknowledged),
        }
    }

    /// When [`State::pump`] may next have something to send, if nothing else happens.
    pub(super) fn pump_at(&self) -> Option<Instant> {
        let may_send = self.client.is_some() && self.in_flight.len() < MAX_IN_FLIGHT;
        let waits = may_send
            && self.node.as_ref().is_none_or(Node::may_send_events)
            && self.queue.next_of_backlog().is_some();
        let barrier = self
            .client
            .as_ref()
            .and(self.node.as_ref())
            .and_then(Node::barrier_at);
        [waits.then(|| self.pace.due_at()), barrier]
            .into_iter()
            .flatten()
            .min()
    }

    /// For the status line.
    pub(super) fn describe(&self) -> String {
        let connected = if self.client.is_some() {
            "connected"
        } else {
            "away"
        };
        let place = match self.queue.storage() {
            Storage::Memory => "in memory".into(),
            Storage::Opening | Storage::Disk => "on disk".into(),
            Storage::Unavailable(reason) => format!("in memory ({reason})"),
        };
        let (waiting, dropped) = (self.queue.len(), self.queue.dropped().total());
        format!("broker {connected}, {waiting} events waiting {place}, {dropped} dropped")
    }
}
