//! Simulates the queue, its disk worker and a broker, on a disk that fails in every way a disk can.

#![allow(clippy::cast_possible_truncation, reason = "a disk of a test is small")]

mod bounds;
mod disk;

use super::event_queue::READ_AHEAD;
use super::totals::Bounds;
use super::{DiskWorker, Dropped, EventQueue, QueueLimits, Record, Stamp, Storage, WorkOutcome};
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
const LIMITS: QueueLimits = QueueLimits {
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
        "a delivered event is bit-identical to the queued one"
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
    /// Power fails after this many writes.
    PowerCutAt(u64),
    Refuse(bool),
    /// Someone removes the queue's file.
    Remove,
    /// Someone moves the folder away, or back.
    Away(bool),
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
        1 => Just(Step::Remove),
        1 => any::<bool>().prop_map(Step::Away),
    ];
    prop::collection::vec(step, 0..250)
}

/// The process with its disk, and what the broker has received.
struct Simulation {
    disk: Disk,
    bounds: Bounds,
    random: fastrand::Rng,
    queue: EventQueue,
    worker: DiskWorker,
    now: Instant,
    live_first: bool,
    pushed: u64,
    /// Neither on disk nor acknowledged: what a crash may take.
    at_risk: BTreeSet<u64>,
    /// In a committed batch, and neither acknowledged nor taken by a crash.
    committed: BTreeSet<u64>,
    crashed: BTreeSet<u64>,
    /// A file was removed while the queue could not keep it open.
    unread_when_removed: bool,
    in_flight: VecDeque<(i64, u64)>,
    arrived: Vec<u64>,
    acknowledged: BTreeSet<u64>,
}

impl Simulation {
    fn new(bounds: Bounds, seed: u64) -> Self {
        let (disk, now) = (Disk::default(), Instant::now());
        Self {
            queue: EventQueue::new(LIMITS, true, now),
            worker: DiskWorker::at(Box::new(disk.clone()), bounds),
            disk,
            bounds,
            random: fastrand::Rng::with_seed(seed),
            now,
            live_first: false,
            pushed: 0,
            at_risk: BTreeSet::new(),
            committed: BTreeSet::new(),
            crashed: BTreeSet::new(),
            unread_when_removed: false,
            in_flight: VecDeque::new(),
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
                if let Some((id, number)) = self.in_flight.pop_front() {
                    self.queue.acknowledged(id, self.now);
                    self.acknowledged.insert(number);
                    self.at_risk.remove(&number);
                    self.committed.remove(&number);
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
                let mut disk = self.disk.lock();
                disk.fails_at = Some(disk.writes + writes);
            }
            Step::Refuse(refuses) => {
                self.disk.lock().refuses = refuses.then_some(ErrorKind::StorageFull);
            }
            // Nobody could tell that a file was removed that no process had open.
            Step::Remove if !self.worker.has_store() => {}
            Step::Remove => {
                self.disk.replace_file();
                self.at_risk.extend(&self.committed);
            }
            Step::Away(is_away) => self.disk.lock().is_away = *is_away,
        }
        // The process ends with its power.
        if self.disk.lock().powered_off {
            self.step(&Step::PowerCut);
        }
    }

    fn send(&mut self) {
        let live = if self.live_first {
            self.queue.next_live()
        } else {
            None
        };
        if self.in_flight.len() < 5
            && let Some((id, record)) = live.or_else(|| self.queue.next_of_backlog())
        {
            self.queue.handed_over(id);
            let number = number(&record);
            self.arrived.push(number);
            self.in_flight.push_back((id, number));
        }
    }

    fn disconnect(&mut self) {
        self.queue.disconnected();
        self.in_flight.clear();
    }

    /// Carries out one disk operation, if one is due.
    fn work(&mut self, flush: bool) -> Option<()> {
        let work = self.queue.work(Stamp::default(), self.now, true, flush)?;
        let outcome = self.worker.carry_out(work, self.now);
        match &outcome {
            WorkOutcome::Committed { batch, totals, .. } => {
                assert!(totals.bytes <= self.bounds.bytes, "{totals:?}");
                for (_, record) in &batch.append {
                    self.at_risk.remove(&number(record));
                    self.committed.insert(number(record));
                }
            }
            // What was in a removed file is in the new one.
            WorkOutcome::Opened(opened) if opened.is_complete => {
                self.at_risk.retain(|n| !self.committed.contains(n));
            }
            // A removed file that no process had open.
            WorkOutcome::Opened(_) => {
                self.unread_when_removed = true;
                self.crashed.append(&mut self.committed);
            }
            _ => {}
        }
        self.queue.done(outcome, self.now);
        Some(())
    }

    fn restart(&mut self) {
        self.committed.retain(|n| !self.at_risk.contains(n));
        self.crashed.append(&mut self.at_risk);
        self.in_flight.clear();
        self.worker = DiskWorker::at(Box::new(self.disk.clone()), self.bounds);
        self.queue = EventQueue::new(LIMITS, true, self.now);
        self.live_first = false;
    }

    /// Repairs the disk, reconnects, and sends everything.
    fn finish(&mut self) {
        {
            let mut disk = self.disk.lock();
            (disk.refuses, disk.fails_at, disk.is_away) = (None, None, false);
        }
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

    /// No committed event is lost, whatever happens to the process, its power, and the file while a process has it open;
    /// every event arrives as it was queued.
    #[test]
    fn committed_events_survive_crashes_at_any_write(steps in steps(), seed: u64) {
        let mut simulation = Simulation::new(WIDE, seed);
        for step in &steps {
            // Memory has a tighter bound, and may drop events: the next test covers that.
            if matches!(step, Step::Push) && simulation.queue.len() >= 25 {
                continue;
            }
            simulation.step(step);
        }
        simulation.finish();
        prop_assert_eq!(simulation.disk.lock().aside, 0, "a crash damages nothing");
        let lost: Vec<u64> = simulation.missing().difference(&simulation.crashed).copied().collect();
        prop_assert_eq!(lost, Vec::<u64>::new());
        if !simulation.unread_when_removed {
            prop_assert_eq!(simulation.queue.dropped(), Dropped::default());
        }
    }

    /// Every missing event was counted as dropped, or was taken by a crash before its batch was committed. The bound is
    /// checked after every commit.
    #[test]
    fn dropped_events_are_counted_over_restarts(steps in steps(), seed: u64, crashes: bool) {
        let mut simulation = Simulation::new(BOUNDS, seed);
        for step in &steps {
            let crash = matches!(step, Step::Kill | Step::PowerCut | Step::PowerCutAt(_));
            if crash && !crashes {
                // A clean shutdown.
                while simulation.work(true).is_some() {}
                if *simulation.queue.storage() == Storage::Disk {
                    simulation.restart();
                }
            } else {
                for _ in 0..if matches!(step, Step::Push) { 5 } else { 1 } {
                    simulation.step(step);
                }
            }
            prop_assert!(simulation.queue.in_memory() <= LIMITS.memory + READ_AHEAD + 5);
        }
        simulation.finish();
        // An event that was dropped in flight may still have arrived.
        let taken = if crashes { simulation.crashed.len() as u64 } else { 0 };
        prop_assert!(simulation.missing().len() as u64 <= simulation.queue.dropped().total() + taken);
    }

    /// Events arrive in order, apart from repetitions, unless live events go first or the disk cannot be read.
    #[test]
    fn order_holds(steps in steps(), seed: u64) {
        let mut simulation = Simulation::new(WIDE, seed);
        for step in steps.iter().filter(|s| !matches!(s, Step::Refuse(_) | Step::Away(_))) {
            match step {
                Step::Connect(_) => simulation.step(&Step::Connect(false)),
                // Nothing is sent before the store is open.
                Step::Send if *simulation.queue.storage() != Storage::Disk => {}
                Step::Push if simulation.queue.len() >= 25 => {}
                step => simulation.step(step),
            }
        }
        simulation.finish();
        let mut seen = BTreeSet::new();
        let first: Vec<u64> = simulation.arrived.iter().copied().filter(|n| seen.insert(*n)).collect();
        prop_assert!(first.is_sorted(), "{:?}", first);
    }

    /// A file with flipped bits, cut short or overwritten: events that arrive are intact, and the queue goes on working.
    #[test]
    fn nothing_corrupt_is_delivered(
        count in 1u64..80, flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..20),
        cut in prop::option::of(any::<prop::sample::Index>()), noise: bool, open: bool, seed: u64,
    ) {
        let mut simulation = Simulation::new(WIDE, seed);
        for _ in 0..count {
            simulation.step(&Step::Push);
            while simulation.work(true).is_some() {}
        }
        {
            let mut disk = simulation.disk.lock();
            let length = disk.now.len();
            if let Some(cut) = cut { disk.now.truncate(cut.index(length)); }
            let length = disk.now.len().max(1);
            disk.now.resize(length, 0);
            if noise {
                let from = flips[0].0.index(length);
                let to = (from + 5000).min(length);
                disk.now[from..to].iter_mut().for_each(|b| *b ^= 0xa5);
            }
            for (at, bit) in &flips { disk.now[at.index(length)] ^= 1 << bit; }
            disk.safe = disk.now.clone();
        }
        if !open { simulation.restart(); }
        for _ in 0..20 {
            simulation.step(&Step::Push);
            simulation.work(true);
        }
        simulation.finish();
        let missing = simulation.missing();
        prop_assert!(missing.iter().all(|n| *n < count), "only events of the file are missing: {:?}", missing);
        if simulation.disk.lock().aside == 0 && open {
            prop_assert!(missing.len() as u64 <= simulation.queue.dropped().damaged);
        }
    }
}
