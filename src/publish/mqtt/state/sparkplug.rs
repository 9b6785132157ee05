//! Sending the messages of the Sparkplug edge node, and the barriers that confirm them.

use super::sending::{HandOver, Outgoing};
use super::{Phase, State};
use crate::publish::mqtt::in_flight::{Content, MAX_IN_FLIGHT};
use crate::publish::mqtt::node::now_ms;
use crate::publish::sparkplug::Message;
use rumqttc::QoS;
use std::time::Instant;

impl State {
    /// Sends one message; returns whether one was due and the client took it.
    pub(super) fn send_next_of_node(&mut self, now: Instant) -> bool {
        let waiting = self
            .queue
            .next_of_backlog()
            .or_else(|| self.queue.next_live())
            .is_some();
        let Some(node) = &self.node else { return false };
        let now_ms = now_ms();
        if let Some(message) = node.edge.due(waiting, now_ms) {
            return self.send_of_node(message, Content::Transient, now) == HandOver::Taken;
        }
        if node.is_leaving()
            && let Some(death) = node.edge.death(now_ms)
        {
            return self.send_of_node(death, Content::NodeDeath, now) == HandOver::Taken;
        }
        node.may_send_events() && self.send_next_event_of_node(now, now_ms)
    }

    /// Sends the next event, or the birth that must come before it.
    fn send_next_event_of_node(&mut self, now: Instant, now_ms: u64) -> bool {
        let Some((id, record, of_backlog)) = self.next_event(now) else {
            return false;
        };
        let Some(node) = &self.node else { return false };
        let historical = node.is_historical(id);
        let Some(message) = node.edge.event(&record.payload, historical, now_ms) else {
            log::warn!(
                "the event for {} cannot be converted to Sparkplug; it is skipped",
                record.topic
            );
            self.queue.acknowledged(id, now);
            return true;
        };
        if !message.is_event() {
            return self.send_of_node(message, Content::Transient, now) == HandOver::Taken;
        }
        let outcome = self.send_of_node(message, Content::Event(id), now);
        self.event_left(id, of_backlog, outcome, now);
        outcome != HandOver::Busy
    }

    fn send_of_node(&mut self, message: Message, content: Content, now: Instant) -> HandOver {
        let qos = if message.acknowledged {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        };
        let outgoing = Outgoing {
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            qos,
            retain: false,
        };
        let outcome = self.hand_over(outgoing, content, now);
        if let Some(node) = self.node.as_mut().filter(|_| outcome == HandOver::Taken) {
            node.edge.sent(message);
        }
        outcome
    }

    /// Handles a command to the node.
    pub(in crate::publish::mqtt) fn node_command(&mut self, payload: &[u8], now: Instant) {
        if self.subscriptions.allows_node_command(now)
            && let Some(node) = &mut self.node
        {
            node.edge.command(payload);
        }
        self.pump(now);
    }

    /// Sends a barrier if it is time, or if messages wait for room.
    pub(super) fn send_barrier(&mut self, now: Instant) {
        let (Some(client), Some(node)) = (&self.client, &mut self.node) else {
            return;
        };
        if self.in_flight.wants_barrier() {
            node.schedule_barrier(now);
        }
        let urgent = self.in_flight.len() >= MAX_IN_FLIGHT / 2 || self.phase != Phase::Running;
        let is_due = node.barrier_at().is_some_and(|at| at <= now || urgent);
        let fence = || client.try_unsubscribe(node.edge.address.fence_topic());
        if is_due && fence().is_ok() {
            node.barrier_sent();
        }
    }

    /// Notes that the broker has answered a subscription.
    pub(in crate::publish::mqtt) fn subscribed(
        &mut self,
        packet: u16,
        refused: bool,
        broker: &str,
        now: Instant,
    ) {
        self.subscriptions.subscribed(packet, refused, broker, now);
        if let Some(node) = &mut self.node {
            node.edge.subscribed();
            self.acknowledged += 1;
            self.pump(now);
        }
    }

    /// Notes that the broker has answered a barrier.
    pub(in crate::publish::mqtt) fn barrier_answered(&mut self, packet: u16, now: Instant) {
        if let Some(node) = &mut self.node {
            node.barrier_answered();
        }
        for sent in self.in_flight.barrier_answered(packet, now) {
            self.delivered(sent, now);
        }
        self.pump(now);
    }
}
