//! Events that the broker has not acknowledged: in order, bounded, and on disk where a folder is configured.
//!
//! New events are in memory. Those that are still unacknowledged when a batch is due are also written to the [`store`],
//! so nothing is written while the broker acknowledges promptly. A backlog is on disk, and only its front is read ahead.
//! [`EventQueue`] does the bookkeeping and hands out disk operations as [`Work`](work::Work); [`DiskWorker`] carries them out on a
//! thread that nobody waits for.
//!
//! The store is the file at its path: [`DiskWorker`] looks before each batch and at least every few seconds. If the file was
//! removed or replaced, what the old one still holds goes to the one at the path; if its folder is gone, events wait in memory.
//!
//! Ids give the order. They count from 0 in this process; events of an earlier process have ids below 0.

mod disk_worker;
mod event_queue;
mod folder;
#[cfg(fuzzing)]
pub(super) mod fuzz;
mod inspect;
mod medium;
mod pace;
mod record;
mod store;
mod store_error;
#[cfg(test)]
mod tests;
mod totals;
mod work;

pub(super) use disk_worker::DiskWorker;
pub(super) use event_queue::{EventQueue, QueueLimits};
pub(super) use inspect::inspect;
pub(super) use pace::Pace;
pub(super) use record::{Boot, Record, Stamp};
pub(super) use totals::Dropped;
pub(super) use work::{Storage, WorkOutcome};
