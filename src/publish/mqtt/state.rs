//! The connection's state: what waits, what is in flight, and what is sent next.

mod closing;
mod sending;
mod sparkplug;

use super::in_flight::{Content, InFlight, MAX_IN_FLIGHT, Sent};
use super::node::Node;
use super::packet_size::PacketSize;
use super::rate_limit::RateLimit;
use super::retained::Retained;
use super::subscriptions::Subscriptions;
use crate::config::QueueSettings;
use crate::publish::queue::{EventQueue, Pace, Record, Storage};
use rumqttc::Client;
use std::collections::VecDeque;
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

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The broker closed it.
    Closed,
    /// Otherwise, for example by a timeout.
    Other,
}

/// What a broker owes an answer to, and since how long.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// A message.
    Acknowledgement(Duration),
    /// The subscription to these topics.
    Subscription(String, Duration),
}

pub(super) struct State {
    /// The broker as log lines name it.
    broker: String,
    pub(super) queue: EventQueue,
    pace: Pace,
    pub(super) retained: Retained,
    pub(super) subscriptions: Subscriptions,
    /// With Sparkplug, the edge node.
    pub(super) node: Option<Node>,
    /// Topics and payloads that are sent once, and dropped if the connection is lost.
    transient: VecDeque<(String, Vec<u8>)>,
    pub(super) in_flight: InFlight<Sent>,
    size: PacketSize,
    /// A message waits until nothing else is in flight.
    is_held: bool,
    /// Events that were too large for the broker.
    oversized: u64,
    /// Lines of the log about messages that are too large.
    oversized_lines: RateLimit,
    /// Retained topics that the broker has deleted, for memory.
    deleted: Vec<String>,
    /// Packets that the broker has acknowledged on this connection.
    acknowledged: u64,
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
    pub(super) fn new(
        broker: &str,
        queue: EventQueue,
        settings: &QueueSettings,
        now: Instant,
    ) -> Self {
        Self {
            broker: broker.to_owned(),
            queue,
            pace: Pace::new(settings.drain_per_s, now),
            retained: Retained::default(),
            subscriptions: Subscriptions::default(),
            node: None,
            transient: VecDeque::new(),
            in_flight: InFlight::default(),
            size: PacketSize::default(),
            is_held: false,
            oversized: 0,
            oversized_lines: RateLimit::new(5, 0.1),
            deleted: Vec::new(),
            acknowledged: 0,
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
    pub(super) fn push(&mut self, record: Record, now: Instant) {
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
            let broker = &self.broker;
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
        self.acknowledged = 0;
        for topic in self.retained.renew() {
            log::warn!(
                "broker {}: the connection ends whenever {topic}, which is published no longer, is deleted; delete it yourself (an empty retained message), or let this device publish there",
                self.broker
            );
        }
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

    /// Notes that the connection has ended. Returns whether it looked as if another client had taken it over.
    pub(super) fn disconnected(&mut self, ending: Ending, now: Instant) -> bool {
        let was_connected = self.client.take().is_some();
        if was_connected {
            self.away_since = now;
            self.has_inherited = false;
        }
        if was_connected && ending == Ending::Closed {
            let sent = self.in_flight.iter().map(|s| (s.topic.as_str(), s.bytes));
            if let Some(told) = self.size.closed(sent, now) {
                log::warn!("broker {}: {told}", self.broker);
            }
        }
        self.in_flight.clear();
        self.is_held = false;
        self.transient.clear();
        self.retained.disconnected();
        self.queue.disconnected();
        was_connected
            && ending == Ending::Closed
            && self.acknowledged > 0
            && !self.size.has_suspect()
    }

    /// When [`Self::subscriptions_due`] has something to do.
    pub(super) fn subscriptions_due_at(&self) -> Option<Instant> {
        let subscriptions = self.client.as_ref().and(self.subscriptions.due_at());
        [subscriptions, self.oversized_lines.report_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Resumes suspended subscriptions, answers Home Assistant, and reports floods, when it is time.
    pub(super) fn subscriptions_due(&mut self, now: Instant) {
        if let Some(client) = &self.client {
            self.subscriptions.resume(client, now);
            self.subscriptions.report_flood(&self.broker, now);
            if let Some((topic, payload)) = self.subscriptions.birth_answer(now) {
                self.retained.put(topic, payload);
                self.pump(now);
            }
        }
        if let Some(more) = self.oversized_lines.report(now) {
            log::warn!(
                "broker {}: {more} more messages were too large",
                self.broker
            );
        }
    }

    /// What the broker has owed for longer than `patience`, so that a new connection must be made.
    pub(super) fn owed(&mut self, now: Instant, patience: Duration) -> Option<Owed> {
        let stuck = self.in_flight.stuck_for(now).filter(|s| *s > patience);
        if let Some(since) = stuck {
            return Some(Owed::Acknowledgement(since));
        }
        let unanswered = self.subscriptions.unanswered(now, patience, &self.broker);
        unanswered.map(|(filter, since)| Owed::Subscription(filter, since))
    }

    /// Retained topics that the broker has deleted since the last call.
    pub(super) fn take_deleted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.deleted)
    }

    /// The largest picture that can be sent now.
    pub(super) fn max_picture_bytes(&self, now: Instant) -> usize {
        self.size.max_picture_bytes(now)
    }

    /// Events that were too large for the broker.
    pub(super) fn oversized(&self) -> u64 {
        self.oversized
    }

    /// Events dropped, for whatever reason.
    pub(super) fn dropped(&self) -> u64 {
        self.queue.dropped().total() + self.oversized
    }

    /// Notes the packet identifier of the oldest message that has none yet.
    pub(super) fn sent(&mut self, packet: u16) {
        self.in_flight.sent(packet);
    }

    pub(super) fn acknowledged(&mut self, packet: u16, now: Instant) {
        if let Some(sent) = self.in_flight.acknowledged(packet, now) {
            self.delivered(sent, now);
        }
        self.pump(now);
    }

    /// Notes that the broker has this.
    fn delivered(&mut self, sent: Sent, now: Instant) {
        self.size.taken(sent.bytes);
        self.acknowledged += 1;
        match sent.content {
            Content::Event(id) => self.queue.acknowledged(id, now),
            Content::Retained(version) => self.retained_delivered(sent.topic, version),
            Content::Transient => {}
            Content::NodeDeath => self.node.iter_mut().for_each(Node::death_acknowledged),
        }
    }

    fn retained_delivered(&mut self, topic: String, version: u64) {
        let Some(payload) = self.retained.acknowledged(&topic, version) else {
            return;
        };
        if payload.is_empty() {
            self.deleted.push(topic);
        } else if let Some(next) = self.subscriptions.after_delivery(&topic, &payload) {
            self.retained.put(topic, next);
        }
    }

    /// When [`State::pump`] may next have something to send, if nothing else happens.
    pub(super) fn pump_at(&self) -> Option<Instant> {
        let may_send =
            self.client.is_some() && !self.is_held && self.in_flight.len() < MAX_IN_FLIGHT;
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
        let (waiting, dropped) = (self.queue.len(), self.dropped());
        format!("broker {connected}, {waiting} events waiting {place}, {dropped} dropped")
    }
}
