//! The broker starts late, dies and comes back; the daemon dies.

use super::support::{
    Broker, Daemon, LIMIT, Proxy, Setup, Subscriber, free_port, seqs, write_images,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// A daemon that replays five images in a loop.
fn replay(broker: &str) -> Setup {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 20.0\nloop = true\n[mqtt]\nbroker = \"{broker}\"\nbackoff_max_s = 1\n"
    ));
    write_images(&setup.path("images"), 5);
    setup
}

/// Asserts that the events are in order, from number `from` on, without gaps. One may come twice: it was in flight when
/// a connection broke.
fn assert_contiguous(events: &[Value], from: u64) {
    let mut seqs = seqs(events);
    seqs.dedup();
    let expected: Vec<u64> = (from..from + seqs.len() as u64).collect();
    assert_eq!(seqs, expected);
}

#[test]
fn a_broker_that_starts_late_gets_every_event() {
    let port = free_port();
    let daemon = replay(&format!("mqtt://127.0.0.1:{port}")).start();
    daemon.wait_log(
        "nothing listens there (connection refused); is the broker running, is the port right?",
    );
    daemon.wait_log("next attempt in");
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let _proxy = Proxy::to_broker(port, &broker);
    subscriber.wait_message("bench/status", |h| h.text() == "online");
    assert_contiguous(&subscriber.wait_events(60), 0);
}

#[test]
fn a_recording_that_ends_before_the_broker_starts_is_delivered_whole() {
    let port = free_port();
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n"
    ));
    write_images(&setup.path("images"), 100);
    let mut daemon = setup.start();
    daemon.wait_log("every source has come to its end");
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let _proxy = Proxy::to_broker(port, &broker);
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success());
    subscriber.wait_message("bench/status", |h| h.text() == "stopped");
    let events = subscriber.events();
    assert_contiguous(&events, 0);
    assert_eq!(events.len(), 100);
}

#[test]
fn connections_that_break_lose_nothing() {
    let port = free_port();
    let (broker, setup) = (Broker::start(), replay(&format!("mqtt://127.0.0.1:{port}")));
    setup.replace("rate = 20.0", "rate = 500.0");
    let subscriber = Subscriber::new(&broker);
    let proxy = Proxy::to_broker(port, &broker);
    let daemon = setup.start();
    for round in 1..=5 {
        daemon.wait_log_times("connected", round);
        subscriber.wait_events(subscriber.events().len() + 100);
        proxy.drop_connections();
        daemon.wait_log_times("next attempt in", round);
    }
    let mut ids = BTreeSet::new();
    let mut events = subscriber.wait_events(subscriber.events().len() + 500);
    let all = events.len();
    events.retain(|e| ids.insert(e["id"].as_str().expect("id").to_owned()));
    println!(
        "{all} events received, {} of them twice",
        all - events.len()
    );
    events.sort_by_key(|e| e["seq"].as_u64());
    assert_contiguous(&events, 0);
}

#[test]
fn after_the_broker_was_killed_events_resume_and_the_status_is_right() {
    let broker = Broker::start();
    let port = broker.port;
    let subscriber = Subscriber::new(&broker);
    let daemon = replay(&broker.url()).start();
    let before = subscriber.wait_events(5);
    assert_contiguous(&before, 0);
    broker.kill();
    daemon.wait_log_times("next attempt in", 2);
    let broker = Broker::start_on(port);
    let subscriber = Subscriber::new(&broker);
    let after = subscriber.wait_events(30);
    let first = after[0]["seq"].as_u64().expect("seq");
    assert_contiguous(&after, first);
    assert_eq!(
        after[0]["boot_id"], before[0]["boot_id"],
        "it is the same daemon"
    );
    // The new broker has no retained topics: the daemon must publish them again.
    let late = Subscriber::new(&broker);
    late.wait_message("bench/status", |h| h.text() == "online" && h.retained);
}

#[test]
fn the_state_is_retained_for_late_subscribers() {
    let broker = Broker::start();
    let daemon = replay(&broker.url()).start();
    Subscriber::new(&broker).wait_events(10);
    let late = Subscriber::new(&broker);
    let state = late.wait_message("bench/belt/state", |h| h.retained).json();
    assert!(["a gear", "a bolt"].contains(&state["class"].as_str().expect("class")));
    assert_eq!(state["fault"], Value::Null);
    let schema =
        serde_json::from_str(include_str!("../../docs/state.schema.json")).expect("schema");
    jsonschema::validate(&schema, &state).expect("the state matches its schema");
    drop(daemon);
}

#[test]
fn the_retained_state_is_published_again_to_a_new_broker() {
    let broker = Broker::start();
    let port = broker.port;
    // The same image again and again, so the state itself does not change.
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 20.0\nloop = true\n[mqtt]\nbroker = \"{}\"\nbackoff_max_s = 1\n",
        broker.url()
    ));
    write_images(&setup.path("images"), 1);
    let daemon = setup.start();
    Subscriber::new(&broker).wait_events(3);
    broker.kill();
    daemon.wait_log("next attempt in");
    let broker = Broker::start_on(port);
    let late = Subscriber::new(&broker);
    late.wait_message("bench/belt/state", |h| h.json()["class"].is_string());
}

#[test]
fn the_will_message_is_delivered_after_sigkill() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let mut daemon: Daemon = replay(&broker.url()).start();
    subscriber.wait_message("bench/status", |h| h.text() == "online");
    subscriber.wait_events(1);
    daemon.signal(libc::SIGKILL);
    daemon.wait_exit(LIMIT);
    subscriber.wait_message("bench/status", |h| h.text() == "offline");
    Subscriber::new(&broker).wait_message("bench/status", |h| h.retained && h.text() == "offline");
}
