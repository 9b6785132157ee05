//! What a broker cannot take, does not acknowledge, or sends too much of.

use super::support::{
    Broker, FakeBroker, LIMIT, Setup, Subscriber, constancy, free_port, stdout, wait_for,
    write_images,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A camera `belt`. `mqtt` are lines of `[mqtt]` and what follows.
fn config(port: u16, mqtt: &str) -> String {
    format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 20.0\nloop = true\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n{mqtt}"
    )
}

fn setup(port: u16, mqtt: &str) -> Setup {
    let setup = Setup::new(&config(port, mqtt));
    write_images(&setup.path("images"), 4);
    setup
}

fn count(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn messages_that_a_broker_closes_the_connection_for_are_named_and_dropped() {
    let limit = "allow_anonymous true\nmax_packet_size 4000\n";
    let broker = Broker::with_config(free_port(), limit, |_| ());
    let subscriber = Subscriber::new(&broker);
    let setup = setup(broker.port, "");
    // Events that list these classes are larger than the broker's limit; the state is not.
    let labels: Vec<String> = (0..40)
        .map(|i| format!("{i} {}", "x".repeat(190)))
        .collect();
    setup.replace(
        "labels = [\"a gear\", \"a bolt\"]",
        &format!("labels = {}\ntop_k = 40", json!(labels)),
    );
    let daemon = setup.start();
    daemon.wait_log("2 times right after constancy/bench/belt/event, ");
    daemon.wait_log("are dropped from now on. See the broker's limit");
    daemon.wait_log("cannot be sent and is dropped: the broker has taken ");
    let dropped = |m: &super::support::Message| m.json()["dropped"]["oversized"].as_u64();
    let report = subscriber
        .wait_message("bench/queue", |m| dropped(m).is_some_and(|n| n > 20))
        .json();
    let schema = include_str!("../../docs/queue.schema.json");
    jsonschema::validate(&serde_json::from_str(schema).expect("schema"), &report)
        .expect("the report matches its schema");
    subscriber.wait_message("belt/state", |m| m.json()["class"].is_string());
    let log = daemon.log();
    assert_eq!(count(&log, ": connected"), 4, "{log}");
    assert!(count(&log, "cannot be sent and is dropped") <= 6, "{log}");
    drop(daemon);
}

#[test]
fn a_large_message_on_the_devices_own_discovery_topic_stops_nothing() {
    let topic = "homeassistant/device/constancy_bench/config";
    for value in [
        "{}",
        "{\"p\":\"sensor\",\"unique_id\":\"constancy_bench_x\"}",
    ] {
        let broker = Broker::start();
        let subscriber = Subscriber::with_filter(&broker, "#");
        let components = (0..).map(|i| format!("\"c{i:06}\":{value}"));
        let count_of = 830_000 / (value.len() + 11);
        let components: Vec<String> = components.take(count_of).collect();
        let foreign = format!("{{\"cmps\":{{{}}}}}", components.join(","));
        subscriber.publish(topic, foreign.as_bytes(), true);
        subscriber.wait_message(topic, |_| true);
        let daemon = setup(broker.port, "[homeassistant]\ndiscovery = true\n").start();
        subscriber.wait_events(10);
        let late = || {
            let late = Subscriber::with_filter(&broker, topic);
            late.wait_message(topic, |_| true)
        };
        wait_for("the device's own message", || {
            let last = late().json();
            let own = last["cmps"].as_object()?;
            (own.len() == 7 && own.contains_key("belt_class")).then_some(())
        });
        assert_eq!(count(&daemon.log(), ": connected"), 1, "{}", daemon.log());
    }
}

#[test]
fn labels_that_are_too_long_are_refused_with_their_beginning() {
    let setup = setup(free_port(), "");
    let (long, line) = ("gear ".repeat(240_000), "a gear\\n[forged] line");
    for (label, expected) in [
        (long.as_str(), "has 1200000 characters, expected 1 to 200"),
        (line, "has control characters"),
    ] {
        setup.replace("a bolt", label);
        let output = constancy()
            .arg("check")
            .arg("--config")
            .arg(setup.config())
            .output()
            .expect("it runs");
        let said = stdout(&output);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(
            said.contains("`classes.labels` is wrong: label \""),
            "{said}"
        );
        assert!(said.contains(expected) && said.len() < 1000, "{said}");
        setup.replace(label, "a bolt");
    }
}

#[test]
fn a_limit_below_every_event_is_named() {
    let limit = "allow_anonymous true\nmax_packet_size 200\n";
    let broker = Broker::with_config(free_port(), limit, |_| ());
    let daemon = setup(broker.port, "").start();
    daemon.wait_log("2 times right after constancy/bench/");
    daemon.wait_log("the largest packet that it has taken has ");
    daemon.wait_log("See the broker's limit (mosquitto: max_packet_size) and its access rules");
    daemon.wait_log_times(": connected", 4);
    assert!(!daemon.log().contains("another client"), "{}", daemon.log());
}

#[test]
fn a_broker_that_answers_no_subscription_is_named_and_kept() {
    let broker = FakeBroker::without_subscriptions();
    let commands = "keep_alive_s = 5\ncommands = [\"threshold\"]\n";
    let daemon = setup(broker.port, commands).start();
    daemon.wait_log("has not answered the subscription to constancy/bench/+/set/+ for 1");
    daemon.wait_log(
        "has not answered the subscription to constancy/bench/+/set/+ on a second connection either: events are published",
    );
    let (log, seen) = (daemon.log(), broker.published().len());
    assert!(!log.contains("acknowledged nothing"), "{log}");
    wait_for("more events on the same connection", || {
        (broker.published().len() > seen + 20).then_some(())
    });
    assert_eq!(broker.connections(), 2);
}

#[test]
fn a_broker_that_refuses_is_quoted_and_not_hammered_while_stopping() {
    let broker = FakeBroker::with_code(3);
    let mut daemon = setup(broker.port, "").start();
    daemon.wait_log("says that it is unavailable");
    let before = broker.connections();
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(LIMIT);
    let after = broker.connections() - before;
    assert!(after <= 6, "{after} attempts");
}

#[test]
fn lost_acknowledgements_make_it_connect_and_send_again() {
    let broker = FakeBroker::start();
    let daemon = setup(broker.port, "keep_alive_s = 5\n").start();
    daemon.wait_log("has acknowledged nothing for 1");
    let lost = broker.published().len();
    broker.acknowledge();
    let seqs = |from: usize| -> BTreeSet<u64> {
        let published = broker.published();
        let events = published
            .iter()
            .skip(from)
            .filter(|(t, _)| t.ends_with("/event"));
        let json = events.map(|(_, p)| serde_json::from_slice::<Value>(p).expect("JSON"));
        json.filter_map(|e| e["seq"].as_u64()).collect()
    };
    let sent_again = wait_for("the events again, and more", || {
        let seqs = seqs(lost);
        (seqs.len() >= 60).then_some(seqs)
    });
    let expected: BTreeSet<u64> = (0..sent_again.len() as u64).collect();
    assert_eq!(sent_again, expected);
    assert!(broker.connections() >= 2);
    drop(daemon);
}

#[test]
fn a_flood_of_commands_is_answered_at_a_limited_rate_and_the_rest_is_counted() {
    const FLOOD: u64 = 3000;
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(broker.port, "commands = [\"threshold\"]\n").start();
    subscriber.wait_events(1);
    for _ in 0..FLOOD {
        subscriber.publish("constancy/bench/belt/set/threshold", b"7", false);
    }
    subscriber.catch_up();
    let (results, refused) = wait_for("every command's answer, or its count", || {
        let messages = subscriber.messages();
        let results = messages.iter().filter(|m| m.topic.ends_with("/result"));
        let log = daemon.log();
        let counted = log.lines().filter_map(|line| {
            let (before, _) = line.split_once(" commands came too fast")?;
            before.rsplit(' ').next()?.parse::<u64>().ok()
        });
        let (results, refused) = (results.count() as u64, counted.sum::<u64>());
        (results + refused == FLOOD).then_some((results, refused))
    });
    assert!(results >= 20 && refused > FLOOD / 2, "{results}, {refused}");
    let log = daemon.log();
    assert_eq!(count(&log, "command constancy/") as u64, results, "{log}");
    subscriber.publish("constancy/bench/belt/set/threshold", b"0.5", false);
    subscriber.wait_message("threshold/result", |m| m.json()["ok"] == true);
    drop(daemon);
}

#[test]
fn a_password_without_tls_is_warned_of_at_start_and_by_check() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = setup(
        broker.port,
        "username = \"bench\"\npassword_file = \"password\"\n",
    );
    std::fs::write(setup.path("password"), "secret\n").expect("password");
    let warning = "the password crosses the network unencrypted";
    let check = constancy()
        .arg("check")
        .arg("--config")
        .arg(setup.config())
        .output()
        .expect("it runs");
    assert!(check.status.success(), "{}", stdout(&check));
    assert!(stdout(&check).contains(warning), "{}", stdout(&check));
    let daemon = setup.start();
    subscriber.wait_events(3);
    assert_eq!(count(&daemon.log(), warning), 1, "{}", daemon.log());
    assert!(!daemon.log().contains("secret"));
    drop(daemon);
}
