//! Limits of the queue: size, age, bytes written, size of the file.

use super::super::event_queue::MAX_CACHED;
use super::super::store::{Store, WriteBatch};
use super::super::totals::Bounds;
use super::super::work::Work;
use super::super::{DiskWorker, EventQueue, QueueLimits, Record, Stamp, Storage};
use super::disk::Disk;
use super::{BOUNDS, LIMITS, Simulation, Step, WIDE, record};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn limits(sync_events: usize) -> QueueLimits {
    QueueLimits {
        sync_events,
        memory: 100_000,
        ..LIMITS
    }
}

/// Appends events in batches of `each`, as during an outage.
fn append(store: &mut Store, ids: std::ops::Range<i64>, each: usize) {
    let ids: Vec<i64> = ids.collect();
    for ids in ids.chunks(each) {
        let append = ids
            .iter()
            .map(|id| (*id, Arc::new(record(id.unsigned_abs()))))
            .collect();
        store
            .commit(&WriteBatch {
                append,
                ..WriteBatch::default()
            })
            .expect("commit");
    }
}

#[test]
fn the_bound_holds_and_the_file_stays_below_twice_of_it() {
    let disk = Disk::default();
    let bounds = Bounds {
        bytes: 4 << 20,
        ..BOUNDS
    };
    let mut store = disk.open_store(bounds);
    append(&mut store, 0..20_000, 5);
    let totals = store.totals();
    let file = disk.lock().now.len() as u64;
    println!(
        "{} KiB of {} events in a file of {} KiB",
        totals.bytes >> 10,
        totals.entries,
        file >> 10
    );
    assert!(totals.bytes <= bounds.bytes && totals.bytes > bounds.bytes * 9 / 10);
    assert_eq!(totals.entries + totals.dropped.full, 20_000);
    assert!(file <= 2 * bounds.bytes + (1 << 20), "{file}");
    let first = store.read(&(0..20_000), 1).expect("read").records[0].0;
    assert_eq!(first.unsigned_abs(), totals.dropped.full, "the oldest went");
    drop(store);
    let store = disk.open_store(bounds);
    assert_eq!(store.totals(), totals, "counts survive");
}

#[test]
fn the_file_shrinks_when_the_backlog_is_gone() {
    let (disk, now) = (Disk::default(), Instant::now());
    let mut queue = EventQueue::new(limits(100), true, now);
    let mut worker = DiskWorker::at(Box::new(disk.clone()), WIDE);
    let work = |queue: &mut EventQueue, worker: &mut DiskWorker| {
        let work = queue.work(Stamp::default(), now, true, true)?;
        let outcome = worker.carry_out(work, now);
        queue.done(outcome, now);
        Some(())
    };
    for n in 0..5000 {
        queue.push(record(n), now);
        if n % 100 == 0 {
            while work(&mut queue, &mut worker).is_some() {}
        }
    }
    while work(&mut queue, &mut worker).is_some() {}
    let full = disk.lock().now.len();
    assert!(
        queue.in_memory() <= MAX_CACHED,
        "{} in memory",
        queue.in_memory()
    );
    queue.connected(false);
    while !queue.is_empty() {
        while let Some((id, _)) = queue.next_of_backlog() {
            queue.handed_over(id);
            queue.acknowledged(id, now);
        }
        while work(&mut queue, &mut worker).is_some() {}
    }
    let empty = disk.lock().now.len();
    println!(
        "a file of {} KiB, {} KiB when empty",
        full >> 10,
        empty >> 10
    );
    assert!(full > 4 << 20 && empty < 1 << 20);
}

#[test]
fn nothing_is_written_while_the_broker_acknowledges() {
    let (disk, mut now) = (Disk::default(), Instant::now());
    let mut queue = EventQueue::new(limits(100), true, now);
    let mut worker = DiskWorker::at(Box::new(disk.clone()), WIDE);
    queue.connected(false);
    let mut hour = |queue: &mut EventQueue, answers: bool| {
        let (writes, syncs, bytes) = {
            let p = disk.lock();
            (p.writes, p.syncs, p.bytes)
        };
        for n in 0..3600 {
            now += Duration::from_secs(1);
            queue.push(record(n), now);
            while answers && let Some((id, _)) = queue.next_of_backlog() {
                queue.handed_over(id);
                queue.acknowledged(id, now);
            }
            while let Some(work) = queue.work(Stamp::default(), now, false, false) {
                let outcome = worker.carry_out(work, now);
                queue.done(outcome, now);
            }
        }
        let p = disk.lock();
        (p.writes - writes, p.syncs - syncs, p.bytes - bytes)
    };
    hour(&mut queue, true);
    assert_eq!(
        hour(&mut queue, true),
        (0, 0, 0),
        "an hour at one event a second, acknowledged"
    );
    let (writes, syncs, bytes) = hour(&mut queue, false);
    println!(
        "an hour without a broker at 1 event/s, batches of 5 s: {syncs} syncs, {writes} writes, {} KiB",
        bytes >> 10
    );
    assert!((590..=620).contains(&syncs), "{syncs} syncs");
}

/// The disk fills up, and has room again later.
#[test]
fn a_full_disk_loses_nothing_while_memory_suffices_and_recovers_by_itself() {
    let mut simulation = Simulation::new(WIDE, 1);
    simulation.step(&Step::Connect(false));
    for _ in 0..10 {
        simulation.step(&Step::Push);
    }
    while simulation.work(true).is_some() {}
    simulation.step(&Step::Refuse(true));
    for _ in 0..10 {
        simulation.step(&Step::Push);
        simulation.work(true);
    }
    assert!(
        matches!(simulation.queue.storage(), Storage::Unavailable(reason) if reason.contains("the disk is full; make room"))
    );
    simulation.step(&Step::Refuse(false));
    simulation.finish();
    assert_eq!(simulation.missing(), BTreeSet::new());
    assert_eq!(simulation.arrived, (0..20).collect::<Vec<_>>());
}

#[test]
fn events_that_are_too_old_are_dropped_and_counted() {
    let (disk, now) = (Disk::default(), Instant::now());
    let stamp = |s: u64| Stamp {
        boot: 1,
        monotonic_ns: s * 1_000_000_000,
        unix_ns: None,
    };
    let mut queue = EventQueue::new(limits(10), true, now);
    let mut worker = DiskWorker::at(Box::new(disk), BOUNDS);
    for n in 0..40u64 {
        queue.push(
            Record {
                queued: stamp(n * 180),
                ..record(n % 3)
            },
            now,
        );
        while let Some(work) = queue.work(stamp(n * 180), now, false, true) {
            let outcome = worker.carry_out(work, now);
            queue.done(outcome, now);
        }
    }
    // Three minutes apart: 21 of them are no older than an hour.
    assert_eq!((queue.len(), queue.dropped().old), (21, 19));
    assert!(matches!(
        queue.work(stamp(0), now, false, true),
        None | Some(Work::Read(..))
    ));
}
