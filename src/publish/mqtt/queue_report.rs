//! Publishes the queue's state when it changes, but not too often.

use super::shared::Shared;
use super::state::State;
use crate::publish::queue::{Dropped, Storage};
use crate::publish::sparkplug::QueueReport;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Minimum time between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Below this, changes of the number of waiting events are not reported, except that none waits any more: a few always come
/// and go.
const MIN_WAITING: u64 = 100;

/// The message on `…/queue`; `docs/queue.schema.json` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct QueueStatus<'a> {
    schema: u32,
    device: &'a str,
    storage: &'static str,
    fault: Option<String>,
    waiting: u64,
    waiting_bytes: u64,
    dropped: AllDropped,
}

/// Events dropped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct AllDropped {
    #[serde(flatten)]
    by_queue: Dropped,
    /// Too large for the broker, since the start.
    oversized: u64,
}

/// Changes of this are worth a report.
#[derive(Clone, PartialEq, Eq)]
struct Condition {
    storage: &'static str,
    fault: Option<String>,
    dropped: u64,
    /// Events waiting; as reported last, while there are few.
    waiting: u64,
}

#[derive(Default)]
pub(super) struct Reporter {
    last: Option<Condition>,
    /// When a change that is pending is due.
    due_at: Option<Instant>,
}

impl Reporter {
    /// When the next report is due.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// Publishes a report if one is due.
    pub(super) fn report(&mut self, shared: &Shared, state: &mut State, now: Instant) {
        if *state.queue.storage() == Storage::Opening {
            return;
        }
        let last = self.last.as_ref();
        let condition = condition(state, last);
        if last == Some(&condition) {
            self.due_at = None;
            return;
        }
        // The first report, and changes of storage or fault, do not wait.
        let urgent =
            last.is_none_or(|l| (l.storage, &l.fault) != (condition.storage, &condition.fault));
        let due_at = *self.due_at.get_or_insert(now + REPORT_EVERY);
        if !urgent && due_at > now {
            return;
        }
        publish(shared, state, &condition, now);
        let reported = Condition {
            waiting: state.queue.len(),
            ..condition
        };
        (self.last, self.due_at) = (Some(reported), None);
    }
}

fn condition(state: &State, last: Option<&Condition>) -> Condition {
    let (storage, fault) = match state.queue.storage() {
        Storage::Memory | Storage::Opening => ("memory", None),
        Storage::Disk => ("disk", None),
        Storage::Unavailable(reason) => ("memory", Some(reason.clone())),
    };
    let waiting = state.queue.len();
    Condition {
        storage,
        fault,
        dropped: state.dropped(),
        waiting: match (waiting, last) {
            (1..MIN_WAITING, Some(last)) => last.waiting,
            _ => waiting,
        },
    }
}

fn publish(shared: &Shared, state: &mut State, condition: &Condition, now: Instant) {
    let waiting = state.queue.len();
    let all_dropped = state.dropped();
    if let Some(node) = &mut state.node {
        node.edge.set_queue(QueueReport {
            storage: condition.storage,
            waiting,
            dropped: all_dropped,
        });
        return state.pump(now);
    }
    let status = QueueStatus {
        schema: 1,
        device: &shared.device,
        storage: condition.storage,
        fault: condition.fault.clone(),
        waiting,
        waiting_bytes: state.queue.disk_bytes(),
        dropped: AllDropped {
            by_queue: state.queue.dropped(),
            oversized: state.oversized(),
        },
    };
    if let Ok(payload) = serde_json::to_vec(&status) {
        state.retained.put(shared.topics.queue(), payload);
        state.pump(now);
    }
}
