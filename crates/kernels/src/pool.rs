//! Threads that share one operator's work, and sleep when there is none.
//!
//! Every thread has a stretch of the tasks for its own, which it takes in order: what a task has fetched ahead for the
//! next one is then where it is needed. Who is done with his own helps others with theirs.
//!
//! The caller works along, and waits only for those who have joined: one that the system has not woken, because
//! something else has its core, is not missed. Between the operators of one image the others spin for a moment, then
//! park. A pool serves one caller at a time: a second one does its work alone rather than wait. A worker that loses its
//! core in the middle of a task makes everybody wait for a time slice of somebody else's, so that two threads would be
//! slower than one: after such a stall the caller works alone for a while. One that the system has put on the caller's own
//! core, as it does where others are busy, stays out of the job.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Spins before a worker parks; some 100 µs, longer than the gap between two operators.
const IDLE_SPINS: usize = 20_000;
/// Spins before the caller parks until the last worker is done; some 50 µs. One that takes longer has lost its core,
/// and may be waiting for this one.
const LEAVE_SPINS: usize = 10_000;

/// A wait for a worker that is longer than any task takes: its core is somebody else's.
const STALL: Duration = Duration::from_micros(1500);
/// Jobs that the caller does alone after a stall: about two images, and twice as many each time, up to some seconds.
const ALONE: usize = 256;
const MOST_ALONE: usize = 1 << 14;

/// Of a gate: the job may be joined.
const OPEN: usize = 1;
/// Of a gate: one worker that has joined. Above these counts stands the number of the job.
const JOINED: usize = 2;
const JOB: usize = 1 << 16;

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// Work that the workers may take from.
struct Job {
    task: *const Task<'static>,
    count: usize,
    caller: Thread,
}

struct Shared {
    /// Written by the caller while the gate is closed and nobody is inside.
    job: UnsafeCell<Option<Job>>,
    /// The core that the caller was on when it opened the gate.
    core: AtomicUsize,
    /// Number of the job, workers inside, and whether it is open; changes as one.
    gate: AtomicUsize,
    /// Of every thread, the caller's first: the next task of its stretch.
    next: Vec<Next>,
    /// The caller is parked until the last worker has left.
    caller_parked: AtomicBool,
    panicked: AtomicBool,
    stop: AtomicBool,
}

/// On cache lines of its own, which a processor may fetch in pairs.
#[repr(align(128))]
struct Next(AtomicUsize);

// SAFETY: `job` is written only while no worker is inside, and read only by those who are; `gate` orders the two.
unsafe impl Sync for Shared {}
// SAFETY: the task behind the pointer is `Sync`.
unsafe impl Send for Shared {}

/// A fixed number of threads, the caller's among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    caller: Mutex<Trust>,
}

/// Whether the workers help or hinder.
#[derive(Default)]
struct Trust {
    /// Jobs that are still to be done alone.
    alone: usize,
    /// For how many, the last time.
    last: usize,
    /// Jobs since the last stall that were shared.
    calm: usize,
}

impl Trust {
    /// Whether the next job is to be done alone.
    fn refuses(&mut self) -> bool {
        let refuses = self.alone > 0;
        self.alone = self.alone.saturating_sub(1);
        refuses
    }

    fn learn(&mut self, stalled: bool) {
        if stalled {
            self.last = (2 * self.last).clamp(ALONE, MOST_ALONE);
            (self.alone, self.calm) = (self.last, 0);
        } else {
            self.calm += 1;
            if self.calm > 4 * ALONE {
                self.last = 0;
            }
        }
    }
}

impl Pool {
    /// A pool of `threads` in all; with 1 everything happens on the caller's.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            core: AtomicUsize::new(NO_CORE),
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

    /// Threads that share the work.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` for every number below `count`, and returns when all are done. One that takes a number is likely to
    /// take the next one, too.
    pub fn run(&self, count: usize, task: &Task<'_>) {
        let guard = match self.caller.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut trust) = guard
            && !self.workers.is_empty()
            && count > 1
            && !trust.refuses()
        {
            trust.learn(self.share(count, task));
        } else {
            (0..count).for_each(task);
        }
    }

    /// Has the workers join; whether one stalled. Nobody else does so at the same time.
    fn share(&self, count: usize, task: &Task<'_>) -> bool {
        let shared = &*self.shared;
        // SAFETY: the lifetime is given up only until every worker has left the job, below.
        let task = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        // SAFETY: the gate is closed, and nobody is inside.
        unsafe {
            *shared.job.get() = Some(Job {
                task,
                count,
                caller: thread::current(),
            })
        };
        for (thread, next) in shared.next.iter().enumerate() {
            next.0
                .store(shared.stretch(thread, count).start, Ordering::Relaxed);
        }
        shared.core.store(core(), Ordering::Relaxed);
        let number = (shared.gate.load(Ordering::Relaxed) / JOB).wrapping_add(1);
        shared
            .gate
            .store(number.wrapping_mul(JOB) | OPEN, Ordering::Release);
        self.workers.iter().for_each(|w| w.thread().unpark());
        let leave = Leave(shared);
        shared.take(0, task, count);
        let stalled = shared.close();
        drop(leave);
        assert!(
            !shared.panicked.swap(false, Ordering::Relaxed),
            "a worker thread panicked"
        );
        stalled
    }
}

/// Closes the gate also when the caller's share panics: the workers borrow from its stack.
struct Leave<'a>(&'a Shared);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    /// Closes the gate and waits for the workers inside; whether that took too long.
    fn close(&self) -> bool {
        let mut inside = self.gate.fetch_and(!OPEN, Ordering::AcqRel) & !OPEN;
        let (mut spins, mut since) = (0usize, None);
        while !inside.is_multiple_of(JOB) {
            spins += 1;
            if spins < LEAVE_SPINS {
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

    /// The tasks that are a thread's own.
    fn stretch(&self, thread: usize, count: usize) -> Range<usize> {
        let threads = self.next.len();
        thread * count / threads..(thread + 1) * count / threads
    }

    /// Does `thread`'s own tasks, then those that others have not begun.
    fn take(&self, thread: usize, task: &Task<'_>, count: usize) {
        for owner in (thread..self.next.len()).chain(0..thread) {
            let end = self.stretch(owner, count).end;
            loop {
                let i = self.next[owner].0.fetch_add(1, Ordering::Relaxed);
                if i >= end {
                    break;
                }
                task(i);
            }
        }
    }

    /// Enters the job that is open, if it is not number `seen`; returns its number.
    fn join(&self, seen: usize) -> Option<usize> {
        let gate = self.gate.load(Ordering::Acquire);
        let fits = gate & OPEN != 0 && gate / JOB != seen && !self.caller_is_beneath();
        let joined = || {
            self.gate
                .compare_exchange(gate, gate + JOINED, Ordering::Acquire, Ordering::Relaxed)
        };
        (fits && joined().is_ok()).then_some(gate / JOB)
    }

    /// Whether this thread has displaced the caller, and would only hold it up.
    fn caller_is_beneath(&self) -> bool {
        let core = core();
        core != NO_CORE && core == self.core.load(Ordering::Relaxed)
    }

    fn leave(&self, caller: &Thread) {
        let inside = self.gate.fetch_sub(JOINED, Ordering::SeqCst) - JOINED;
        // The caller may be gone by now: its handle is this thread's own.
        if inside.is_multiple_of(JOB) && self.caller_parked.load(Ordering::SeqCst) {
            caller.unpark();
        }
    }

    fn work(&self, thread: usize) {
        let (mut seen, mut spins) = (0, 0);
        while !self.stop.load(Ordering::Relaxed) {
            let Some(number) = self.join(seen) else {
                spins += 1;
                if spins < IDLE_SPINS && !self.caller_is_beneath() {
                    std::hint::spin_loop();
                } else {
                    // Once a round: `stop` is looked at between any two.
                    thread::park();
                }
                continue;
            };
            (seen, spins) = (number, 0);
            // SAFETY: the job stays as it is until this worker has left it.
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
                self.take(thread, task, *count)
            }));
            if result.is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.leave(&caller);
        }
    }
}

/// Where the system does not say.
const NO_CORE: usize = usize::MAX;

/// The core that this thread is on.
fn core() -> usize {
    #[cfg(target_os = "linux")]
    // SAFETY: asks for a number.
    return usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(NO_CORE);
    #[cfg(not(target_os = "linux"))]
    NO_CORE
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
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
        }
    }

    /// Part of the slice.
    ///
    /// # Safety
    /// No two tasks ask for parts that overlap, and none outlives the slice.
    #[expect(clippy::mut_from_ref, reason = "that is what the contract is for")]
    #[must_use]
    pub unsafe fn slice(&self, first: usize, count: usize) -> &mut [T] {
        assert!(first + count <= self.len, "a part of the slice");
        // SAFETY: within the slice, and nobody else's by contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), count) }
    }

    /// Address of an element.
    #[must_use]
    pub fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "an element of the slice");
        self.start.wrapping_add(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_task_is_done_once_job_after_job() {
        let pool = Pool::new(4).expect("threads");
        for count in (0..40).chain([1000]) {
            let done: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
            pool.run(count, &|i| _ = done[i].fetch_add(1, Ordering::Relaxed));
            assert!(
                done.iter().all(|d| d.load(Ordering::Relaxed) == 1),
                "{count}"
            );
        }
    }

    #[test]
    fn callers_beside_each_other_are_all_served() {
        let pool = Pool::new(3).expect("threads");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let sum = AtomicUsize::new(0);
                        pool.run(10, &|i| _ = sum.fetch_add(i, Ordering::Relaxed));
                        assert_eq!(sum.into_inner(), 45);
                    }
                });
            }
        });
    }

    #[test]
    fn the_caller_sleeps_until_a_slow_worker_is_done() {
        let pool = Pool::new(2).expect("threads");
        let caller = thread::current().id();
        for _ in 0..20 {
            let done = AtomicUsize::new(0);
            pool.run(2, &|_| {
                if thread::current().id() != caller {
                    thread::sleep(std::time::Duration::from_millis(2));
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.into_inner(), 2);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_worker_on_the_callers_core_stays_out_of_its_way() {
        let on_one_core = || {
            // SAFETY: plain bits, of which zeros are valid, and calls that read them.
            let pinned = unsafe {
                let mut cores: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(core(), &mut cores);
                libc::sched_setaffinity(0, size_of_val(&cores), &raw const cores)
            };
            assert_eq!(pinned, 0);
            let caller = thread::current().id();
            // The pools end while their workers are at every point of waiting.
            for round in 0..60 {
                let pool = Pool::new(2).expect("threads");
                for _ in 0..3 {
                    thread::sleep(Duration::from_micros(round * 50));
                    pool.run(8, &|_| {
                        thread::yield_now();
                        assert_eq!(thread::current().id(), caller);
                    });
                }
            }
        };
        thread::scope(|scope| {
            scope
                .spawn(on_one_core)
                .join()
                .expect("tasks of the caller's alone")
        });
    }

    #[test]
    fn stalls_make_the_caller_work_alone_for_longer_and_longer() {
        let mut trust = Trust::default();
        let mut alone = |stalled| {
            trust.learn(stalled);
            (0..=2 * MOST_ALONE).take_while(|_| trust.refuses()).count()
        };
        assert_eq!(
            [alone(false), alone(true), alone(true), alone(true)],
            [0, ALONE, 2 * ALONE, 4 * ALONE]
        );
        assert_eq!((0..6 * ALONE).map(|_| alone(false)).sum::<usize>(), 0);
        assert_eq!(alone(true), ALONE);
        assert_eq!((0..20).map(|_| alone(true)).max(), Some(MOST_ALONE));
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2).expect("threads");
        let run = |fatal: usize| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pool.run(64, &|i| assert!(i != fatal, "meant"));
            }))
        };
        assert!(run(7).is_err());
        assert!(run(100).is_ok());
    }
}
