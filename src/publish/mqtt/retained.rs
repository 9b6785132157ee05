//! The retained messages that the broker should hold, and those that it should hold no longer.

use std::collections::BTreeMap;

/// The newest message of a topic.
#[derive(Debug)]
struct RetainedMessage {
    /// Empty if the topic is to be deleted (MQTT 3.1.1, 3.3.1.3).
    payload: Vec<u8>,
    version: u64,
    delivery: Delivery,
    /// Connections that ended while this was in flight.
    resets: u32,
}

/// A topic's deletion is given up after this many connections that ended with it in flight: the broker's access rules may
/// close them.
const MAX_RESETS: u32 = 3;

#[derive(Debug, PartialEq, Eq)]
enum Delivery {
    Due,
    InFlight,
    Delivered,
    /// It cannot be sent.
    Refused,
}

/// The newest message of each retained topic. All are sent again on every connection, since a broker that has restarted
/// may have lost them.
#[derive(Debug, Default)]
pub(super) struct Retained {
    topics: BTreeMap<String, RetainedMessage>,
    /// Counts messages of all topics.
    versions: u64,
}

impl Retained {
    /// Replaces a topic's message.
    pub(super) fn put(&mut self, topic: String, payload: Vec<u8>) {
        self.versions += 1;
        let message = RetainedMessage {
            payload,
            version: self.versions,
            delivery: Delivery::Due,
            resets: 0,
        };
        self.topics.insert(topic, message);
    }

    /// Makes the broker forget a topic that this device publishes no longer.
    pub(super) fn delete(&mut self, topic: String) {
        if !self.topics.contains_key(&topic) {
            self.put(topic, Vec::new());
        }
    }

    /// Makes every message due again that can be sent. Returns topics whose deletion is given up.
    pub(super) fn renew(&mut self) -> Vec<String> {
        let given_up = |m: &RetainedMessage| m.payload.is_empty() && m.resets >= MAX_RESETS;
        let given_up: Vec<String> = self
            .topics
            .extract_if(.., |_, m| given_up(m))
            .map(|(topic, _)| topic)
            .collect();
        for message in self.topics.values_mut() {
            if message.delivery != Delivery::Refused {
                message.delivery = Delivery::Due;
            }
        }
        given_up
    }

    /// Notes that the connection has ended.
    pub(super) fn disconnected(&mut self) {
        for message in self.topics.values_mut() {
            if message.delivery == Delivery::InFlight {
                message.resets += 1;
            }
        }
    }

    /// Topic, version and payload of a message that is due: first those for which `first` holds, last the deletions.
    pub(super) fn next(&self, first: impl Fn(&str) -> bool) -> Option<(&str, u64, &[u8])> {
        let due = self
            .topics
            .iter()
            .filter(|(_, m)| m.delivery == Delivery::Due);
        let (topic, message) =
            due.min_by_key(|(topic, m)| (m.payload.is_empty(), !first(topic.as_str())))?;
        Some((topic, message.version, &message.payload))
    }

    /// Notes that the MQTT client has taken a topic's message.
    pub(super) fn handed_over(&mut self, topic: &str) {
        if let Some(message) = self.topics.get_mut(topic) {
            message.delivery = Delivery::InFlight;
        }
    }

    /// Notes that a topic's message cannot be sent. A newer one is another try.
    pub(super) fn refuse(&mut self, topic: &str) {
        if let Some(message) = self.topics.get_mut(topic) {
            message.delivery = Delivery::Refused;
        }
    }

    /// Notes that the broker has this version, and returns it. A newer one stays due; a topic that was deleted is
    /// forgotten.
    pub(super) fn acknowledged(&mut self, topic: &str, version: u64) -> Option<Vec<u8>> {
        let message = self.topics.get_mut(topic)?;
        if message.version != version {
            return None;
        }
        (message.delivery, message.resets) = (Delivery::Delivered, 0);
        let payload = message.payload.clone();
        if payload.is_empty() {
            self.topics.remove(topic);
        }
        Some(payload)
    }

    /// How many messages the broker does not have yet. Deletions do not count: they are remembered.
    pub(super) fn waiting(&self) -> usize {
        let waits = |m: &&RetainedMessage| {
            !m.payload.is_empty() && matches!(m.delivery, Delivery::Due | Delivery::InFlight)
        };
        self.topics.values().filter(waits).count()
    }

    /// All topics, those to be deleted too.
    pub(super) fn topics(&self) -> impl Iterator<Item = &String> {
        self.topics.keys()
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
    fn only_the_newest_message_counts_and_an_older_acknowledgement_does_not_settle_it() {
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
    fn a_deletion_goes_last_is_forgotten_when_done_and_given_up_if_it_ends_connections() {
        let mut retained = Retained::default();
        retained.put("z".into(), b"present".into());
        retained.delete("z".into());
        retained.delete("a".into());
        assert_eq!(due(&retained), Some(("z".into(), b"present".into())));
        retained.handed_over("z");
        assert_eq!(due(&retained), Some(("a".into(), Vec::new())));
        assert_eq!(retained.waiting(), 1, "a deletion does not count");
        let version = retained.next(|_| false).map(|(_, version, _)| version);
        assert!(
            retained
                .acknowledged("a", version.unwrap_or_default())
                .is_some()
        );
        assert_eq!(retained.topics().collect::<Vec<_>>(), ["z"]);
        retained.delete("a".into());
        for _ in 0..3 {
            assert_eq!(retained.renew(), [""; 0]);
            retained.handed_over("a");
            retained.disconnected();
        }
        assert_eq!(retained.renew(), ["a"]);
        assert_eq!(retained.topics().collect::<Vec<_>>(), ["z"]);
    }

    #[test]
    fn a_message_that_cannot_be_sent_holds_up_nothing() {
        let mut retained = Retained::default();
        retained.put("large".into(), b"large".into());
        retained.put("small".into(), b"small".into());
        retained.refuse("large");
        assert_eq!(due(&retained), Some(("small".into(), b"small".into())));
        assert_eq!(retained.waiting(), 1);
        retained.renew();
        assert_eq!(due(&retained), Some(("small".into(), b"small".into())));
        retained.put("large".into(), b"less".into());
        assert_eq!(due(&retained), Some(("large".into(), b"less".into())));
    }
}
