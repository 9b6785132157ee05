//! What is under way to the broker, and the retained messages it should be keeping.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// What a packet carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parcel {
    /// The queue's event of this id.
    Event(i64),
    /// A retained topic's message in this version.
    Retained(String, u64),
    /// What is sent once and not again: an answer, a picture.
    Once,
}

/// What was handed to the client and is not acknowledged by the broker yet.
#[derive(Debug)]
pub(super) struct UnderWay<T> {
    /// The client has not given them a packet number yet; in order.
    unnumbered: VecDeque<T>,
    by_packet: HashMap<u16, T>,
}

impl<T> Default for UnderWay<T> {
    fn default() -> Self {
        Self { unnumbered: VecDeque::new(), by_packet: HashMap::new() }
    }
}

impl<T> UnderWay<T> {
    pub(super) fn handed_over(&mut self, what: T) {
        self.unnumbered.push_back(what);
    }

    /// The oldest without a number left under this one.
    pub(super) fn sent(&mut self, packet: u16) {
        if let Some(what) = self.unnumbered.pop_front() {
            self.by_packet.insert(packet, what);
        }
    }

    pub(super) fn acknowledged(&mut self, packet: u16) -> Option<T> {
        self.by_packet.remove(&packet)
    }

    pub(super) fn len(&self) -> usize {
        self.unnumbered.len() + self.by_packet.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[derive(Debug)]
struct Kept {
    payload: Vec<u8>,
    version: u64,
    state: KeptState,
}

#[derive(Debug, PartialEq, Eq)]
enum KeptState {
    Due,
    UnderWay,
    Delivered,
}

/// The newest message of each retained topic. A broker that was restarted may have forgotten them, so they are sent
/// again with every connection.
#[derive(Debug, Default)]
pub(super) struct Retained {
    topics: BTreeMap<String, Kept>,
    versions: u64,
}

impl Retained {
    /// Replaces a topic's message.
    pub(super) fn put(&mut self, topic: String, payload: Vec<u8>) {
        self.versions += 1;
        self.topics.insert(topic, Kept { payload, version: self.versions, state: KeptState::Due });
    }

    /// Everything is due again.
    pub(super) fn renew(&mut self) {
        self.topics.values_mut().for_each(|k| k.state = KeptState::Due);
    }

    /// What is due: the topics that `first` holds for before the others.
    pub(super) fn next(&self, first: impl Fn(&str) -> bool) -> Option<(&str, u64, &[u8])> {
        let due = || self.topics.iter().filter(|(_, k)| k.state == KeptState::Due);
        let (topic, kept) = due().find(|(topic, _)| first(topic)).or_else(|| due().next())?;
        Some((topic, kept.version, &kept.payload))
    }

    pub(super) fn handed_over(&mut self, topic: &str) {
        if let Some(kept) = self.topics.get_mut(topic) {
            kept.state = KeptState::UnderWay;
        }
    }

    /// A newer message of the topic stays due.
    pub(super) fn acknowledged(&mut self, topic: &str, version: u64) {
        if let Some(kept) = self.topics.get_mut(topic).filter(|k| k.version == version) {
            kept.state = KeptState::Delivered;
        }
    }

    /// Messages that the broker does not have yet.
    pub(super) fn waiting(&self) -> usize {
        self.topics.values().filter(|k| k.state != KeptState::Delivered).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(retained: &Retained) -> Option<(String, Vec<u8>)> {
        retained.next(|t| t == "status").map(|(topic, _, payload)| (topic.to_owned(), payload.to_vec()))
    }

    #[test]
    fn only_the_newest_of_a_topic_counts_and_an_older_acknowledgement_does_not_settle_it() {
        let mut retained = Retained::default();
        retained.put("belt".into(), b"old".into());
        retained.put("status".into(), b"online".into());
        assert_eq!(due(&retained), Some(("status".into(), b"online".into())), "the status goes first");
        retained.handed_over("status");
        let version = retained.next(|_| false).map(|(_, version, _)| version);
        retained.handed_over("belt");
        assert_eq!(due(&retained), None);
        retained.put("belt".into(), b"new".into());
        retained.acknowledged("belt", version.unwrap_or_default());
        assert_eq!(due(&retained), Some(("belt".into(), b"new".into())));
        assert_eq!(retained.waiting(), 2);
        retained.renew();
        assert_eq!(retained.waiting(), 2);
    }

    #[test]
    fn packets_are_numbered_in_the_order_they_were_handed_over() {
        let mut under_way = UnderWay::default();
        (0..3).for_each(|id| under_way.handed_over(Parcel::Event(id)));
        under_way.sent(7);
        under_way.sent(9);
        assert_eq!(under_way.acknowledged(9), Some(Parcel::Event(1)));
        assert_eq!(under_way.acknowledged(9), None);
        assert_eq!(under_way.len(), 2);
    }
}
