//! Closing: the last message, and what stays behind.

use super::{Phase, State, Undelivered};
use crate::publish::queue::Storage;
use std::time::Instant;

impl State {
    pub(in crate::publish::mqtt) fn begin_closing(&mut self) {
        self.phase = Phase::Closing;
    }

    pub(in crate::publish::mqtt) fn is_closing(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Whether everything else was sent, or need not be: events on disk can wait while there is no connection.
    pub(in crate::publish::mqtt) fn may_send_last_message(&self) -> bool {
        let sent =
            self.queue.is_empty() && self.retained.waiting() == 0 && self.transient.is_empty();
        sent || (self.client.is_none()
            && self.queue_is_safe()
            && *self.queue.storage() == Storage::Disk)
    }

    /// Sends the last message: `payload` to the retained topic `status`, or the Sparkplug node's death.
    pub(in crate::publish::mqtt) fn send_last_message(
        &mut self,
        status: String,
        payload: &str,
        now: Instant,
    ) {
        match &mut self.node {
            Some(node) => node.leave(),
            None => self.retained.put(status, payload.into()),
        }
        self.pump(now);
    }

    /// Whether the broker has the last message. A node's death is not sent without a connection, whose will it is.
    pub(in crate::publish::mqtt) fn last_message_delivered(&self) -> bool {
        match &self.node {
            Some(node) => node.death_delivered() || self.client.is_none(),
            None => self.retained.waiting() == 0,
        }
    }

    /// Whether every event that can be kept is on disk.
    pub(in crate::publish::mqtt) fn queue_is_safe(&self) -> bool {
        *self.queue.storage() != Storage::Disk || self.queue.is_written()
    }

    pub(in crate::publish::mqtt) fn undelivered(&self) -> Undelivered {
        let on_disk = *self.queue.storage() == Storage::Disk && self.queue.unsynced() == 0;
        Undelivered {
            messages: self.queue.len() + self.retained.waiting() as u64,
            on_disk,
        }
    }

    /// Disconnects, and makes the threads end.
    pub(in crate::publish::mqtt) fn end(&mut self) {
        self.phase = Phase::Over;
        if let Some(client) = &self.client {
            let _ = client.try_disconnect();
        }
    }

    pub(in crate::publish::mqtt) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }
}
