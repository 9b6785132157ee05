//! What the threads share: queue, retained messages, connection; and how the connection is fed.

use super::node::Node;
use super::outbox::{Parcel, Retained, UnderWay};
use super::subscriptions::Subscriptions;
use super::{Left, Storage, WINDOW};
use crate::config::QueueSettings;
use crate::publish::queue::{Boot, Pace, Queue, Record};
use rumqttc::{Client, QoS};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) type Guard<'a> = MutexGuard<'a, State>;

/// Answers and pictures that wait at most; the oldest go.
const MAX_ONCE: usize = 32;

pub(super) struct Shared {
    state: Mutex<State>,
    /// Something that the one who closes waits for, or the one who waits to connect again.
    pub(super) changed: Condvar,
    /// There may be work for the upkeep.
    pub(super) work: Condvar,
    pub(super) broker: String,
    pub(super) device: String,
    /// `<prefix>/<device>`.
    pub(super) base_topic: String,
    boot: Boot,
}

pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) pace: Pace,
    pub(super) retained: Retained,
    /// What is heard.
    pub(super) subscriptions: Subscriptions,
    /// There where Sparkplug is spoken.
    pub(super) node: Option<Node>,
    /// Topics and payloads that are sent once.
    once: VecDeque<(String, Vec<u8>)>,
    pub(super) under_way: UnderWay<Parcel>,
    /// There while connected.
    pub(super) client: Option<Client>,
    live_first: bool,
    /// Longest random wait before a backlog is sent.
    drain_delay: Duration,
    away_since: Instant,
    /// An earlier process has left a backlog: how long the broker was away nobody knows.
    inherited: bool,
    /// Until when the last messages may be sent, once the publisher is being closed.
    pub(super) close_by: Option<Instant>,
    /// The threads are to end.
    over: bool,
    drops_told: u64,
}

impl Shared {
    pub(super) fn new(state: State, broker: String, device: &str, base_topic: &str) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            work: Condvar::new(),
            broker,
            device: device.to_owned(),
            base_topic: base_topic.to_owned(),
            boot: Boot::read(),
        }
    }

    pub(super) fn lock(&self) -> Guard<'_> {
        // The state is whole between any two statements that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake_all(&self) {
        self.changed.notify_all();
        self.work.notify_all();
    }

    pub(super) fn stamp(&self) -> crate::publish::queue::Stamp {
        self.boot.now()
    }

    /// Queues an event and sends it if it may go.
    pub(super) fn push(&self, topic: String, payload: Vec<u8>) {
        let queued = self.stamp();
        let now = Instant::now();
        let mut state = self.lock();
        state.queue.push(
            Record {
                topic,
                payload,
                queued,
            },
            now,
        );
        if state.client.is_some() && !state.live_first {
            state.pace.earn();
        }
        state.pump(now);
        let dropped = state.queue.dropped().full;
        if dropped > state.drops_told && (dropped.is_power_of_two() || dropped.is_multiple_of(1000))
        {
            state.drops_told = dropped;
            log::warn!(
                "broker {}: the queue is full, {dropped} of the oldest events are dropped so far",
                self.broker
            );
        }
        // The first of a batch sets the time for it, the last makes it due.
        if state.queue.unsynced() == 1 || state.queue.work_at(now).is_some_and(|at| at <= now) {
            self.work.notify_one();
        }
    }
}

impl State {
    pub(super) fn new(queue: Queue, settings: &QueueSettings, now: Instant) -> Self {
        Self {
            queue,
            pace: Pace::new(settings.drain_per_s, now),
            retained: Retained::default(),
            subscriptions: Subscriptions::default(),
            node: None,
            once: VecDeque::new(),
            under_way: UnderWay::default(),
            client: None,
            live_first: settings.live_first,
            drain_delay: Duration::from_secs_f64(settings.drain_delay_s),
            away_since: now,
            inherited: false,
            close_by: None,
            over: false,
            drops_told: 0,
        }
    }

    /// Sends something once, as soon as there is room; where there is no connection, not at all.
    pub(super) fn once(&mut self, topic: String, payload: Vec<u8>, now: Instant) {
        if self.client.is_some() {
            if self.once.len() == MAX_ONCE {
                self.once.pop_front();
            }
            self.once.push_back((topic, payload));
            self.pump(now);
        }
    }

    /// Begins to feed a connection. The backlog waits a random while, as other devices' backlogs do that wait for
    /// the same broker: no longer than it was away.
    pub(super) fn connected(&mut self, client: Client, bd_seq: u8, now: Instant) {
        let asked = self.subscriptions.connected(&client, now);
        if let Some(node) = &mut self.node {
            node.connected(bd_seq, self.queue.next_id(), asked);
        }
        self.client = Some(client);
        self.retained.renew();
        self.queue.connected(self.live_first);
        let away = now.saturating_duration_since(self.away_since);
        self.put_off(
            if self.inherited {
                self.drain_delay
            } else {
                self.drain_delay.min(away)
            },
            now,
        );
        self.pump(now);
    }

    /// Notes that an earlier process has left events.
    pub(super) fn inherits(&mut self, now: Instant) {
        self.inherited = true;
        if self.client.is_some() {
            self.put_off(self.drain_delay, now);
        }
    }

    fn put_off(&mut self, most: Duration, now: Instant) {
        // Nobody else waits for what is lost if it is not sent now.
        let at_once = self.close_by.is_some() || self.queue.is_empty();
        self.pace.start(
            if at_once {
                Duration::ZERO
            } else {
                most.mul_f64(fastrand::f64())
            },
            now,
        );
    }

    pub(super) fn disconnected(&mut self, now: Instant) {
        if self.client.take().is_some() {
            self.away_since = now;
            self.inherited = false;
        }
        self.under_way.clear();
        self.once.clear();
        self.queue.disconnected();
    }

    /// Gives the client as much as may be under way.
    pub(super) fn pump(&mut self, now: Instant) {
        while self.client.is_some() && self.under_way.len() < WINDOW && self.send_next(now) {}
        self.fence(now);
    }

    /// Sends one message, if one is due and the client takes it.
    fn send_next(&mut self, now: Instant) -> bool {
        if self.node.is_some() {
            return self.say_next(now);
        }
        let Some(client) = &self.client else {
            return false;
        };
        if let Some((topic, version, payload)) =
            self.retained.next(|topic| topic.ends_with("/status"))
        {
            let topic = topic.to_owned();
            let taken = client
                .try_publish(&topic, QoS::AtLeastOnce, true, payload)
                .is_ok();
            if taken {
                self.retained.handed_over(&topic);
                self.under_way.handed_over(Parcel::Retained(topic, version));
            }
            return taken;
        }
        if let Some((topic, payload)) = self.once.front() {
            let taken = client
                .try_publish(topic, QoS::AtLeastOnce, false, payload.as_slice())
                .is_ok();
            if taken {
                self.once.pop_front();
                self.under_way.handed_over(Parcel::Once);
            }
            return taken;
        }
        let Some((id, record, of_backlog)) = self.next_event(now) else {
            return false;
        };
        let Some(client) = &self.client else {
            return false;
        };
        let taken = client
            .try_publish(
                &record.topic,
                QoS::AtLeastOnce,
                false,
                record.payload.as_slice(),
            )
            .is_ok();
        if taken {
            self.under_way.handed_over(Parcel::Event(id));
            self.event_left(id, of_backlog);
        }
        taken
    }

    /// The client has taken an event.
    pub(super) fn event_left(&mut self, id: i64, of_backlog: bool) {
        self.queue.handed_over(id);
        if of_backlog {
            self.pace.spend();
        }
    }

    /// The event that may be sent next, and whether it is of the backlog.
    pub(super) fn next_event(&mut self, now: Instant) -> Option<(i64, Arc<Record>, bool)> {
        let unpaced = self.close_by.is_some() && *self.queue.storage() == Storage::Memory;
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

    /// When to listen again, where that waits for nothing else.
    pub(super) fn listen_at(&self) -> Option<Instant> {
        self.client.as_ref().and(self.subscriptions.listen_at())
    }

    /// Listens again to what was too loud, if it is time.
    pub(super) fn listen_again(&mut self, now: Instant) {
        if let Some(client) = &self.client {
            self.subscriptions.listen_again(client, now);
        }
    }

    /// The client has given the oldest message that it took a packet number.
    pub(super) fn sent(&mut self, packet: u16) {
        self.under_way.sent(packet);
    }

    pub(super) fn acknowledged(&mut self, packet: u16, now: Instant) {
        if let Some(parcel) = self.under_way.acknowledged(packet) {
            self.settle(parcel, now);
        }
        self.pump(now);
    }

    /// The broker has this.
    pub(super) fn settle(&mut self, parcel: Parcel, now: Instant) {
        match parcel {
            Parcel::Event(id) => self.queue.acknowledged(id, now),
            Parcel::Retained(topic, version) => self.retained.acknowledged(&topic, version),
            Parcel::Once => {}
            Parcel::Farewell => self.node.iter_mut().for_each(Node::left),
        }
    }

    /// When [`State::pump`] may have something to send that it has not now, if nothing else happens.
    pub(super) fn pump_at(&self) -> Option<Instant> {
        let may_send = self.client.is_some() && self.under_way.len() < WINDOW;
        let waits = may_send
            && self.node.as_ref().is_none_or(Node::tells)
            && self.queue.next_of_backlog().is_some();
        let fence = self
            .client
            .as_ref()
            .and(self.node.as_ref())
            .and_then(Node::fence_at);
        [waits.then(|| self.pace.due_at()), fence]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn begin_closing(&mut self, deadline: Instant) {
        self.close_by = Some(deadline);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.close_by.is_some()
    }

    /// The last word is said: `payload` on the retained topic `status`, or a node's death.
    pub(super) fn say_farewell(&mut self, status: String, payload: &str, now: Instant) {
        match &mut self.node {
            Some(node) => node.leave(),
            None => self.retained.put(status, payload.into()),
        }
        self.pump(now);
    }

    /// Whether the broker has it, or nobody is there to hear it.
    pub(super) fn has_said_farewell(&self) -> bool {
        match &self.node {
            Some(node) => node.has_left() || self.client.is_none(),
            None => self.retained.waiting() == 0,
        }
    }

    /// Leaves for good.
    pub(super) fn end(&mut self) {
        self.over = true;
        if let Some(client) = &self.client {
            let _ = client.try_disconnect();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether waiting any longer sends nothing more that would be lost otherwise.
    pub(super) fn may_say_farewell(&self) -> bool {
        let sent = self.queue.is_empty() && self.retained.waiting() == 0 && self.once.is_empty();
        sent || (self.client.is_none()
            && self.queue_is_safe()
            && *self.queue.storage() == Storage::Disk)
    }

    /// Whether ending now takes no event that could be kept.
    pub(super) fn queue_is_safe(&self) -> bool {
        *self.queue.storage() != Storage::Disk || self.queue.is_written()
    }

    pub(super) fn left(&self) -> Left {
        let on_disk = *self.queue.storage() == Storage::Disk && self.queue.unsynced() == 0;
        Left {
            messages: self.queue.len() + self.retained.waiting() as u64,
            on_disk,
        }
    }

    pub(super) fn describe(&self) -> String {
        let connected = if self.client.is_some() {
            "connected"
        } else {
            "away"
        };
        let place = match self.queue.storage() {
            Storage::Memory => "in memory".into(),
            Storage::Opening | Storage::Disk => "on disk".into(),
            Storage::Away(reason) => format!("in memory ({reason})"),
        };
        let (waiting, dropped) = (self.queue.len(), self.queue.dropped().total());
        format!("broker {connected}, {waiting} events waiting {place}, {dropped} dropped")
    }
}
