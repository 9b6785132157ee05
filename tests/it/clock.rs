//! The wall clock jumps while events wait, with the real binary.

use super::support::clock::{libfaketime, with_fake_clock};
use super::support::queue::{queue_setup, wait_stored};
use super::support::{
    Broker, Daemon, LIMIT, Message, Proxy, Setup, Subscriber, assert_numbered_from_zero, free_port,
};
use serde_json::Value;
use std::path::Path;

const DAY_MS: i64 = 86_400_000;
/// More events than can be queued and not yet stored, at this test's rate and `sync_events`.
const STORED_AFTER_A_JUMP: usize = 20;

/// A daemon whose wall clock reads its offset from the file `clock`.
fn setup(port: u16, library: &Path) -> Setup {
    let queue = "sync_s = 0.1\nsync_events = 10\ndrain_per_s = 1000.0\ndrain_delay_s = 0.0\nmax_age_h = 24.0\n";
    let setup = queue_setup(port, "rate = 40.0\nloop = true\n", queue);
    with_fake_clock(setup, library)
}

/// Moves the daemon's clock to these offsets one after another, with events in between.
fn jump(daemon: &Daemon, offsets: &[&str]) {
    let mut stored = 0;
    for offset in offsets {
        std::fs::write(daemon.setup.path("clock"), offset).expect("the clock is set");
        let events = wait_stored(daemon.setup.folder.path(), stored + STORED_AFTER_A_JUMP);
        stored = events.len();
    }
}

/// The boots of these events, in the order of arrival.
fn boots(events: &[Value]) -> Vec<Value> {
    let mut boots: Vec<Value> = events.iter().map(|e| e["boot_id"].clone()).collect();
    boots.dedup();
    boots
}

/// The jumps of the clock between one event and the next, in days. Asserts that the monotonic clock never falls.
fn jumps_in_days(events: &[Value]) -> Vec<i64> {
    let ms = |event: &Value| {
        let ts = event["ts"].as_str().expect("ts");
        let ts: jiff::Timestamp = ts.parse().expect("a time");
        ts.as_millisecond()
    };
    let mut jumps = Vec::new();
    for pair in events.windows(2) {
        assert!(
            pair[0]["monotonic_ns"].as_u64() < pair[1]["monotonic_ns"].as_u64(),
            "{} {}",
            pair[0],
            pair[1]
        );
        let days = (ms(&pair[1]) - ms(&pair[0])) / DAY_MS;
        jumps.extend(Some(days).filter(|d| *d != 0));
    }
    jumps
}

#[test]
fn a_clock_that_jumps_changes_no_order_and_loses_nothing() {
    let Some(library) = libfaketime() else { return };
    let port = free_port();
    let proxy = Proxy::without_broker(port);
    let setup = setup(port, &library);
    std::fs::write(setup.path("clock"), "-0").expect("the clock is set");
    let mut daemon = setup.start();
    daemon.wait_log("next attempt in");
    jump(&daemon, &["-0", "+400d", "-3d", "+2d"]);
    // The clock also jumps while the daemon is down, years back.
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(LIMIT);
    std::fs::write(daemon.setup.path("clock"), "-2000d").expect("the clock is set");
    let daemon = daemon.take_setup().start();
    daemon.wait_log("events wait from an earlier run");
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    proxy.connect_to(&broker);
    let received = subscriber.wait("both boots", |messages| {
        let events = messages.iter().filter(|m| m.is_event()).map(Message::json);
        let events: Vec<Value> = events.collect();
        let of_second = events.iter().rev().take_while(|e| e["seq"] != 0).count();
        (boots(&events).len() == 2 && of_second > 20).then_some(events)
    });
    let report = subscriber
        .wait_message("bench/queue", |m| m.json()["storage"] == "disk")
        .json();
    assert_eq!(
        report["dropped"]["old"], 0,
        "a clock that jumps makes no event old"
    );
    let boots = boots(&received);
    assert_eq!(boots.len(), 2, "one boot after the other: {boots:?}");
    let mut jumps = Vec::new();
    for boot in &boots {
        let of_boot = received.iter().filter(|e| e["boot_id"] == *boot);
        let of_boot: Vec<Value> = of_boot.cloned().collect();
        assert_numbered_from_zero(&of_boot);
        jumps.extend(jumps_in_days(&of_boot));
        assert!(of_boot.iter().all(|e| e["clock_synced"].is_boolean()));
    }
    println!(
        "{} events over jumps of {jumps:?} days, none lost",
        received.len()
    );
    assert!(
        jumps.iter().any(|d| *d > 300) && jumps.iter().any(|d| *d < -300),
        "the clock did jump: {jumps:?}"
    );
}
