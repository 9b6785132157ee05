//! The state that all threads share, behind its lock.

use super::state::State;
use crate::config::Settings;
use crate::publish::queue::{Boot, Record, Stamp};
use crate::publish::topics::Topics;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) type Guard<'a> = MutexGuard<'a, State>;

pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes whoever closes the publisher, and whoever waits to reconnect.
    pub(super) changed: Condvar,
    /// Wakes the queue's thread: there may be work for it.
    pub(super) work: Condvar,
    pub(super) broker: String,
    pub(super) device: String,
    pub(super) topics: Topics,
    boot: Boot,
}

impl Shared {
    pub(super) fn new(state: State, broker: String, settings: &Settings) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            work: Condvar::new(),
            broker,
            device: settings.device.clone(),
            topics: Topics::new(settings),
            boot: Boot::read(),
        }
    }

    pub(super) fn lock(&self) -> Guard<'_> {
        // The state is consistent between any two statements that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake_all(&self) {
        self.changed.notify_all();
        self.work.notify_all();
    }

    /// The present time, as the queue records it.
    pub(super) fn stamp(&self) -> Stamp {
        self.boot.now()
    }

    /// Queues an event, and sends it if it may be sent now.
    pub(super) fn push(&self, topic: String, payload: Vec<u8>) {
        let queued = self.stamp();
        let now = Instant::now();
        let mut state = self.lock();
        state.push(
            Record {
                topic,
                payload,
                queued,
            },
            now,
        );
        // The first event of a batch sets its time, the last makes it due.
        if state.queue.unsynced() == 1 || state.queue.work_at(now).is_some_and(|at| at <= now) {
            self.work.notify_one();
        }
    }

    /// Waits until `done` or the deadline.
    pub(super) fn wait_until(
        &self,
        mut state: Guard<'_>,
        deadline: Instant,
        done: impl Fn(&State) -> bool,
    ) {
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = wait(&self.changed, state, left);
        }
    }
}

/// Waits for `condition`, for at most `limit`.
pub(super) fn wait<'s>(condition: &Condvar, state: Guard<'s>, limit: Duration) -> Guard<'s> {
    condition
        .wait_timeout(state, limit)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}
