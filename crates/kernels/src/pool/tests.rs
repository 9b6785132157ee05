//! Pools of real threads: every task runs once, and no thread waits forever.

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
fn concurrent_callers_are_all_served() {
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
        // SAFETY: a `cpu_set_t` is plain data for which zeros are valid; the calls only use this one.
        let pinned = unsafe {
            let mut cores: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(current_core(), &mut cores);
            libc::sched_setaffinity(0, size_of_val(&cores), &raw const cores)
        };
        assert_eq!(pinned, 0);
        let caller = thread::current().id();
        // The varying sleeps end pools while their workers spin, park or wake.
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
            .expect("only the caller runs tasks");
    });
}

#[test]
fn a_panic_in_a_task_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::new(2).expect("threads");
    let run = |fatal: usize| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(64, &|i| assert!(i != fatal, "intended"));
        }))
    };
    assert!(run(7).is_err());
    assert!(run(100).is_ok());
}
