//! The queue, its keeper and a broker against a model, on a disk that fails in every way a disk can.

#![allow(clippy::cast_possible_truncation, reason = "a disk of a test is small")]

mod bounds;
mod disk;

use super::store::Bounds;
use super::{Done, Dropped, Keeper, Limits, Queue, READ_AHEAD, Record, Stamp, Storage};
use disk::Disk;
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

const BOUNDS: Bounds = Bounds {
    bytes: 40_000,
    age: Duration::from_secs(3600),
};
const WIDE: Bounds = Bounds {
    bytes: 1 << 30,
    ..BOUNDS
};
const LIMITS: Limits = Limits {
    sync_every: Duration::from_secs(5),
    sync_events: 7,
    memory: 30,
    age: Duration::from_secs(3600),
};
/// The payload of the event with this number: its bytes follow from it.
fn payload(number: u64) -> Vec<u8> {
    let length = 40 + number.wrapping_mul(7919) % 1400;
    number
        .to_be_bytes()
        .into_iter()
        .chain((0..length).map(|i| (number ^ i) as u8))
        .collect()
}

fn record(number: u64) -> Record {
    Record {
        topic: "t/belt/event".into(),
        payload: payload(number),
        queued: Stamp::default(),
    }
}

fn number(record: &Record) -> u64 {
    let number = u64::from_be_bytes(*record.payload.first_chunk().expect("a number"));
    assert_eq!(
        *record,
        self::record(number),
        "what is delivered is what was queued, to the bit"
    );
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
            Step::Work => _ = self.work(false),
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
            Step::Refuse(refuses) => {
                self.disk.lock().refuses = refuses.then_some(ErrorKind::StorageFull)
            }
        }
        // The process ends with its power.
        if self.disk.lock().dead {
            self.step(&Step::PowerCut);
        }
    }

    fn send(&mut self) {
        let live = if self.live_first {
            self.queue.next_live()
        } else {
            None
        };
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
        (0..self.pushed)
            .filter(|n| !self.acknowledged.contains(n))
            .collect()
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
            for (at, bit) in &flips { platter.now[at.index(length)] ^= 1 << bit; }
            platter.safe = platter.now.clone();
        }
        if !open { world.restart(); }
        for _ in 0..20 {
            world.step(&Step::Push);
            world.work(true);
        }
        world.finish();
        let missing = world.missing();
        prop_assert!(missing.iter().all(|n| *n < count), "only what was in the file: {:?}", missing);
        if world.disk.lock().aside == 0 && open {
            prop_assert!(missing.len() as u64 <= world.queue.dropped().damaged);
        }
    }
}
