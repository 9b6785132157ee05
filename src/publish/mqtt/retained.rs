//! The retained messages that the broker should hold.

use std::collections::BTreeMap;

/// The newest message of a topic.
#[derive(Debug)]
struct RetainedMessage {
    payload: Vec<u8>,
    version: u64,
    delivery: Delivery,
}

#[derive(Debug, PartialEq, Eq)]
enum Delivery {
    Due,
    InFlight,
    Delivered,
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
        self.topics.insert(
            topic,
            RetainedMessage {
                payload,
                version: self.versions,
                delivery: Delivery::Due,
            },
        );
    }

    /// Makes every message due again.
    pub(super) fn renew(&mut self) {
        self.topics
            .values_mut()
            .for_each(|m| m.delivery = Delivery::Due);
    }

    /// Topic, version and payload of a message that is due; topics for which `first` holds go before the others.
    pub(super) fn next(&self, first: impl Fn(&str) -> bool) -> Option<(&str, u64, &[u8])> {
        let due = || {
            self.topics
                .iter()
                .filter(|(_, m)| m.delivery == Delivery::Due)
        };
        let (topic, message) = due()
            .find(|(topic, _)| first(topic))
            .or_else(|| due().next())?;
        Some((topic, message.version, &message.payload))
    }

    /// Notes that the MQTT client has taken a topic's message.
    pub(super) fn handed_over(&mut self, topic: &str) {
        if let Some(message) = self.topics.get_mut(topic) {
            message.delivery = Delivery::InFlight;
        }
    }

    /// Notes that the broker has this version. A newer one stays due.
    pub(super) fn acknowledged(&mut self, topic: &str, version: u64) {
        if let Some(message) = self.topics.get_mut(topic).filter(|m| m.version == version) {
            message.delivery = Delivery::Delivered;
        }
    }

    /// How many messages the broker does not have yet.
    pub(super) fn waiting(&self) -> usize {
        self.topics
            .values()
            .filter(|m| m.delivery != Delivery::Delivered)
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
}
