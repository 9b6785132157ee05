//! The queue, its keeper and a broker against a model, on a disk that fails in every way a disk can.

use super::keeper::Place;
use super::store::{Batch, Bounds, Store, StoreError};
use super::{Done, Dropped, Keeper, Limits, Queue, READ_AHEAD, Record, Stamp, Storage, Work};
use proptest::prelude::*;
use redb::StorageBackend;
use std::collections::{BTreeSet, VecDeque};
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const BOUNDS: Bounds = Bounds { bytes: 40_000, age: Duration::from_secs(3600) };
const WIDE: Bounds = Bounds { bytes: 1 << 30, ..BOUNDS };
const LIMITS: Limits =
    Limits { sync_every: Duration::from_secs(5), sync_events: 7, memory: 30, age: Duration::from_secs(3600) };
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A change that no sync has made safe yet.
#[derive(Debug, Clone)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct Platter {
    safe: Vec<u8>,
    now: Vec<u8>,
    unsynced: Vec<Unsynced>,
    writes: u64,
    bytes: u64,
    syncs: u64,
    /// Power fails at this write.
    fails_at: Option<u64>,
    dead: bool,
    /// Nothing can be written.
    refuses: Option<ErrorKind>,
    aside: u32,
    /// The file has its name: it was made whole once.
    made: bool,
}

/// A disk in memory that survives its process.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn living(&self) -> Result<MutexGuard<'_, Platter>> {
        let platter = self.lock();
        if platter.dead { Err(Error::from(ErrorKind::Other)) } else { Ok(platter) }
    }

    fn writable(&self) -> Result<MutexGuard<'_, Platter>> {
        let mut platter = self.living()?;
        if let Some(kind) = platter.refuses {
            return Err(kind.into());
        }
        platter.writes += 1;
        if platter.fails_at.is_some_and(|at| platter.writes >= at) {
            platter.dead = true;
            return Err(Error::from(ErrorKind::Other));
        }
        Ok(platter)
    }

    /// Power comes back: of what was not synced any sector may be there, or be missing, or be garbage.
    fn power_cut(&self, random: &mut fastrand::Rng) {
        let mut platter = self.lock();
        let mut image = std::mem::take(&mut platter.safe);
        for change in std::mem::take(&mut platter.unsynced) {
            match change {
                Unsynced::Length(length) if random.bool() => image.resize(length, 0),
                Unsynced::Length(_) => {}
                Unsynced::Write(at, data) => {
                    for (i, sector) in data.chunks(SECTOR).enumerate() {
                        let (at, fate) = (at + i * SECTOR, random.u8(..10));
                        // The first sector, which says which commit counts, is whole as sectors are.
                        if fate < 4 {
                            continue;
                        }
                        image.resize(image.len().max(at + sector.len()), 0);
                        image[at..at + sector.len()].copy_from_slice(sector);
                        if fate == 9 && at >= SECTOR {
                            let hit = at + random.usize(..sector.len());
                            image[hit] ^= 1 << random.u8(..8);
                        }
                    }
                }
            }
        }
        platter.safe.clone_from(&image);
        platter.now = image;
        (platter.dead, platter.fails_at) = (false, None);
    }

    /// kill -9: the system still has what was written.
    fn killed(&self) {
        let mut platter = self.lock();
        (platter.dead, platter.fails_at) = (false, None);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.living()?.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let (platter, at) = (self.living()?, offset as usize);
        let bytes = platter.now.get(at..at + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut platter = self.writable()?;
        platter.now.resize(len as usize, 0);
        platter.unsynced.push(Unsynced::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut platter = self.writable()?;
        platter.syncs += 1;
        platter.safe = platter.now.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let (mut platter, at) = (self.writable()?, offset as usize);
        let length = platter.now.len().max(at + data.len());
        platter.now.resize(length, 0);
        platter.now[at..at + data.len()].copy_from_slice(data);
        platter.bytes += data.len() as u64;
        platter.unsynced.push(Unsynced::Write(at, data.to_vec()));
        Ok(())
    }
}

impl Place for Disk {
    fn open(&self, bounds: Bounds, base: Option<u64>) -> std::result::Result<Store, StoreError> {
        if !self.lock().made {
            let mut platter = self.lock();
            (platter.now, platter.safe, platter.unsynced) = Default::default();
            drop(platter);
            drop(Store::on(self.clone(), bounds, base)?);
            self.living().map_err(redb::Error::Io)?.made = true;
        }
        Store::on(self.clone(), bounds, base)
    }

    fn move_aside(&self) -> Result<String> {
        let mut platter = self.lock();
        let Platter { writes, fails_at, refuses, aside, .. } = *platter;
        *platter = Platter { writes, fails_at, refuses, aside: aside + 1, ..Platter::default() };
        Ok("aside".into())
    }

    fn name(&self) -> String {
        "test".into()
    }
}

/// The payload of the event with this number: its bytes follow from it.
fn payload(number: u64) -> Vec<u8> {
    let length = 40 + number.wrapping_mul(7919) % 1400;
    number.to_be_bytes().into_iter().chain((0..length).map(|i| (number ^ i) as u8)).collect()
}

fn record(number: u64) -> Record {
    Record { topic: "t/belt/event".into(), payload: payload(number), queued: Stamp::default() }
}

fn number(record: &Record) -> u64 {
    let number = u64::from_be_bytes(*record.payload.first_chunk().expect("a number"));
    assert_eq!(*record, self::record(number), "what is delivered is what was queued, to the bit");
    number
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    Send,
    Acknowledge,
    Work,
    Wait,
    Connect(bool),
    Disconnect,
    Kill,
    PowerCut,
    /// Power fails in so many writes.
    PowerCutAt(u64),
    Refuse(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => Just(Step::Push),
        8 => Just(Step::Send),
        7 => Just(Step::Acknowledge),
        10 => Just(Step::Work),
        2 => Just(Step::Wait),
        1 => any::<bool>().prop_map(Step::Connect),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
        1 => (1u64..60).prop_map(Step::PowerCutAt),
        1 => any::<bool>().prop_map(Step::Refuse),
    ];
    prop::collection::vec(step, 0..250)
}

/// The process with its disk, and a broker that remembers.
struct World {
    disk: Disk,
    bounds: Bounds,
    random: fastrand::Rng,
    queue: Queue,
    keeper: Keeper,
    now: Instant,
    live_first: bool,
    pushed: u64,
    /// Not in a batch that was committed, nor acknowledged: what a crash may take.
    at_risk: BTreeSet<u64>,
    crashed: BTreeSet<u64>,
    under_way: VecDeque<(i64, u64)>,
    arrived: Vec<u64>,
    acknowledged: BTreeSet<u64>,
}

impl World {
    fn new(bounds: Bounds, seed: u64) -> Self {
        let (disk, now) = (Disk::default(), Instant::now());
        Self {
            queue: Queue::new(LIMITS, true, now),
            keeper: Keeper::at(Box::new(disk.clone()), bounds),
            disk,
            bounds,
            random: fastrand::Rng::with_seed(seed),
            now,
            live_first: false,
            pushed: 0,
            at_risk: BTreeSet::new(),
            crashed: BTreeSet::new(),
            under_way: VecDeque::new(),
            arrived: Vec::new(),
            acknowledged: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Push => {
                self.queue.push(record(self.pushed), self.now);
                self.at_risk.insert(self.pushed);
                self.pushed += 1;
            }
            Step::Send => self.send(),
            Step::Acknowledge => {
                if let Some((id, number)) = self.under_way.pop_front() {
                    self.queue.acknowledged(id, self.now);
                    self.acknowledged.insert(number);
                    self.at_risk.remove(&number);
                }
            }
            Step::Work => drop(self.work(false)),
            Step::Wait => self.now += Duration::from_secs(40),
            Step::Connect(live_first) => {
                self.disconnect();
                self.live_first = *live_first;
                self.queue.connected(self.live_first);
            }
            Step::Disconnect => self.disconnect(),
            Step::Kill => {
                self.disk.killed();
                self.restart();
            }
            Step::PowerCut => {
                self.disk.power_cut(&mut self.random);
                self.restart();
            }
            Step::PowerCutAt(writes) => {
                let mut platter = self.disk.lock();
                platter.fails_at = Some(platter.writes + writes);
            }
            Step::Refuse(refuses) => self.disk.lock().refuses = refuses.then_some(ErrorKind::StorageFull),
        }
        // The process ends with its power.
        if self.disk.lock().dead {
            self.step(&Step::PowerCut);
        }
    }

    fn send(&mut self) {
        let live = if self.live_first { self.queue.next_live() } else { None };
        if self.under_way.len() < 5
            && let Some((id, record)) = live.or_else(|| self.queue.next_of_backlog())
        {
            self.queue.handed_over(id);
            let number = number(&record);
            self.arrived.push(number);
            self.under_way.push_back((id, number));
        }
    }

    fn disconnect(&mut self) {
        self.queue.disconnected();
        self.under_way.clear();
    }

    /// One piece of work, if there is any.
    fn work(&mut self, flush: bool) -> Option<()> {
        let work = self.queue.work(Stamp::default(), self.now, true, flush)?;
        let done = self.keeper.carry_out(work, self.now);
        if let Done::Committed { batch, totals, .. } = &done {
            assert!(totals.bytes <= self.bounds.bytes, "{totals:?}");
            for (_, record) in &batch.append {
                self.at_risk.remove(&number(record));
            }
        }
        self.queue.done(done, self.now);
        Some(())
    }

    fn restart(&mut self) {
        self.crashed.append(&mut self.at_risk);
        self.under_way.clear();
        self.keeper = Keeper::at(Box::new(self.disk.clone()), self.bounds);
        self.queue = Queue::new(LIMITS, true, self.now);
        self.live_first = false;
    }

    /// Everything heals; what is there goes out.
    fn finish(&mut self) {
        (self.disk.lock().refuses, self.disk.lock().fails_at) = (None, None);
        self.step(&Step::Connect(false));
        for _ in 0..100_000 {
            self.now += Duration::from_secs(1);
            let worked = self.work(true);
            self.send();
            self.step(&Step::Acknowledge);
            if worked.is_none() && self.queue.is_empty() && *self.queue.storage() == Storage::Disk {
                return;
            }
        }
        panic!("the queue does not drain: {:?}", self.queue);
    }

    fn missing(&self) -> BTreeSet<u64> {
        (0..self.pushed).filter(|n| !self.acknowledged.contains(n)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// Nothing that was committed is lost, whatever happens to the process and its power; nothing that arrives is
    /// anything but what was queued.
    #[test]
    fn what_was_committed_arrives_over_crashes_at_any_write(steps in steps(), seed: u64) {
        let mut world = World::new(WIDE, seed);
        for step in &steps {
            // Memory alone is bounded more tightly, and may drop: that is the next test's matter.
            if matches!(step, Step::Push) && world.queue.len() >= 25 {
                continue;
            }
            world.step(step);
        }
        world.finish();
        prop_assert_eq!(world.disk.lock().aside, 0, "a crash damages nothing");
        let lost: Vec<u64> = world.missing().difference(&world.crashed).copied().collect();
        prop_assert_eq!(lost, Vec::<u64>::new());
        prop_assert_eq!(world.queue.dropped(), Dropped::default());
    }

    /// Whatever is missing at the end was counted, or a crash took it before its batch was committed; the bound is
    /// checked after every commit.
    #[test]
    fn what_is_dropped_is_the_oldest_and_is_counted_over_restarts(steps in steps(), seed: u64, crashes: bool) {
        let mut world = World::new(BOUNDS, seed);
        for step in &steps {
            let crash = matches!(step, Step::Kill | Step::PowerCut | Step::PowerCutAt(_));
            if crash && !crashes {
                // An orderly end.
                while world.work(true).is_some() {}
                if *world.queue.storage() == Storage::Disk {
                    world.restart();
                }
            } else {
                for _ in 0..if matches!(step, Step::Push) { 5 } else { 1 } {
                    world.step(step);
                }
            }
            prop_assert!(world.queue.entries.len() <= LIMITS.memory + READ_AHEAD + 5);
        }
        world.finish();
        // What was under way when it was dropped may have arrived all the same.
        let taken = if crashes { world.crashed.len() as u64 } else { 0 };
        prop_assert!(world.missing().len() as u64 <= world.queue.dropped().total() + taken);
    }

    /// Where order is asked for and the disk can be read, events arrive in it, apart from repetitions.
    #[test]
    fn order_holds(steps in steps(), seed: u64) {
        let mut world = World::new(WIDE, seed);
        for step in steps.iter().filter(|s| !matches!(s, Step::Refuse(_))) {
            match step {
                Step::Connect(_) => world.step(&Step::Connect(false)),
                // The store is there before anything is sent.
                Step::Send if *world.queue.storage() != Storage::Disk => {}
                Step::Push if world.queue.len() >= 25 => {}
                step => world.step(step),
            }
        }
        world.finish();
        let mut seen = BTreeSet::new();
        let first: Vec<u64> = world.arrived.iter().copied().filter(|n| seen.insert(*n)).collect();
        prop_assert!(first.is_sorted(), "{:?}", first);
    }

    /// A file with any bit flipped, or cut short, or overwritten: what arrives is intact, and the queue works on.
    #[test]
    fn nothing_corrupt_is_delivered(
        count in 1u64..80, flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..20),
        cut in prop::option::of(any::<prop::sample::Index>()), noise: bool, open: bool, seed: u64,
    ) {
        let mut world = World::new(WIDE, seed);
        for _ in 0..count {
            world.step(&Step::Push);
            while world.work(true).is_some() {}
        }
        {
            let mut platter = world.disk.lock();
            let length = platter.now.len();
            if let Some(cut) = cut { platter.now.truncate(cut.index(length)); }
            let length = platter.now.len().max(1);
            platter.now.resize(length, 0);
            if noise {
                let from = flips[0].0.index(length);
                let to = (from + 5000).min(length);
                platter.now[from..to].iter_mut().for_each(|b| *b ^= 0xa5);
            }
            flips.iter().for_each(|(at, bit)| platter.now[at.index(length)] ^= 1 << bit);
            platter.safe = platter.now.clone();
        }
        if !open { world.restart(); }
        for _ in 0..20 {
            world.step(&Step::Push);
            drop(world.work(true));
        }
        world.finish();
        let missing = world.missing();
        prop_assert!(missing.iter().all(|n| *n < count), "only what was in the file: {:?}", missing);
        if world.disk.lock().aside == 0 && open {
            prop_assert!(missing.len() as u64 <= world.queue.dropped().damaged);
        }
    }
}

fn limits(sync_events: usize) -> Limits {
    Limits { sync_events, memory: 100_000, ..LIMITS }
}

/// Appends one batch after the other, as an outage does.
fn append(store: &mut Store, ids: std::ops::Range<i64>, each: usize) {
    let ids: Vec<i64> = ids.collect();
    for ids in ids.chunks(each) {
        let append = ids.iter().map(|id| (*id, Arc::new(record(id.unsigned_abs())))).collect();
        store.commit(&Batch { append, ..Batch::default() }).expect("commit");
    }
}

#[test]
fn the_bound_holds_and_the_file_stays_below_twice_of_it() {
    let disk = Disk::default();
    let bounds = Bounds { bytes: 4 << 20, ..BOUNDS };
    let mut store = Store::on(disk.clone(), bounds, None).expect("store");
    append(&mut store, 0..20_000, 5);
    let totals = store.totals();
    let file = disk.lock().now.len() as u64;
    println!("{} KiB of {} events in a file of {} KiB", totals.bytes >> 10, totals.entries, file >> 10);
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
    assert!(queue.entries.len() <= super::KEEP, "{} in memory", queue.entries.len());
    queue.connected(false);
    while !queue.is_empty() {
        while let Some((id, _)) = queue.next_of_backlog() {
            queue.handed_over(id);
            queue.acknowledged(id, now);
        }
        while work(&mut queue, &mut keeper).is_some() {}
    }
    let empty = disk.lock().now.len();
    println!("a file of {} KiB, {} KiB when empty", full >> 10, empty >> 10);
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
    assert_eq!(hour(&mut queue, true), (0, 0, 0), "an hour at one event a second, acknowledged");
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
        drop(world.work(true));
    }
    assert!(matches!(world.queue.storage(), Storage::Away(reason) if reason.contains("the disk is full; make room")));
    world.step(&Step::Refuse(false));
    world.finish();
    assert_eq!(world.missing(), BTreeSet::new());
    assert_eq!(world.arrived, (0..20).collect::<Vec<_>>());
}

#[test]
fn what_is_too_old_is_dropped_and_counted() {
    let (disk, now) = (Disk::default(), Instant::now());
    let stamp = |s: u64| Stamp { boot: 1, monotonic_ns: s * 1_000_000_000, unix_ns: None };
    let mut queue = Queue::new(limits(10), true, now);
    let mut keeper = Keeper::at(Box::new(disk), BOUNDS);
    for n in 0..40u64 {
        queue.push(Record { queued: stamp(n * 180), ..record(n % 3) }, now);
        while let Some(work) = queue.work(stamp(n * 180), now, false, true) {
            let done = keeper.carry_out(work, now);
            queue.done(done, now);
        }
    }
    // Three minutes apart: 21 of them are no older than an hour.
    assert_eq!((queue.len(), queue.dropped().old), (21, 19));
    assert!(matches!(queue.work(stamp(0), now, false, true), None | Some(Work::Read(..))));
}
