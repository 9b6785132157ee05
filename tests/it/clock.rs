//! A clock that jumps while events wait, with the real binary.

use super::queue::setup;
use super::support::{Broker, LIMIT, Link, Subscriber, free_port};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

const DAY_MS: i64 = 86_400_000;

/// libfaketime, which moves the wall clock of one process.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.map_while(Result::ok);
    let found = folders
        .map(|f| f.path().join("faketime/libfaketimeMT.so.1"))
        .find(|f| f.exists());
    if found.is_none() {
        println!("SKIPPED: libfaketime is not there; run tools/setup.sh");
    }
    found
}

fn ms(event: &Value) -> i64 {
    let ts: jiff::Timestamp = event["ts"].as_str().expect("ts").parse().expect("a time");
    ts.as_millisecond()
}

#[test]
fn a_clock_that_jumps_changes_no_order_and_loses_nothing() {
    let Some(library) = library() else { return };
    let port = free_port();
    let link = Link::nowhere(port);
    let queue = "sync_s = 0.1\nsync_events = 10\ndrain_per_s = 1000.0\ndrain_delay_s = 0.0\nmax_age_h = 24.0\n";
    let setup = setup(port, "rate = 40.0\nloop = true\n", queue);
    let clock = setup.path("clock");
    let jump = |to: &str| std::fs::write(&clock, to).expect("the clock is set");
    jump("-0");
    let mut daemon = setup
        .env("LD_PRELOAD", library.to_string_lossy())
        .env("FAKETIME_TIMESTAMP_FILE", clock.to_string_lossy())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .start();
    daemon.wait_log("next attempt in");
    for to in ["-0", "+400d", "-3d", "+2d"] {
        jump(to);
        std::thread::sleep(Duration::from_millis(600));
    }
    // And over a start anew, by a clock that is years behind.
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(LIMIT);
    jump("-2000d");
    let daemon = daemon.take_setup().start();
    daemon.wait_log("events wait from before");
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    link.lead_to(&broker);
    let boots = |heard: &[Value]| {
        let mut boots: Vec<Value> = heard.iter().map(|e| e["boot_id"].clone()).collect();
        boots.dedup();
        boots
    };
    let events = |heard: &[super::support::Heard]| {
        heard
            .iter()
            .filter(|h| h.is_event())
            .map(super::support::Heard::json)
            .collect::<Vec<_>>()
    };
    let heard = subscriber.wait("both starts", |heard| {
        let events = events(heard);
        let second = boots(&events).len() == 2
            && events.iter().rev().take_while(|e| e["seq"] != 0).count() > 20;
        second.then_some(events)
    });
    let report = subscriber
        .message("bench/queue", |h| h.json()["storage"] == "disk")
        .json();
    assert_eq!(
        report["dropped"]["old"], 0,
        "no clock that jumps makes an event old"
    );
    let starts = boots(&heard);
    assert_eq!(starts.len(), 2, "one start after the other: {starts:?}");
    let mut jumps = Vec::new();
    for boot in &starts {
        let of: Vec<&Value> = heard.iter().filter(|e| e["boot_id"] == *boot).collect();
        let seqs: Vec<u64> = of.iter().filter_map(|e| e["seq"].as_u64()).collect();
        assert_eq!(
            seqs,
            (0..seqs.len() as u64).collect::<Vec<_>>(),
            "in order, each once"
        );
        for pair in of.windows(2) {
            assert!(
                pair[0]["monotonic_ns"].as_u64() < pair[1]["monotonic_ns"].as_u64(),
                "{} {}",
                pair[0],
                pair[1]
            );
            let days = (ms(pair[1]) - ms(pair[0])) / DAY_MS;
            jumps.extend(Some(days).filter(|d| *d != 0));
        }
        assert!(of.iter().all(|e| e["clock_synced"].is_boolean()));
    }
    println!(
        "{} events over jumps of {jumps:?} days, none lost",
        heard.len()
    );
    assert!(
        jumps.iter().any(|d| *d > 300) && jumps.iter().any(|d| *d < -300),
        "the clock did jump: {jumps:?}"
    );
}
