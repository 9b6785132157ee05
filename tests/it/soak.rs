//! The daemon under faults at random: camera, network, disk, configuration and clock break, alone and together, and heal.
//! No event may be lost, and memory, descriptors and threads must not grow.
//!
//! `make test` runs it for seconds, `make soak` for an hour. `CONSTANCY_SOAK_SEED` repeats a run's faults.

mod faults;
mod world;

use super::support::Message;
use faults::{Fault, draw};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use world::{Sample, World};

/// Fewer rounds say nothing of growth: buffers and thread pools are still reaching their size.
const ROUNDS_FOR_GROWTH: usize = 60;

fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect(name))
}

#[test]
fn faults_at_random_lose_nothing_and_nothing_grows() {
    let length = Duration::from_secs(number_from_env("CONSTANCY_SOAK_SECONDS", 20));
    let seed = number_from_env("CONSTANCY_SOAK_SEED", fastrand::u64(..));
    println!("CONSTANCY_SOAK_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::start();
    let mut samples = Vec::new();
    let start = Instant::now();
    while start.elapsed() < length || samples.is_empty() {
        let faults = draw(&mut random, &world);
        let held = Duration::from_millis(random.u64(500..8000).min(length.as_millis() as u64 / 4));
        for fault in &faults {
            fault.begin(&mut world);
        }
        // The fault lasts: this is the experiment, not a wait for a condition.
        std::thread::sleep(held);
        for fault in &faults {
            fault.end(&mut world);
        }
        world.wait_healthy();
        let sample = world.sample();
        println!(
            "{:5} s  {:40} {:4.1} s  {sample}",
            start.elapsed().as_secs(),
            names(&faults),
            held.as_secs_f64()
        );
        samples.push(sample);
    }
    let messages = world.stop();
    assert_nothing_lost(&messages);
    report_growth(&samples);
}

fn names(faults: &[Fault]) -> String {
    let names: Vec<String> = faults.iter().map(|fault| format!("{fault:?}")).collect();
    names.join(" + ")
}

/// Each camera's events of the one boot are numbered from 0 without a gap. Some may come twice.
fn assert_nothing_lost(messages: &[Message]) {
    let mut seqs = BTreeMap::<String, BTreeSet<u64>>::new();
    let (mut boots, mut received) = (BTreeSet::new(), 0);
    for event in messages.iter().filter(|m| m.is_event()).map(Message::json) {
        received += 1;
        boots.insert(event["boot_id"].to_string());
        let seq = event["seq"].as_u64().expect("seq");
        seqs.entry(event["camera"].to_string())
            .or_default()
            .insert(seq);
    }
    assert_eq!(boots.len(), 1, "the daemon never restarted");
    let mut different = 0;
    for (camera, seqs) in &seqs {
        let missing: Vec<u64> = (0..=*seqs.last().expect("an event"))
            .filter(|s| !seqs.contains(s))
            .collect();
        assert!(
            missing.is_empty(),
            "camera {camera}: {} events are missing: {missing:?}",
            missing.len()
        );
        println!("camera {camera}: {} events, none missing", seqs.len());
        different += seqs.len();
    }
    println!("{} events came twice", received - different);
    let queue = messages
        .iter()
        .rev()
        .find(|m| m.topic.ends_with("bench/queue"));
    let dropped = queue.expect("the queue's report").json()["dropped"].take();
    let counts = dropped.as_object().expect("counts");
    assert!(
        counts.values().all(|count| count.as_u64() == Some(0)),
        "dropped {dropped}"
    );
}

/// Compares the last third of the run with the second; the first one warms up.
fn report_growth(samples: &[Sample]) {
    let third = samples.len() / 3;
    let second = Sample::median(&samples[third..samples.len().max(2 * third + 1) - third]);
    let last = Sample::median(&samples[samples.len() - third.max(1)..]);
    println!(
        "{} rounds of faults\nsecond third, median: {second}\nlast third, median:   {last}",
        samples.len()
    );
    if samples.len() < ROUNDS_FOR_GROWTH {
        println!("too few rounds to judge growth");
        return;
    }
    assert!(
        last.resident_kib as f64 <= second.resident_kib as f64 * 1.03 + 1024.0,
        "memory grows"
    );
    assert!(last.descriptors <= second.descriptors, "descriptors leak");
    assert!(last.threads <= second.threads, "threads leak");
}
