//! Messages that the MQTT client has taken and the broker has not acknowledged.

use std::collections::{HashMap, VecDeque};

/// Maximum messages in flight. Below rumqttc's own limit of 100, so that packet identifiers never collide.
pub(super) const MAX_IN_FLIGHT: usize = 32;

/// The content of a message, which decides what its acknowledgement means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// The event with this id in the queue.
    Event(i64),
    /// This version of a retained topic's message.
    Retained(String, u64),
    /// A message that is never sent again: a command's result, a picture, a Sparkplug birth.
    Transient,
    /// The Sparkplug node's death, the last message of a connection.
    NodeDeath,
}

/// Messages in flight, or subscriptions, by packet identifier.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    /// Those that the client has not given a packet identifier yet, in order.
    without_id: VecDeque<T>,
    by_packet: HashMap<u16, T>,
    /// Those sent with QoS 0, which the broker does not acknowledge.
    qos_0: VecDeque<T>,
    /// A packet that the broker will answer, and how many messages with QoS 0 were sent before it.
    barrier: Option<(u16, usize)>,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self {
            without_id: VecDeque::new(),
            by_packet: HashMap::new(),
            qos_0: VecDeque::new(),
            barrier: None,
        }
    }
}

impl<T> InFlight<T> {
    /// Notes that the client has taken a message.
    pub(super) fn handed_over(&mut self, what: T) {
        self.without_id.push_back(what);
    }

    /// Notes that the oldest message without a packet identifier was sent with this one, which is 0 for QoS 0.
    pub(super) fn sent(&mut self, packet: u16) {
        match self.without_id.pop_front() {
            Some(what) if packet == 0 => self.qos_0.push_back(what),
            Some(what) => _ = self.by_packet.insert(packet, what),
            None => {}
        }
    }

    /// Notes that a packet was sent that the broker will answer. The broker handles packets in order, so its answer proves
    /// that everything sent before has arrived.
    pub(super) fn barrier_sent(&mut self, packet: u16) {
        self.barrier = Some((packet, self.qos_0.len()));
    }

    /// The messages that are known to have arrived once the broker has answered this packet.
    pub(super) fn barrier_answered(&mut self, packet: u16) -> Vec<T> {
        match self.barrier.take_if(|(barrier, _)| *barrier == packet) {
            Some((_, count)) => self.qos_0.drain(..count).collect(),
            None => Vec::new(),
        }
    }

    /// Whether there are messages that neither the broker nor a barrier will acknowledge.
    pub(super) fn wants_barrier(&self) -> bool {
        self.barrier.is_none() && !(self.qos_0.is_empty() && self.without_id.is_empty())
    }

    /// Removes and returns what the broker has acknowledged.
    pub(super) fn acknowledged(&mut self, packet: u16) -> Option<T> {
        self.by_packet.remove(&packet)
    }

    pub(super) fn len(&self) -> usize {
        self.without_id.len() + self.by_packet.len() + self.qos_0.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_confirms_qos_0_messages_that_were_sent_before_it() {
        let mut in_flight = InFlight::default();
        assert!(!in_flight.wants_barrier());
        (0..3).for_each(|id| in_flight.handed_over(id));
        assert!(in_flight.wants_barrier());
        in_flight.sent(0);
        in_flight.sent(0);
        in_flight.barrier_sent(7);
        in_flight.sent(0);
        assert!(!in_flight.wants_barrier(), "one barrier at a time");
        assert_eq!(in_flight.barrier_answered(8), Vec::<i32>::new());
        assert_eq!(in_flight.barrier_answered(7), [0, 1]);
        assert_eq!(in_flight.len(), 1);
        assert!(in_flight.wants_barrier());
    }

    #[test]
    fn packet_identifiers_follow_the_order_of_handing_over() {
        let mut in_flight = InFlight::default();
        (0..3).for_each(|id| in_flight.handed_over(Content::Event(id)));
        in_flight.sent(7);
        in_flight.sent(9);
        assert_eq!(in_flight.acknowledged(9), Some(Content::Event(1)));
        assert_eq!(in_flight.acknowledged(9), None);
        assert_eq!(in_flight.len(), 2);
    }
}
