//! The thread that does the queue's work on disk, paces the backlog, and publishes how the queue is.

use super::Storage;
use super::state::{Shared, State};
use crate::publish::queue::{Done, Dropped, Keeper};
use crate::publish::sparkplug::Report as NodeReport;
use serde::Serialize;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How often the queue's condition is published at most.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Fewer events than this come and go while all is well.
const WORTH_TELLING: u64 = 100;

/// What is published of the queue, `docs/queue.schema.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Report<'a> {
    schema: u32,
    device: &'a str,
    storage: &'static str,
    fault: Option<String>,
    waiting: u64,
    waiting_bytes: u64,
    dropped: Dropped,
}

/// Runs until the publisher is over.
pub(super) fn run(shared: &Shared, mut keeper: Option<Keeper>) {
    let mut reporter = Reporter::default();
    let mut state = shared.lock();
    while !state.is_over() {
        let now = Instant::now();
        state.pump(now);
        state.listen_again(now);
        reporter.report(shared, &mut state, now);
        let (reading, flush) = (state.client.is_some(), state.is_closing());
        let work = state.queue.work(shared.stamp(), now, reading, flush);
        if let Some((work, keeper)) = work.zip(keeper.as_mut()) {
            drop(state);
            let done = keeper.carry_out(work, now);
            state = shared.lock();
            let inherits = matches!(&done, Done::Opened(..));
            let now = Instant::now();
            state.queue.done(done, now);
            if inherits && !state.queue.is_empty() {
                state.inherits(now);
            }
            shared.changed.notify_all();
            continue;
        }
        let next = [
            state.queue.work_at(now),
            state.pump_at(),
            state.listen_at(),
            reporter.at,
        ]
        .into_iter()
        .flatten()
        .min();
        let wait = next.map_or(Duration::from_secs(3600), |at| {
            at.saturating_duration_since(now)
        });
        state = shared
            .work
            .wait_timeout(state, wait)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// Publishes the queue's condition when it changes, not too often.
#[derive(Default)]
struct Reporter {
    /// Storage, fault, drops and what waits, as last published.
    last: Option<(String, u64, u64)>,
    /// Not before.
    at: Option<Instant>,
}

impl Reporter {
    fn report(&mut self, shared: &Shared, state: &mut State, now: Instant) {
        if *state.queue.storage() == Storage::Opening {
            return;
        }
        let waiting = state.queue.len();
        let told = if waiting < WORTH_TELLING { 0 } else { waiting };
        let (storage, fault) = match state.queue.storage() {
            Storage::Memory | Storage::Opening => ("memory", None),
            Storage::Disk => ("disk", None),
            Storage::Away(reason) => ("memory", Some(reason.clone())),
        };
        let dropped = state.queue.dropped();
        let condition = Some((format!("{storage} {fault:?}"), dropped.total(), told));
        if condition == self.last {
            self.at = None;
            return;
        }
        // The first, and what tells of trouble, at once.
        let urgent = self.last.as_ref().map(|l| &l.0) != condition.as_ref().map(|c| &c.0);
        let at = *self.at.get_or_insert(now + REPORT_EVERY);
        if !urgent && at > now {
            return;
        }
        (self.last, self.at) = (condition, None);
        if let Some(node) = &mut state.node {
            node.sparkplug.report(NodeReport {
                storage,
                waiting,
                dropped: dropped.total(),
            });
            return state.pump(now);
        }
        let waiting_bytes = state.queue.disk_bytes();
        let device = &shared.device;
        let report = Report {
            schema: 1,
            device,
            storage,
            fault,
            waiting,
            waiting_bytes,
            dropped,
        };
        if let Ok(payload) = serde_json::to_vec(&report) {
            state
                .retained
                .put(format!("{}/queue", shared.base_topic), payload);
            state.pump(now);
        }
    }
}
