//! Sparkplug's side of a connection.
//!
//! Its messages have QoS 0, so the broker acknowledges none of them. What it must answer is an UNSUBSCRIBE, even from
//! what nobody has subscribed to (MQTT 3.1.1, 3.10.4), and it takes one packet after the other: once it has answered,
//! it has everything that left before. Until then events stay in the queue.

use super::WINDOW;
use super::outbox::Parcel;
use super::state::State;
use crate::clock;
use crate::publish::sparkplug::{Address, Sparkplug};
use rumqttc::QoS;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long events may wait to be known as arrived, where that holds up none.
const FENCE_EVERY: Duration = Duration::from_secs(1);

/// Milliseconds since the Unix epoch, UTC.
pub(super) fn now_ms() -> u64 {
    u64::try_from(clock::now().unix_ns / 1_000_000).unwrap_or(0)
}

/// Whether the broker is asked to confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fence {
    None,
    At(Instant),
    Asked,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) sparkplug: Sparkplug,
    fence: Fence,
    /// Events before this one are older than the connection.
    present_from: i64,
    leaves: bool,
    has_left: bool,
}

impl Node {
    pub(super) fn new(address: Address, cameras: impl IntoIterator<Item = String>) -> Self {
        let sparkplug = Sparkplug::new(address, cameras);
        Self {
            sparkplug,
            fence: Fence::None,
            present_from: 0,
            leaves: false,
            has_left: false,
        }
    }

    /// A connection is made; `asked`: commands are about to be heard.
    pub(super) fn connected(&mut self, bd_seq: u8, next_event: i64, asked: bool) {
        self.sparkplug.connected(bd_seq);
        if !asked {
            self.sparkplug.subscribed();
        }
        (self.fence, self.present_from, self.has_left) = (Fence::None, next_event, false);
    }

    /// Whether events may be told.
    pub(super) fn tells(&self) -> bool {
        self.sparkplug.is_born() && !self.leaves
    }

    /// The last word is to be said.
    pub(super) fn leave(&mut self) {
        self.leaves = true;
    }

    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    pub(super) fn left(&mut self) {
        self.has_left = true;
    }

    /// When the broker is to be asked.
    pub(super) fn fence_at(&self) -> Option<Instant> {
        if let Fence::At(at) = self.fence {
            Some(at)
        } else {
            None
        }
    }
}

impl State {
    /// Says one message, if one is due and the client takes it.
    pub(super) fn say_next(&mut self, now: Instant) -> bool {
        let waits = self
            .queue
            .next_of_backlog()
            .or_else(|| self.queue.next_live())
            .is_some();
        let Some(node) = &self.node else { return false };
        let now_ms = now_ms();
        let due = node.sparkplug.due(waits, now_ms);
        let due = due.or_else(|| {
            if node.leaves {
                node.sparkplug.farewell(now_ms)
            } else {
                None
            }
        });
        if let Some(message) = due {
            let farewell = message.acknowledged;
            return self.say(
                message,
                if farewell {
                    Parcel::Farewell
                } else {
                    Parcel::Once
                },
            );
        }
        if !node.tells() {
            return false;
        }
        let Some((id, record, of_backlog)) = self.next_event(now) else {
            return false;
        };
        let Some(node) = &self.node else { return false };
        let Some(message) = node
            .sparkplug
            .event(&record.payload, id < node.present_from, now_ms)
        else {
            log::warn!(
                "the event waiting for {} is none that can be said in Sparkplug; it is left out",
                record.topic
            );
            self.queue.acknowledged(id, now);
            return true;
        };
        let is_event = message.is_event();
        let taken = self.say(
            message,
            if is_event {
                Parcel::Event(id)
            } else {
                Parcel::Once
            },
        );
        if taken && is_event {
            self.event_left(id, of_backlog);
        }
        taken
    }

    fn say(&mut self, message: crate::publish::sparkplug::Message, parcel: Parcel) -> bool {
        let (Some(client), Some(node)) = (&self.client, &mut self.node) else {
            return false;
        };
        let qos = if message.acknowledged {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        };
        let taken = client
            .try_publish(&message.topic, qos, false, message.payload.as_slice())
            .is_ok();
        if taken {
            node.sparkplug.said(message);
            self.under_way.handed_over(parcel);
        }
        taken
    }

    /// Asks the broker to confirm what left, if it is time.
    pub(super) fn fence(&mut self, now: Instant) {
        let (Some(client), Some(node)) = (&self.client, &mut self.node) else {
            return;
        };
        if node.fence == Fence::None && self.under_way.wants_fence() {
            node.fence = Fence::At(now + FENCE_EVERY);
        }
        let pressing = self.under_way.len() >= WINDOW / 2 || self.close_by.is_some();
        if node.fence_at().is_some_and(|at| at <= now || pressing) {
            let nothing = format!("{}/fence", node.sparkplug.address.commands());
            if client.try_unsubscribe(nothing).is_ok() {
                node.fence = Fence::Asked;
            }
        }
    }

    /// The broker has answered a subscription.
    pub(super) fn subscribed(&mut self, packet: u16, refused: bool, broker: &str, now: Instant) {
        self.subscriptions.subscribed(packet, refused, broker);
        if let Some(node) = &mut self.node {
            node.sparkplug.subscribed();
            self.pump(now);
        }
    }

    /// The broker has answered a fence.
    pub(super) fn answered(&mut self, packet: u16, now: Instant) {
        if let Some(node) = &mut self.node {
            node.fence = Fence::None;
        }
        for parcel in self.under_way.answered(packet) {
            self.settle(parcel, now);
        }
        self.pump(now);
    }
}

/// The numbers of connections, `bdSeq`: from 0, by one with each, over restarts, too, where there is a folder.
#[derive(Debug)]
pub(super) struct Sessions {
    file: Option<PathBuf>,
    next: u8,
}

impl Sessions {
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let last = file
            .as_ref()
            .and_then(|f| std::fs::read_to_string(f).ok())
            .and_then(|t| t.trim().parse::<u8>().ok());
        Self {
            file,
            next: last.map_or(0, |n| n.wrapping_add(1)),
        }
    }

    /// That of the next connection.
    pub(super) fn number(&self) -> u8 {
        self.next
    }

    /// The broker may know of a connection with the present number.
    pub(super) fn used(&mut self) {
        if let Some(file) = &self.file {
            let new = file.with_extension("new");
            let written = std::fs::write(&new, self.next.to_string())
                .and_then(|()| std::fs::rename(&new, file));
            if let Err(e) = written {
                log::debug!("{}: {e}; after a restart bdSeq begins at 0", file.display());
            }
        }
        self.next = self.next.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_numbered_over_restarts_and_255_is_followed_by_0() {
        let folder = tempfile::tempdir().expect("folder");
        let file = || Some(folder.path().join("bdseq"));
        let mut sessions = Sessions::open(file());
        assert_eq!(sessions.number(), 0);
        assert_eq!(
            sessions.number(),
            0,
            "an attempt that reaches nobody takes no number"
        );
        (0..255).for_each(|_| sessions.used());
        assert_eq!(Sessions::open(file()).number(), 255);
        let mut sessions = Sessions::open(file());
        sessions.used();
        assert_eq!(sessions.number(), 0);
        assert_eq!(Sessions::open(file()).number(), 0);
        std::fs::write(folder.path().join("bdseq"), "noise").expect("written");
        assert_eq!(Sessions::open(file()).number(), 0);
    }
}
