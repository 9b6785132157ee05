//! Sending: which message is next, and whether it can be sent at all.

use super::State;
use crate::publish::mqtt::in_flight::{Content, MAX_IN_FLIGHT, Sent};
use crate::publish::mqtt::packet_size::{Verdict, publish_bytes};
use crate::publish::queue::{Record, Storage};
use rumqttc::QoS;
use std::sync::Arc;
use std::time::Instant;

/// A message for the client.
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

impl Outgoing {
    /// A message with QoS 1 that is not retained.
    fn new(topic: String, payload: Vec<u8>) -> Self {
        Self {
            topic,
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandOver {
    /// The client has it.
    Taken,
    /// It must wait.
    Busy,
    /// It can never be sent, which was logged.
    Impossible,
}

impl State {
    /// Hands messages to the client until [`MAX_IN_FLIGHT`] are in flight.
    pub(in crate::publish::mqtt) fn pump(&mut self, now: Instant) {
        self.is_held = false;
        while self.client.is_some() && self.in_flight.len() < MAX_IN_FLIGHT && self.send_next(now) {
        }
        self.send_barrier(now);
    }

    /// Sends one message, or drops one that can never be sent; returns whether there was one.
    fn send_next(&mut self, now: Instant) -> bool {
        if let Some(node) = &self.node {
            // A node retains nothing, but may have topics to delete: from before it was one.
            let may_delete = node.may_send_events();
            let deleted = may_delete.then(|| self.send_next_retained(now)).flatten();
            return deleted.unwrap_or_else(|| self.send_next_of_node(now));
        }
        let sent = self.send_next_retained(now);
        sent.or_else(|| self.send_next_transient(now))
            .unwrap_or_else(|| self.send_next_event(now))
    }

    /// Hands a message to the client if its size allows it.
    pub(super) fn hand_over(
        &mut self,
        message: Outgoing,
        content: Content,
        now: Instant,
    ) -> HandOver {
        let Outgoing {
            topic,
            payload,
            qos,
            retain,
        } = message;
        let bytes = publish_bytes(&topic, &payload);
        let alone = match self.size.judge(&topic, &payload, now) {
            Verdict::Fits => false,
            Verdict::Alone => true,
            Verdict::Never(why) => {
                self.log_impossible(&topic, bytes, &why, now);
                return HandOver::Impossible;
            }
        };
        let blocks = |sent: &Sent| alone || self.size.is_suspected(sent.bytes);
        if self.in_flight.iter().any(blocks) {
            self.is_held = true;
            return HandOver::Busy;
        }
        let Some(client) = &self.client else {
            return HandOver::Busy;
        };
        if client.try_publish(&topic, qos, retain, payload).is_err() {
            return HandOver::Busy;
        }
        let sent = Sent {
            content,
            topic,
            bytes,
        };
        self.in_flight.handed_over(sent, now);
        HandOver::Taken
    }

    fn log_impossible(&mut self, topic: &str, bytes: usize, why: &str, now: Instant) {
        if self.oversized_lines.allows(now) {
            // A topic may itself be too long.
            let topic: String = topic.chars().take(200).collect();
            log::warn!(
                "broker {}: a message of {bytes} bytes on {topic} cannot be sent and is dropped: {why}",
                self.broker
            );
        }
    }

    /// `None` if no retained message is due.
    fn send_next_retained(&mut self, now: Instant) -> Option<bool> {
        let (topic, version, payload) = self.retained.next(|topic| topic.ends_with("/status"))?;
        let message = Outgoing {
            retain: true,
            ..Outgoing::new(topic.to_owned(), payload.to_vec())
        };
        let topic = message.topic.clone();
        let outcome = self.hand_over(message, Content::Retained(version), now);
        match outcome {
            HandOver::Taken => self.retained.handed_over(&topic),
            HandOver::Impossible => self.retained.refuse(&topic),
            HandOver::Busy => {}
        }
        Some(outcome != HandOver::Busy)
    }

    /// `None` if no transient message is due.
    fn send_next_transient(&mut self, now: Instant) -> Option<bool> {
        let (topic, payload) = self.transient.front()?.clone();
        let outcome = self.hand_over(Outgoing::new(topic, payload), Content::Transient, now);
        if outcome != HandOver::Busy {
            self.transient.pop_front();
        }
        Some(outcome != HandOver::Busy)
    }

    fn send_next_event(&mut self, now: Instant) -> bool {
        let Some((id, record, of_backlog)) = self.next_event(now) else {
            return false;
        };
        let message = Outgoing::new(record.topic.clone(), record.payload.clone());
        let outcome = self.hand_over(message, Content::Event(id), now);
        self.event_left(id, of_backlog, outcome, now);
        outcome != HandOver::Busy
    }

    /// Notes what became of an event.
    pub(super) fn event_left(
        &mut self,
        id: i64,
        of_backlog: bool,
        outcome: HandOver,
        now: Instant,
    ) {
        match outcome {
            HandOver::Busy => return,
            HandOver::Taken => self.queue.handed_over(id),
            HandOver::Impossible => {
                self.oversized += 1;
                self.queue.acknowledged(id, now);
            }
        }
        if of_backlog {
            self.pace.spend();
        }
    }

    /// The event that may be sent next, and whether it is of the backlog.
    pub(super) fn next_event(&mut self, now: Instant) -> Option<(i64, Arc<Record>, bool)> {
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
}
