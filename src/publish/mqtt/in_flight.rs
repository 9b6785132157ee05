//! Messages that the MQTT client has taken and the broker has not acknowledged.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Maximum messages in flight. Below rumqttc's own limit of 100, so that packet identifiers never collide.
pub(super) const MAX_IN_FLIGHT: usize = 32;

/// A message that the client has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) content: Content,
    pub(super) topic: String,
    /// Of the whole packet.
    pub(super) bytes: usize,
}

/// The content of a message, which decides what its acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// The event with this id in the queue.
    Event(i64),
    /// This version of a retained topic's message.
    Retained(u64),
    /// A message that is never sent again: a command's result, a picture, a Sparkplug birth.
    Transient,
    /// The Sparkplug node's death, the last message of a connection.
    NodeDeath,
}

#[derive(Debug)]
struct Entry<T> {
    what: T,
    /// The packet identifier once the client has given one; 0 with QoS 0, which the broker does not acknowledge.
    packet: Option<u16>,
}

/// Messages in flight, or subscriptions, in the order of sending.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    entries: VecDeque<Entry<T>>,
    /// A packet that the broker will answer, and how many messages with QoS 0 were sent before it.
    barrier: Option<(u16, usize)>,
    /// When the oldest entry became the oldest.
    moved_at: Option<Instant>,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            barrier: None,
            moved_at: None,
        }
    }
}

impl<T> InFlight<T> {
    /// Notes that the client has taken a message.
    pub(super) fn handed_over(&mut self, what: T, now: Instant) {
        if self.entries.is_empty() {
            self.moved_at = Some(now);
        }
        self.entries.push_back(Entry { what, packet: None });
    }

    /// Notes that the oldest message without a packet identifier was sent with this one, which is 0 for QoS 0.
    pub(super) fn sent(&mut self, packet: u16) {
        let entry = self.entries.iter_mut().find(|e| e.packet.is_none());
        if let Some(entry) = entry {
            entry.packet = Some(packet);
        }
    }

    /// Notes that a packet was sent that the broker will answer. The broker handles packets in order, so its answer proves
    /// that everything sent before has arrived.
    pub(super) fn barrier_sent(&mut self, packet: u16) {
        let qos_0 = self.entries.iter().filter(|e| e.packet == Some(0));
        self.barrier = Some((packet, qos_0.count()));
    }

    /// The messages that are known to have arrived once the broker has answered this packet.
    pub(super) fn barrier_answered(&mut self, packet: u16, now: Instant) -> Vec<T> {
        let Some((_, mut left)) = self.barrier.take_if(|(barrier, _)| *barrier == packet) else {
            return Vec::new();
        };
        let (mut arrived, mut others) = (Vec::new(), VecDeque::new());
        for entry in self.entries.drain(..) {
            if entry.packet == Some(0) && left > 0 {
                left -= 1;
                arrived.push(entry.what);
            } else {
                others.push_back(entry);
            }
        }
        (self.entries, self.moved_at) = (others, Some(now));
        arrived
    }

    /// Whether there are messages that neither the broker nor a barrier will acknowledge.
    pub(super) fn wants_barrier(&self) -> bool {
        let unanswered = |e: &Entry<T>| e.packet.is_none_or(|packet| packet == 0);
        self.barrier.is_none() && self.entries.iter().any(unanswered)
    }

    /// Removes and returns what the broker has acknowledged.
    pub(super) fn acknowledged(&mut self, packet: u16, now: Instant) -> Option<T> {
        let at = self
            .entries
            .iter()
            .position(|e| packet != 0 && e.packet == Some(packet))?;
        if at == 0 {
            self.moved_at = Some(now);
        }
        self.entries.remove(at).map(|entry| entry.what)
    }

    /// How long the oldest message has been the oldest. Brokers acknowledge in order, so an acknowledgement that never
    /// comes stops the window, whether others come or not.
    pub(super) fn stuck_for(&self, now: Instant) -> Option<Duration> {
        let moved_at = self.moved_at.filter(|_| !self.entries.is_empty())?;
        Some(now.saturating_duration_since(moved_at))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|e| &e.what)
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
        let (mut in_flight, now) = (InFlight::default(), Instant::now());
        assert!(!in_flight.wants_barrier());
        (0..3).for_each(|id| in_flight.handed_over(id, now));
        assert!(in_flight.wants_barrier());
        in_flight.sent(0);
        in_flight.sent(0);
        in_flight.barrier_sent(7);
        in_flight.sent(0);
        assert!(!in_flight.wants_barrier(), "one barrier at a time");
        assert_eq!(in_flight.barrier_answered(8, now), Vec::<i32>::new());
        assert_eq!(in_flight.barrier_answered(7, now), [0, 1]);
        assert_eq!(in_flight.len(), 1);
        assert!(in_flight.wants_barrier());
    }

    #[test]
    fn packet_identifiers_follow_the_order_of_handing_over() {
        let (mut in_flight, now) = (InFlight::default(), Instant::now());
        (0..3).for_each(|id| in_flight.handed_over(id, now));
        in_flight.sent(7);
        in_flight.sent(9);
        assert_eq!(in_flight.acknowledged(9, now), Some(1));
        assert_eq!(in_flight.acknowledged(9, now), None);
        assert_eq!(in_flight.acknowledged(0, now), None);
        assert_eq!(in_flight.len(), 2);
    }

    #[test]
    fn a_window_moves_only_when_its_oldest_message_is_acknowledged() {
        let (mut in_flight, start) = (InFlight::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        let stuck = |f: &InFlight<u8>, s| f.stuck_for(at(s)).map(|d| d.as_secs());
        assert_eq!(stuck(&in_flight, 5), None);
        for id in 1..=3 {
            in_flight.handed_over(id, at(1));
            in_flight.sent(id.into());
        }
        assert_eq!(stuck(&in_flight, 11), Some(10));
        in_flight.acknowledged(2, at(12));
        assert_eq!(stuck(&in_flight, 13), Some(12), "the first one's is lost");
        in_flight.acknowledged(1, at(14));
        assert_eq!(stuck(&in_flight, 15), Some(1));
        in_flight.acknowledged(3, at(16));
        assert_eq!(stuck(&in_flight, 60), None, "nothing is awaited");
    }
}
