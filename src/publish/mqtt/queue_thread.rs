//! The thread that carries out the queue's disk operations, paces the backlog, and reports the queue's state.

use super::queue_report::Reporter;
use super::shared::{self, Shared};
use crate::publish::queue::{DiskWorker, WorkOutcome};
use std::time::{Duration, Instant};

/// How long the thread sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Runs until the publisher is closed.
pub(super) fn run(shared: &Shared, mut worker: Option<DiskWorker>) {
    let mut reporter = Reporter::default();
    let mut state = shared.lock();
    while !state.is_over() {
        let now = Instant::now();
        state.pump(now);
        state.subscriptions_due(now);
        reporter.report(shared, &mut state, now);
        let (reading, flush) = (state.is_connected(), state.is_closing());
        let work = state.queue.work(shared.stamp(), now, reading, flush);
        if let Some((work, worker)) = work.zip(worker.as_mut()) {
            drop(state);
            let outcome = worker.carry_out(work, now);
            state = shared.lock();
            let inherits =
                matches!(&outcome, WorkOutcome::Opened(opened) if opened.brings_events());
            let now = Instant::now();
            state.queue.done(outcome, now);
            if inherits {
                state.inherited(now);
            }
            shared.changed.notify_all();
            continue;
        }
        let next = [
            state.queue.work_at(now),
            state.pump_at(),
            state.subscriptions_due_at(),
            reporter.due_at(),
        ]
        .into_iter()
        .flatten()
        .min();
        let limit = next.map_or(IDLE, |at| at.saturating_duration_since(now));
        state = shared::wait(&shared.work, state, limit);
    }
}
