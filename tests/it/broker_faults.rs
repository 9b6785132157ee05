//! The broker is late, dies, comes back; the daemon dies.

use super::support::{Broker, Daemon, LIMIT, Link, Setup, Subscriber, free_port, write_images};
use serde_json::Value;

fn replay(broker: &str) -> Setup {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 20.0\nloop = true\n[mqtt]\nbroker = \"{broker}\"\nbackoff_max_s = 1\n"
    ));
    write_images(&setup.path("images"), 5);
    setup
}

/// Every event once, in order, from 0.
fn assert_all(events: &[Value]) {
    assert_contiguous(events, 0);
}

fn assert_contiguous(events: &[Value], from: u64) {
    let mut seqs: Vec<u64> = events
        .iter()
        .map(|e| e["seq"].as_u64().expect("seq"))
        .collect();
    // What was under way when a connection broke may come twice; `id` tells.
    seqs.dedup();
    let expected: Vec<u64> = (from..from + seqs.len() as u64).collect();
    assert_eq!(seqs, expected);
}

#[test]
fn a_broker_that_is_absent_at_start_gets_everything_once_it_is_there() {
    let port = free_port();
    let daemon = replay(&format!("mqtt://127.0.0.1:{port}")).start();
    daemon.wait_log(
        "nothing listens there (connection refused); is the broker running, is the port right?",
    );
    daemon.wait_log("next attempt in");
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let _link = Link::open(port, &broker);
    subscriber.message("bench/status", |h| h.text() == "online");
    assert_all(&subscriber.wait_events(60));
}

#[test]
fn a_recording_that_ends_before_the_broker_is_there_is_delivered_whole() {
    let port = free_port();
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n"
    ));
    write_images(&setup.path("images"), 100);
    let mut daemon = setup.start();
    daemon.wait_log("every source has come to its end");
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let _link = Link::open(port, &broker);
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success());
    subscriber.message("bench/status", |h| h.text() == "stopped");
    let events = subscriber.events();
    assert_all(&events);
    assert_eq!(events.len(), 100);
}

#[test]
fn connections_that_break_lose_nothing() {
    let port = free_port();
    let (broker, setup) = (Broker::start(), replay(&format!("mqtt://127.0.0.1:{port}")));
    let text = std::fs::read_to_string(setup.config()).expect("configuration");
    std::fs::write(setup.config(), text.replace("rate = 20.0", "rate = 500.0"))
        .expect("configuration");
    let subscriber = Subscriber::new(&broker);
    let link = Link::open(port, &broker);
    let daemon = setup.start();
    for round in 1..=5 {
        daemon.wait_log_times("connected", round);
        subscriber.wait_events(subscriber.events().len() + 100);
        link.cut();
        daemon.wait_log_times("next attempt in", round);
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut events = subscriber.wait_events(subscriber.events().len() + 500);
    let all = events.len();
    events.retain(|e| seen.insert(e["id"].as_str().expect("id").to_owned()));
    println!("{all} events heard, {} of them twice", all - events.len());
    events.sort_by_key(|e| e["seq"].as_u64());
    assert_all(&events);
}

#[test]
fn events_resume_and_the_status_is_right_after_the_broker_was_killed() {
    let broker = Broker::start();
    let port = broker.port;
    let subscriber = Subscriber::new(&broker);
    let daemon = replay(&broker.url()).start();
    let before = subscriber.wait_events(5);
    assert_all(&before);
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
    // A broker that has forgotten everything must learn the retained topics anew.
    let late = Subscriber::new(&broker);
    late.message("bench/status", |h| h.text() == "online" && h.retained);
}

#[test]
fn the_state_is_retained_for_whoever_comes_later() {
    let broker = Broker::start();
    let daemon = replay(&broker.url()).start();
    Subscriber::new(&broker).wait_events(10);
    let late = Subscriber::new(&broker);
    let state = late.message("bench/belt/state", |h| h.retained).json();
    assert!(["a gear", "a bolt"].contains(&state["class"].as_str().expect("class")));
    assert_eq!(state["fault"], Value::Null);
    let schema =
        serde_json::from_str(include_str!("../../docs/state.schema.json")).expect("schema");
    jsonschema::validate(&schema, &state).expect("the state fits its schema");
    drop(daemon);
}

#[test]
fn a_retained_state_comes_back_with_a_broker_that_forgot_it() {
    let broker = Broker::start();
    let port = broker.port;
    // One picture again and again: the state does not change by itself.
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
    late.message("bench/belt/state", |h| h.json()["class"].is_string());
}

#[test]
fn the_will_is_delivered_after_sigkill() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let mut daemon: Daemon = replay(&broker.url()).start();
    subscriber.message("bench/status", |h| h.text() == "online");
    subscriber.wait_events(1);
    daemon.signal(libc::SIGKILL);
    daemon.wait_exit(LIMIT);
    subscriber.message("bench/status", |h| h.text() == "offline");
    Subscriber::new(&broker).message("bench/status", |h| h.retained && h.text() == "offline");
}
