//! Threads that share one operator's work and sleep when there is none.
//!
//! Every thread owns a contiguous range of the tasks and runs it in order, so that the data a task prefetches for the
//! next one is in the right core's cache. A thread that has finished its own range helps with the others'.
//!
//! The caller works too and waits only for workers that have joined. It does not wait for a worker that the system has
//! not woken because another process has its core. Between the operators of one image, workers spin briefly, then park.
//!
//! A pool serves one caller at a time; a second caller runs its tasks alone instead of waiting. A worker that is
//! preempted in the middle of a task stalls everybody for another process's time slice, which makes two threads slower
//! than one. After such a stall the caller works alone for a while ([`backoff`]). A worker that the system has placed on
//! the caller's own core, which happens when other cores are busy, stays out of the job.

mod backoff;
mod shared_mut;
#[cfg(test)]
mod tests;

pub use shared_mut::SharedMut;

use backoff::Backoff;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Spins before a worker parks: about 100 µs, longer than the gap between two operators.
const IDLE_SPINS: usize = 20_000;
/// Spins before the caller parks to wait for the last worker: about 50 µs. A worker that takes longer has been preempted
/// and may be waiting for the caller's core.
const CLOSE_SPINS: usize = 10_000;

/// Longer than any task takes: a wait of this length means that the worker was preempted.
const STALL: Duration = Duration::from_micros(1500);
/// Bit of a gate: workers may join the job.
const OPEN: usize = 1;
/// Unit of a gate's count of workers that have joined.
const JOINED: usize = 2;
/// Unit of a gate's job number, above the count.
const JOB: usize = 1 << 16;

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// The tasks of one call of [`Pool::run`].
struct Job {
    task: *const Task<'static>,
    count: usize,
    caller: Thread,
}

struct Shared {
    /// Written by the caller while the gate is closed and no worker is inside.
    job: UnsafeCell<Option<Job>>,
    /// The caller's core when it opened the gate.
    caller_core: AtomicUsize,
    /// Job number, number of workers inside, and whether the job is open, in one atomic value.
    gate: AtomicUsize,
    /// The next task of each thread's range; the caller is thread 0.
    next: Vec<Next>,
    /// Whether the caller is parked until the last worker leaves.
    caller_parked: AtomicBool,
    panicked: AtomicBool,
    stop: AtomicBool,
}

/// Alone on two cache lines, since processors may fetch lines in pairs.
#[repr(align(128))]
struct Next(AtomicUsize);

// SAFETY: `job` is written only while no worker is inside and read only by workers inside; `gate` orders the two.
unsafe impl Sync for Shared {}
// SAFETY: the task behind the pointer is `Sync`.
unsafe impl Send for Shared {}

/// A fixed number of threads, including the caller's.
///
/// ```
/// use constancy_kernels::Pool;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let pool = Pool::new(2)?;
/// let sum = AtomicUsize::new(0);
/// pool.run(5, &|i| {
///     sum.fetch_add(i, Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 10);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    caller: Mutex<Backoff>,
}

impl Pool {
    /// A pool of `threads` threads in total. With 1, the caller does all the work. Fails if a thread cannot be spawned.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            caller_core: AtomicUsize::new(UNKNOWN_CORE),
            gate: AtomicUsize::new(0),
            next: (0..threads.max(1))
                .map(|_| Next(AtomicUsize::new(0)))
                .collect(),
            caller_parked: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let worker = |i: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("infer-{i}"))
                .spawn(move || shared.work(i))
        };
        let workers = (1..threads).map(worker).collect::<Result<_, _>>()?;
        Ok(Self {
            shared,
            workers,
            caller: Mutex::default(),
        })
    }

    /// Number of threads, including the caller's.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` for every number below `count` and returns when all calls have returned. The thread that runs a task
    /// usually runs the next one as well. Panics if a task does.
    pub fn run(&self, count: usize, task: &Task<'_>) {
        let guard = match self.caller.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut backoff) = guard
            && !self.workers.is_empty()
            && count > 1
            && !backoff.skips_next()
        {
            backoff.record(self.share(count, task));
        } else {
            (0..count).for_each(task);
        }
    }

    /// Runs the tasks together with the workers; returns whether one stalled. The caller holds the pool's lock.
    fn share(&self, count: usize, task: &Task<'_>) -> bool {
        let shared = &*self.shared;
        // SAFETY: workers use the task only inside the job, and this function waits below until all have left it.
        let task = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        // SAFETY: the gate is closed and no worker is inside.
        unsafe {
            *shared.job.get() = Some(Job {
                task,
                count,
                caller: thread::current(),
            });
        };
        for (thread, next) in shared.next.iter().enumerate() {
            next.0
                .store(shared.range_of(thread, count).start, Ordering::Relaxed);
        }
        shared.caller_core.store(current_core(), Ordering::Relaxed);
        let number = (shared.gate.load(Ordering::Relaxed) / JOB).wrapping_add(1);
        shared
            .gate
            .store(number.wrapping_mul(JOB) | OPEN, Ordering::Release);
        self.workers.iter().for_each(|w| w.thread().unpark());
        let close = CloseOnDrop(shared);
        shared.run_tasks(0, task, count);
        let stalled = shared.close();
        drop(close);
        assert!(
            !shared.panicked.swap(false, Ordering::Relaxed),
            "a worker thread panicked"
        );
        stalled
    }
}

/// Closes the gate even if one of the caller's tasks panics: the workers borrow from its stack.
struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    /// Closes the gate and waits for the workers inside; returns whether one stalled.
    fn close(&self) -> bool {
        let mut inside = self.gate.fetch_and(!OPEN, Ordering::AcqRel) & !OPEN;
        let (mut spins, mut since) = (0usize, None);
        while !inside.is_multiple_of(JOB) {
            spins += 1;
            if spins < CLOSE_SPINS {
                std::hint::spin_loop();
            } else {
                since.get_or_insert_with(Instant::now);
                self.caller_parked.store(true, Ordering::SeqCst);
                if !self.gate.load(Ordering::SeqCst).is_multiple_of(JOB) {
                    thread::park();
                }
            }
            inside = self.gate.load(Ordering::Acquire);
        }
        self.caller_parked.store(false, Ordering::Relaxed);
        since.is_some_and(|since| since.elapsed() > STALL)
    }

    /// The tasks that a thread owns.
    fn range_of(&self, thread: usize, count: usize) -> Range<usize> {
        let threads = self.next.len();
        thread * count / threads..(thread + 1) * count / threads
    }

    /// Runs `thread`'s own tasks, then those that other threads have not begun.
    fn run_tasks(&self, thread: usize, task: &Task<'_>, count: usize) {
        for owner in (thread..self.next.len()).chain(0..thread) {
            let end = self.range_of(owner, count).end;
            loop {
                let i = self.next[owner].0.fetch_add(1, Ordering::Relaxed);
                if i >= end {
                    break;
                }
                task(i);
            }
        }
    }

    /// Joins the open job unless its number is `seen`; returns its number.
    fn join(&self, seen: usize) -> Option<usize> {
        let gate = self.gate.load(Ordering::Acquire);
        let fits = gate & OPEN != 0 && gate / JOB != seen && !self.shares_callers_core();
        let joined = || {
            self.gate
                .compare_exchange(gate, gate + JOINED, Ordering::Acquire, Ordering::Relaxed)
        };
        (fits && joined().is_ok()).then_some(gate / JOB)
    }

    /// Whether this thread runs on the caller's core, where it would only delay the caller.
    fn shares_callers_core(&self) -> bool {
        let core = current_core();
        core != UNKNOWN_CORE && core == self.caller_core.load(Ordering::Relaxed)
    }

    fn leave(&self, caller: &Thread) {
        let inside = self.gate.fetch_sub(JOINED, Ordering::SeqCst) - JOINED;
        // `close` may have returned by now, so `caller` must be this worker's own clone.
        if inside.is_multiple_of(JOB) && self.caller_parked.load(Ordering::SeqCst) {
            caller.unpark();
        }
    }

    fn work(&self, thread: usize) {
        let (mut seen, mut spins) = (0, 0);
        while !self.stop.load(Ordering::Relaxed) {
            let Some(number) = self.join(seen) else {
                spins += 1;
                if spins < IDLE_SPINS && !self.shares_callers_core() {
                    std::hint::spin_loop();
                } else {
                    // At most once per iteration, so that `stop` is checked between two parks.
                    thread::park();
                }
                continue;
            };
            (seen, spins) = (number, 0);
            // SAFETY: the job does not change until this worker has left it.
            let Some(Job {
                task,
                count,
                caller,
            }) = (unsafe { &*self.job.get() })
            else {
                continue;
            };
            let caller = caller.clone();
            // SAFETY: the caller waits for this worker before the task's borrows end.
            let task = unsafe { &**task };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.run_tasks(thread, task, *count);
            }));
            if result.is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.leave(&caller);
        }
    }
}

/// The value if the system does not report the core.
const UNKNOWN_CORE: usize = usize::MAX;

/// The core that this thread runs on.
fn current_core() -> usize {
    #[cfg(target_os = "linux")]
    // SAFETY: the call takes no pointers.
    return usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(UNKNOWN_CORE);
    #[cfg(not(target_os = "linux"))]
    UNKNOWN_CORE
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A task's panic has already reached the caller of its job.
            let _ = worker.join();
        }
    }
}
