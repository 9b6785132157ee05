//! Messages that the broker has not acknowledged, in order, bounded.

use std::collections::{HashMap, VecDeque};

/// What is to be published, with QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    /// The broker keeps it; only the newest of a topic matters.
    pub retain: bool,
}

/// A message in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub message: Message,
    handed_over: bool,
}

/// A bounded queue of messages. A message leaves when the broker has acknowledged it; after a lost
/// connection everything unacknowledged is due again, in the old order.
#[derive(Debug)]
pub struct Queue {
    entries: VecDeque<Entry>,
    capacity: usize,
    next_id: u64,
    /// Ids handed to the client that have no packet number yet, in order. `None` is not from the queue.
    unnumbered: VecDeque<Option<u64>>,
    by_packet: HashMap<u16, u64>,
    lost: u64,
}

impl Queue {
    /// Keeps at most `capacity` messages.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            capacity: capacity.max(1),
            next_id: 0,
            unnumbered: VecDeque::new(),
            by_packet: HashMap::new(),
            lost: 0,
        }
    }

    /// Adds a message. A retained one replaces an older one of its topic that still waits; where the
    /// queue is full, the oldest message goes.
    pub fn push(&mut self, message: Message) {
        if message.retain {
            self.entries.retain(|e| e.handed_over || !e.message.retain || e.message.topic != message.topic);
        }
        if self.entries.len() == self.capacity {
            self.entries.pop_front();
            self.lost += 1;
        }
        self.entries.push_back(Entry { id: self.next_id, message, handed_over: false });
        self.next_id += 1;
    }

    /// The oldest message that the client does not have yet, if fewer than `window` are under way.
    #[must_use]
    pub fn next_due(&self, window: usize) -> Option<&Entry> {
        if self.unnumbered.len() + self.by_packet.len() >= window {
            return None;
        }
        self.entries.iter().find(|e| !e.handed_over)
    }

    /// Notes that the client took the message with this id, or one that is not from the queue.
    pub fn handed_over(&mut self, id: Option<u64>) {
        self.unnumbered.push_back(id);
        if let Some(entry) = self.entries.iter_mut().find(|e| Some(e.id) == id) {
            entry.handed_over = true;
        }
    }

    /// Notes that the oldest message that the client took left under a packet number.
    pub fn sent(&mut self, packet: u16) {
        if let Some(Some(id)) = self.unnumbered.pop_front() {
            self.by_packet.insert(packet, id);
        }
    }

    /// Notes the broker's acknowledgement of a packet.
    pub fn acknowledged(&mut self, packet: u16) {
        if let Some(id) = self.by_packet.remove(&packet) {
            // Near the front: only what is under way can be acknowledged.
            if let Some(at) = self.entries.iter().position(|e| e.id == id) {
                self.entries.remove(at);
            }
        }
    }

    /// Notes that the connection is lost: everything is due again.
    pub fn disconnected(&mut self) {
        self.unnumbered.clear();
        self.by_packet.clear();
        self.entries.iter_mut().for_each(|e| e.handed_over = false);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Messages dropped for want of room since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(n: u64) -> Message {
        Message { topic: "t/event".into(), payload: n.to_be_bytes().into(), retain: false }
    }

    #[test]
    fn the_oldest_goes_first_when_full() {
        let mut queue = Queue::new(3);
        (0..5).for_each(|n| queue.push(event(n)));
        assert_eq!((queue.len(), queue.lost()), (3, 2));
        assert_eq!(queue.next_due(8).map(|e| e.message.clone()), Some(event(2)));
    }

    #[test]
    fn a_newer_state_replaces_one_that_waits() {
        let state = |p: &[u8]| Message { topic: "t/state".into(), payload: p.into(), retain: true };
        let mut queue = Queue::new(10);
        queue.push(state(b"old"));
        queue.push(event(1));
        queue.push(state(b"new"));
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.entries.back().map(|e| e.message.clone()), Some(state(b"new")));
    }

    /// What may happen to a queue.
    #[derive(Debug, Clone)]
    enum Step {
        Push,
        HandOver,
        Acknowledge,
        Disconnect,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Push),
            4 => Just(Step::HandOver),
            3 => Just(Step::Acknowledge),
            1 => Just(Step::Disconnect),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        /// Against a broker that remembers what it acknowledged: everything arrives in order, apart from repetitions.
        #[test]
        fn nothing_is_lost_and_order_holds(steps in steps()) {
            let mut queue = Queue::new(1000);
            let mut pushed = 0u64;
            let mut packet = 0u16;
            let mut under_way: VecDeque<(u16, Message)> = VecDeque::new();
            let mut arrived: Vec<Message> = Vec::new();
            let finish = std::iter::repeat_n([Step::HandOver, Step::Acknowledge], 300).flatten();
            for step in steps.into_iter().chain(finish) {
                match step {
                    Step::Push => { queue.push(event(pushed)); pushed += 1; }
                    Step::HandOver => if let Some(entry) = queue.next_due(5).cloned() {
                        queue.handed_over(Some(entry.id));
                        packet += 1;
                        queue.sent(packet);
                        if !arrived.contains(&entry.message) {
                            arrived.push(entry.message.clone());
                        }
                        under_way.push_back((packet, entry.message));
                    },
                    Step::Acknowledge => if let Some((packet, _)) = under_way.pop_front() {
                        queue.acknowledged(packet);
                    },
                    Step::Disconnect => { queue.disconnected(); under_way.clear(); }
                }
            }
            prop_assert!(queue.is_empty());
            prop_assert_eq!(arrived, (0..pushed).map(event).collect::<Vec<_>>());
        }
    }
}
