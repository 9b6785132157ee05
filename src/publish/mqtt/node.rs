//! The Sparkplug edge node's part of a connection.
//!
//! Sparkplug's messages have QoS 0, so the broker acknowledges none of them. But it must answer an UNSUBSCRIBE, even for
//! a topic that nobody has subscribed to (MQTT 3.1.1, 3.10.4), and it handles packets in order. So the answer to an
//! UNSUBSCRIBE, here called a barrier, proves that everything sent before it has arrived. Events stay in the queue until
//! then.

use crate::clock;
use crate::publish::sparkplug::{Address, EdgeNode};
use std::time::{Duration, Instant};

/// How long an event may wait for its barrier, unless others wait for room.
const BARRIER_EVERY: Duration = Duration::from_secs(1);

/// Milliseconds since the Unix epoch, UTC.
pub(super) fn now_ms() -> u64 {
    u64::try_from(clock::now().unix_ns / 1_000_000).unwrap_or(0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Barrier {
    None,
    /// To be sent at this time.
    At(Instant),
    /// Sent, and not answered yet.
    Sent,
}

/// The edge node, and what it needs to know of the connection.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) edge: EdgeNode,
    barrier: Barrier,
    /// Events before this id are older than the connection.
    live_from: i64,
    is_leaving: bool,
    death_delivered: bool,
}

impl Node {
    pub(super) fn new(address: Address, cameras: impl IntoIterator<Item = String>) -> Self {
        Self {
            edge: EdgeNode::new(address, cameras),
            barrier: Barrier::None,
            live_from: 0,
            is_leaving: false,
            death_delivered: false,
        }
    }

    /// Notes that a connection is made. `subscribing`: the subscription to commands will be confirmed.
    pub(super) fn connected(&mut self, bd_seq: u8, next_event: i64, subscribing: bool) {
        self.edge.connected(bd_seq);
        if !subscribing {
            self.edge.subscribed();
        }
        (self.barrier, self.live_from, self.death_delivered) = (Barrier::None, next_event, false);
    }

    /// Whether events may be sent.
    pub(super) fn may_send_events(&self) -> bool {
        self.edge.is_born() && !self.is_leaving
    }

    /// Whether the event with this id is older than the connection.
    pub(super) fn is_historical(&self, id: i64) -> bool {
        id < self.live_from
    }

    /// Makes the node's death the next message, and the last.
    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Notes that the broker has the node's death.
    pub(super) fn death_acknowledged(&mut self) {
        self.death_delivered = true;
    }

    pub(super) fn death_delivered(&self) -> bool {
        self.death_delivered
    }

    /// When the next barrier is to be sent.
    pub(super) fn barrier_at(&self) -> Option<Instant> {
        if let Barrier::At(at) = self.barrier {
            Some(at)
        } else {
            None
        }
    }

    /// Schedules a barrier, unless there is one.
    pub(super) fn schedule_barrier(&mut self, now: Instant) {
        if self.barrier == Barrier::None {
            self.barrier = Barrier::At(now + BARRIER_EVERY);
        }
    }

    pub(super) fn barrier_sent(&mut self) {
        self.barrier = Barrier::Sent;
    }

    pub(super) fn barrier_answered(&mut self) {
        self.barrier = Barrier::None;
    }
}
