//! What the queue costs and keeps: bounds, age, bytes written, the file's size.

use super::super::store::{Batch, Bounds, Store};
use super::super::{KEEP, Keeper, Limits, Queue, Record, Stamp, Storage, Work};
use super::disk::Disk;
use super::{BOUNDS, LIMITS, Step, WIDE, World, record};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn limits(sync_events: usize) -> Limits {
    Limits {
        sync_events,
        memory: 100_000,
        ..LIMITS
    }
}

/// Appends one batch after the other, as an outage does.
fn append(store: &mut Store, ids: std::ops::Range<i64>, each: usize) {
    let ids: Vec<i64> = ids.collect();
    for ids in ids.chunks(each) {
        let append = ids
            .iter()
            .map(|id| (*id, Arc::new(record(id.unsigned_abs()))))
            .collect();
        store
            .commit(&Batch {
                append,
                ..Batch::default()
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
    let mut store = Store::on(disk.clone(), bounds, None).expect("store");
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
    let store = Store::on(disk, bounds, None).expect("store");
    assert_eq!(store.totals(), totals, "counts survive");
}

#[test]
fn the_file_shrinks_when_the_backlog_is_gone() {
    let (disk, now) = (Disk::default(), Instant::now());
    let mut queue = Queue::new(limits(100), true, now);
    let mut keeper = Keeper::at(Box::new(disk.clone()), WIDE);
    let work = |queue: &mut Queue, keeper: &mut Keeper| {
        let work = queue.work(Stamp::default(), now, true, true)?;
        let done = keeper.carry_out(work, now);
        queue.done(done, now);
        Some(())
    };
    for n in 0..5000 {
        queue.push(record(n), now);
        if n % 100 == 0 {
            while work(&mut queue, &mut keeper).is_some() {}
        }
    }
    while work(&mut queue, &mut keeper).is_some() {}
    let full = disk.lock().now.len();
    assert!(
        queue.entries.len() <= KEEP,
        "{} in memory",
        queue.entries.len()
    );
    queue.connected(false);
    while !queue.is_empty() {
        while let Some((id, _)) = queue.next_of_backlog() {
            queue.handed_over(id);
            queue.acknowledged(id, now);
        }
        while work(&mut queue, &mut keeper).is_some() {}
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
fn while_the_broker_answers_nothing_is_written() {
    let (disk, mut now) = (Disk::default(), Instant::now());
    let mut queue = Queue::new(limits(100), true, now);
    let mut keeper = Keeper::at(Box::new(disk.clone()), WIDE);
    queue.connected(false);
    let mut hour = |queue: &mut Queue, answers: bool| {
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
                let done = keeper.carry_out(work, now);
                queue.done(done, now);
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

/// The disk fills up, and has room again.
#[test]
fn a_full_disk_costs_nothing_while_memory_lasts_and_recovers_by_itself() {
    let mut world = World::new(WIDE, 1);
    world.step(&Step::Connect(false));
    for _ in 0..10 {
        world.step(&Step::Push);
    }
    while world.work(true).is_some() {}
    world.step(&Step::Refuse(true));
    for _ in 0..10 {
        world.step(&Step::Push);
        world.work(true);
    }
    assert!(
        matches!(world.queue.storage(), Storage::Away(reason) if reason.contains("the disk is full; make room"))
    );
    world.step(&Step::Refuse(false));
    world.finish();
    assert_eq!(world.missing(), BTreeSet::new());
    assert_eq!(world.arrived, (0..20).collect::<Vec<_>>());
}

#[test]
fn what_is_too_old_is_dropped_and_counted() {
    let (disk, now) = (Disk::default(), Instant::now());
    let stamp = |s: u64| Stamp {
        boot: 1,
        monotonic_ns: s * 1_000_000_000,
        unix_ns: None,
    };
    let mut queue = Queue::new(limits(10), true, now);
    let mut keeper = Keeper::at(Box::new(disk), BOUNDS);
    for n in 0..40u64 {
        queue.push(
            Record {
                queued: stamp(n * 180),
                ..record(n % 3)
            },
            now,
        );
        while let Some(work) = queue.work(stamp(n * 180), now, false, true) {
            let done = keeper.carry_out(work, now);
            queue.done(done, now);
        }
    }
    // Three minutes apart: 21 of them are no older than an hour.
    assert_eq!((queue.len(), queue.dropped().old), (21, 19));
    assert!(matches!(
        queue.work(stamp(0), now, false, true),
        None | Some(Work::Read(..))
    ));
}
