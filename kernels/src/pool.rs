//! Threads that share one operator's work, and sleep when there is none.
//!
//! The caller works along; the others spin for a moment between operators of one image, then park. A pool serves one
//! caller at a time: a second one does its work alone rather than wait.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::{self, JoinHandle};

/// Spins before a worker parks; some 100 µs, longer than the gap between two operators.
const SPINS: usize = 20_000;

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// Work that the workers may take from.
struct Job {
    task: *const Task<'static>,
    count: usize,
}

struct Shared {
    /// Written by the caller while no worker reads, that is while `running` is 0.
    job: UnsafeCell<Option<Job>>,
    /// Grows with every job.
    epoch: AtomicUsize,
    next: AtomicUsize,
    /// Workers that have not finished the present job.
    running: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `job` is written only between jobs, and read only within one; `epoch` and `running` order the two.
unsafe impl Sync for Shared {}
// SAFETY: the task behind the pointer is `Sync`.
unsafe impl Send for Shared {}

/// A fixed number of threads, the caller's among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    caller: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` in all; with 1 everything happens on the caller's.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            epoch: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let worker = |i: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("infer-{i}")).spawn(move || shared.work())
        };
        let workers = (1..threads).map(worker).collect::<Result<_, _>>()?;
        Ok(Self { shared, workers, caller: Mutex::new(()) })
    }

    /// Threads that share the work.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` for every number below `count`, in no order, and returns when all are done.
    pub fn run(&self, count: usize, task: &Task<'_>) {
        let guard = match self.caller.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if guard.is_none() || self.workers.is_empty() || count < 2 {
            (0..count).for_each(task);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: the lifetime is given up only until every worker has left the job, below.
        let task = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        // SAFETY: no worker reads between jobs.
        unsafe { *shared.job.get() = Some(Job { task, count }) };
        shared.next.store(0, Ordering::Relaxed);
        shared.running.store(self.workers.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::Release);
        self.workers.iter().for_each(|w| w.thread().unpark());
        let leave = Leave(shared);
        shared.take(task, count);
        drop(leave);
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a worker thread panicked");
    }
}

/// Waits for the workers, also when the caller's share panics: they borrow from its stack.
struct Leave<'a>(&'a Shared);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut spins = 0usize;
        while self.0.running.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins.is_multiple_of(4096) { thread::yield_now() } else { std::hint::spin_loop() }
        }
    }
}

impl Shared {
    fn take(&self, task: &Task<'_>, count: usize) {
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return;
            }
            task(i);
        }
    }

    fn work(&self) {
        let mut seen = 0;
        loop {
            let mut spins = 0;
            while self.epoch.load(Ordering::Acquire) == seen {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                spins += 1;
                if spins < SPINS { std::hint::spin_loop() } else { thread::park() }
            }
            seen = self.epoch.load(Ordering::Acquire);
            // SAFETY: the job stays as it is until this worker has left it.
            if let Some(Job { task, count }) = unsafe { &*self.job.get() } {
                // SAFETY: the caller waits for this worker before the task's borrows end.
                let task = unsafe { &**task };
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.take(task, *count)));
                if result.is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
            }
            self.running.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker's panic has been reported by the job that it happened in.
            let _ = worker.join();
        }
    }
}

/// A slice that several tasks write to, each its own part.
pub struct SharedMut<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: only parts that do not overlap are handed out, which the callers of `slice` and `at` vouch for.
unsafe impl<T: Send> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    pub fn new(slice: &mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len() }
    }

    /// Part of the slice.
    ///
    /// # Safety
    /// No two tasks ask for parts that overlap, and none outlives the slice.
    #[expect(clippy::mut_from_ref, reason = "that is what the contract is for")]
    pub unsafe fn slice(&self, first: usize, count: usize) -> &mut [T] {
        assert!(first + count <= self.len, "a part of the slice");
        // SAFETY: within the slice, and nobody else's by contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), count) }
    }

    /// Address of an element.
    pub fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "an element of the slice");
        self.start.wrapping_add(index)
    }
}
