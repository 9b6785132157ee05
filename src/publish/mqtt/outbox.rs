//! What is under way to the broker, and the retained messages it should be keeping.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// What a packet carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parcel {
    /// The queue's event of this id.
    Event(i64),
    /// A retained topic's message in this version.
    Retained(String, u64),
    /// What is sent once and not again: an answer, a picture, a birth.
    Once,
    /// The last word on a connection.
    Farewell,
}

/// What was handed to the client and is not acknowledged by the broker yet.
#[derive(Debug)]
pub(super) struct UnderWay<T> {
    /// The client has not given them a packet number yet; in order.
    unnumbered: VecDeque<T>,
    by_packet: HashMap<u16, T>,
    /// They left with QoS 0, of which the broker acknowledges nothing.
    unanswered: VecDeque<T>,
    /// A packet that the broker does answer, and how many of the unanswered had left before it.
    fence: Option<(u16, usize)>,
}

impl<T> Default for UnderWay<T> {
    fn default() -> Self {
        Self {
            unnumbered: VecDeque::new(),
            by_packet: HashMap::new(),
            unanswered: VecDeque::new(),
            fence: None,
        }
    }
}

impl<T> UnderWay<T> {
    pub(super) fn handed_over(&mut self, what: T) {
        self.unnumbered.push_back(what);
    }

    /// The oldest without a number left under this one; 0 is that of QoS 0.
    pub(super) fn sent(&mut self, packet: u16) {
        match self.unnumbered.pop_front() {
            Some(what) if packet == 0 => self.unanswered.push_back(what),
            Some(what) => _ = self.by_packet.insert(packet, what),
            None => {}
        }
    }

    /// A packet left that the broker will answer, as it takes one after the other: then it has all that left before.
    pub(super) fn fenced(&mut self, packet: u16) {
        self.fence = Some((packet, self.unanswered.len()));
    }

    /// What the broker is known to have once it has answered this packet.
    pub(super) fn answered(&mut self, packet: u16) -> Vec<T> {
        match self.fence.take_if(|(fence, _)| *fence == packet) {
            Some((_, count)) => self.unanswered.drain(..count).collect(),
            None => Vec::new(),
        }
    }

    /// Whether anything left, or is about to, that nothing acknowledges yet.
    pub(super) fn wants_fence(&self) -> bool {
        self.fence.is_none() && !(self.unanswered.is_empty() && self.unnumbered.is_empty())
    }

    pub(super) fn acknowledged(&mut self, packet: u16) -> Option<T> {
        self.by_packet.remove(&packet)
    }

    pub(super) fn len(&self) -> usize {
        self.unnumbered.len() + self.by_packet.len() + self.unanswered.len()
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
        self.topics.insert(
            topic,
            Kept {
                payload,
                version: self.versions,
                state: KeptState::Due,
            },
        );
    }

    /// Everything is due again.
    pub(super) fn renew(&mut self) {
        self.topics
            .values_mut()
            .for_each(|k| k.state = KeptState::Due);
    }

    /// What is due: the topics that `first` holds for before the others.
    pub(super) fn next(&self, first: impl Fn(&str) -> bool) -> Option<(&str, u64, &[u8])> {
        let due = || {
            self.topics
                .iter()
                .filter(|(_, k)| k.state == KeptState::Due)
        };
        let (topic, kept) = due()
            .find(|(topic, _)| first(topic))
            .or_else(|| due().next())?;
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
        self.topics
            .values()
            .filter(|k| k.state != KeptState::Delivered)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(retained: &Retained) -> Option<(String, Vec<u8>)> {
        retained
            .next(|t| t == "status")
            .map(|(topic, _, payload)| (topic.to_owned(), payload.to_vec()))
    }

    #[test]
    fn only_the_newest_of_a_topic_counts_and_an_older_acknowledgement_does_not_settle_it() {
        let mut retained = Retained::default();
        retained.put("belt".into(), b"old".into());
        retained.put("status".into(), b"online".into());
        assert_eq!(
            due(&retained),
            Some(("status".into(), b"online".into())),
            "the status goes first"
        );
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
    fn what_nobody_acknowledges_is_known_by_what_left_after_it() {
        let mut under_way = UnderWay::default();
        assert!(!under_way.wants_fence());
        (0..3).for_each(|id| under_way.handed_over(id));
        assert!(under_way.wants_fence());
        under_way.sent(0);
        under_way.sent(0);
        under_way.fenced(7);
        under_way.sent(0);
        assert!(!under_way.wants_fence(), "one at a time");
        assert_eq!(under_way.answered(8), Vec::<i32>::new());
        assert_eq!(under_way.answered(7), [0, 1]);
        assert_eq!(under_way.len(), 1);
        assert!(under_way.wants_fence());
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
