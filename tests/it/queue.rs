//! Events that wait on disk: daemon and broker are killed, and nothing that was synced is lost.

use super::support::queue::{
    full_length, queue_config, queue_setup, stored_events, wait_stored, write_backlog,
};
use super::support::{
    Broker, Daemon, LIMIT, Message, Proxy, Subscriber, constancy, free_port, json_lines, seqs,
    wait_for,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

fn id(event: &Value) -> String {
    event["id"].as_str().expect("id").to_owned()
}

/// The events that a daemon without a process has left on disk.
fn left(daemon: &Daemon) -> Vec<Value> {
    stored_events(daemon.setup.folder.path()).expect("the file is whole after kill -9")
}

/// Starts the daemon again in the same folder once it has ended, with another configuration if there is one.
fn restart(mut daemon: Daemon, config: Option<&str>) -> Daemon {
    daemon.wait_exit(LIMIT);
    if let Some(text) = config {
        daemon.setup.write(text);
    }
    daemon.take_setup().start()
}

/// Asserts that the received events include all of `synced`, that each boot's are complete and in order, and that a
/// repeated one has the same `id` and content.
fn assert_nothing_lost(received: &[Value], synced: &BTreeSet<String>) {
    let mut by_id: BTreeMap<String, &Value> = BTreeMap::new();
    let mut boots: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in received {
        if let Some(before) = by_id.insert(id(event), event) {
            assert_eq!(before, event, "events with the same id are equal");
        } else {
            let boot = event["boot_id"].as_str().expect("boot_id");
            let seq = event["seq"].as_u64().expect("seq");
            boots.entry(boot).or_default().push(seq);
        }
    }
    for (boot, seqs) in &boots {
        let expected: Vec<u64> = (0..seqs.len() as u64).collect();
        assert_eq!(*seqs, expected, "boot {boot}: in order, without gaps");
    }
    let is_lost = |id: &&String| !by_id.contains_key(*id);
    let lost: Vec<&String> = synced.iter().filter(is_lost).collect();
    println!(
        "{} events of {} boots received, {} of them more than once; {} were on disk at a kill, {} of these lost",
        by_id.len(),
        boots.len(),
        received.len() - by_id.len(),
        synced.len(),
        lost.len()
    );
    assert!(lost.is_empty(), "{lost:?}");
}

fn events(messages: &[Message]) -> impl Iterator<Item = Value> + '_ {
    messages.iter().filter(|m| m.is_event()).map(Message::json)
}

/// A daemon and a broker that are killed at random moments.
struct Outages {
    daemon: Daemon,
    proxy: Proxy,
    /// `None` while it is down.
    broker: Option<(Broker, Subscriber)>,
    received: Vec<Value>,
    /// Ids of the events that were on disk when the daemon was killed.
    synced: BTreeSet<String>,
}

impl Outages {
    fn start(daemon: Daemon, port: u16) -> Self {
        let broker = Broker::start();
        let proxy = Proxy::to_broker(port, &broker);
        let subscriber = Subscriber::new(&broker);
        Self {
            daemon,
            proxy,
            broker: Some((broker, subscriber)),
            received: Vec::new(),
            synced: BTreeSet::new(),
        }
    }

    fn kill_daemon(mut self) -> Self {
        self.daemon.signal(libc::SIGKILL);
        self.daemon.wait_exit(LIMIT);
        self.synced.extend(left(&self.daemon).iter().map(id));
        self.daemon = restart(self.daemon, None);
        self
    }

    fn kill_broker(&mut self) {
        self.proxy.close();
        if let Some((broker, subscriber)) = self.broker.take() {
            broker.kill();
            subscriber.wait_closed();
            self.received.extend(events(&subscriber.messages()));
        }
    }

    fn start_broker(&mut self) {
        let broker = Broker::start();
        let subscriber = Subscriber::new(&broker);
        self.proxy.connect_to(&broker);
        self.broker = Some((broker, subscriber));
    }
}

/// The kills come at random times, so the sleeps wait for no condition.
#[test]
fn kill_nine_of_daemon_or_broker_at_any_moment_loses_nothing_that_was_synced() {
    let rounds = if full_length() { 20 } else { 6 };
    let port = free_port();
    let replay = "rate = 200.0\nloop = true\n";
    let queue = "sync_s = 0.2\nsync_events = 100\ndrain_per_s = 1000.0\ndrain_delay_s = 0.5\n";
    let daemon = queue_setup(port, replay, queue).start();
    let mut outages = Outages::start(daemon, port);
    let mut kills = [0, 0];
    for round in 0..rounds {
        sleep(Duration::from_millis(fastrand::u64(300..2500)));
        let is_broker = if round < 2 {
            round == 1
        } else {
            fastrand::bool()
        };
        kills[usize::from(is_broker)] += 1;
        if is_broker {
            outages.kill_broker();
            sleep(Duration::from_millis(fastrand::u64(0..1500)));
        }
        // With the broker down, much more is on disk when the daemon dies.
        if !is_broker || fastrand::bool() {
            outages = outages.kill_daemon();
        }
        if is_broker {
            outages.start_broker();
        }
    }
    outages.daemon.signal(libc::SIGTERM);
    // A recording that ends: the daemon leaves when everything is delivered.
    let mut daemon = restart(outages.daemon, Some(&queue_config(port, "", queue)));
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success());
    assert_eq!(left(&daemon), Vec::<Value>::new(), "all is delivered");
    if let Some((_broker, subscriber)) = outages.broker {
        subscriber.catch_up();
        outages.received.extend(events(&subscriber.messages()));
    }
    println!(
        "{} kills of the daemon, {} of the broker",
        kills[0], kills[1]
    );
    assert_nothing_lost(&outages.received, &outages.synced);
}

#[test]
fn what_waits_when_the_daemon_is_stopped_is_sent_after_the_next_start() {
    let port = free_port();
    let proxy = Proxy::without_broker(port);
    let replay = "rate = 50.0\nloop = true\n";
    let queue = "drain_per_s = 1000.0\nsync_s = 0.1\n";
    let no_delay = format!("{queue}drain_delay_s = 0.0\n");
    let daemon = queue_setup(port, replay, &no_delay).start();
    daemon.wait_log("next attempt in");
    wait_stored(daemon.setup.folder.path(), 20);
    daemon.signal(libc::SIGTERM);
    daemon.wait_log("messages wait on disk and are sent after the next start");
    let daemon = restart(daemon, Some(&queue_config(port, replay, queue)));
    daemon.wait_log("events wait from an earlier run");
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    proxy.connect_to(&broker);
    let received = subscriber.wait("events of two boots", |messages| {
        let events: Vec<Value> = events(messages).collect();
        let boots: BTreeSet<String> = events.iter().map(|e| e["boot_id"].to_string()).collect();
        (boots.len() == 2 && events.len() > 60).then_some(events)
    });
    assert_nothing_lost(&received, &BTreeSet::new());
}

/// What `constancy check` reports about the queue.
fn check_queue(daemon: &Daemon) -> String {
    let output = constancy()
        .args(["check", "--json", "--config"])
        .arg(daemon.setup.config())
        .output()
        .expect("it runs");
    let findings = json_lines(&output);
    let finding = findings.iter().find(|f| f["check"] == "queue");
    finding.expect("the queue is checked").to_string()
}

#[test]
fn check_reports_how_many_events_wait() {
    let replay = "rate = 50.0\nloop = true\n";
    let mut daemon = queue_setup(free_port(), replay, "sync_s = 0.1\n").start();
    daemon.wait_log("next attempt in");
    wait_stored(daemon.setup.folder.path(), 6);
    assert!(check_queue(&daemon).contains("in use by a running daemon"));
    daemon.signal(libc::SIGTERM);
    daemon.wait_log("messages wait on disk and are sent after the next start");
    daemon.wait_exit(LIMIT);
    let found = check_queue(&daemon);
    assert!(
        found.contains(&format!("{} events wait (", left(&daemon).len())),
        "{found}"
    );
    println!("{found}");
}

/// How long a message took from the frame to the subscriber, seconds.
fn lateness_s(message: &Message) -> f64 {
    let event = message.json();
    let captured: jiff::Timestamp = event["ts"].as_str().expect("ts").parse().expect("a time");
    let received = message.at.duration_since(SystemTime::UNIX_EPOCH);
    received.unwrap_or_default().as_secs_f64() - captured.as_millisecond() as f64 / 1e3
}

/// Messages in the second with the most of them.
fn peak_per_second(messages: &[&Message]) -> usize {
    let mut per_second = BTreeMap::<u64, usize>::new();
    for message in messages {
        let since = message.at.duration_since(messages[0].at);
        *per_second
            .entry(since.unwrap_or_default().as_secs())
            .or_default() += 1;
    }
    per_second.into_values().max().unwrap_or_default()
}

#[test]
fn a_backlog_drains_no_faster_than_configured_and_new_events_do_not_wait_behind_it() {
    let (count, rate) = if full_length() {
        (86_400, 1000)
    } else {
        (3_000, 300)
    };
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let queue = format!("drain_per_s = {rate}.0\ndrain_delay_s = 0.5\nlive_first = true\n");
    let setup = queue_setup(broker.port, "rate = 5.0\nloop = true\n", &queue);
    write_backlog(setup.folder.path(), count);
    let start = Instant::now();
    let daemon = setup.start();
    let is_old = |m: &Message| m.is_event() && m.payload.windows(8).any(|w| w == b"\"filler\"");
    let limit = Duration::from_secs(count / rate * 3 + 30);
    subscriber.wait_up_to(limit, "the backlog", |messages| {
        (messages.iter().filter(|m| is_old(m)).count() as u64 >= count).then_some(())
    });
    let took_s = start.elapsed().as_secs_f64();
    daemon.signal(libc::SIGTERM);
    let messages = subscriber.messages();
    let old: Vec<&Message> = messages.iter().filter(|m| is_old(m)).collect();
    let old_events: Vec<Value> = old.iter().map(|m| m.json()).collect();
    assert_eq!(
        seqs(&old_events),
        (0..count).collect::<Vec<_>>(),
        "in order, each once"
    );
    let last = old[old.len() - 1].at;
    let is_new = |m: &&Message| m.is_event() && !is_old(m) && m.at < last;
    let late_s: Vec<f64> = messages.iter().filter(is_new).map(lateness_s).collect();
    let worst_s = late_s.iter().copied().fold(0.0, f64::max);
    println!(
        "{count} events in {took_s:.1} s at {rate}/s, {} in the fullest second; {} new ones meanwhile, {worst_s:.3} s late at most",
        peak_per_second(&old),
        late_s.len()
    );
    // A busy machine can only be slower.
    assert!(
        took_s >= count as f64 / rate as f64 * 0.95,
        "no faster than configured"
    );
    // Behind the backlog, the first would have waited for all of it.
    assert!(!late_s.is_empty() && worst_s < took_s / 2.0, "{late_s:?}");
}

#[test]
fn a_full_queue_drops_the_oldest_events_and_their_count_survives_and_is_published() {
    let port = free_port();
    let proxy = Proxy::without_broker(port);
    let daemon = queue_setup(port, "loop = true\n", "max_mib = 1\nsync_s = 0.1\n").start();
    daemon.wait_log("next attempt in");
    wait_for("the oldest to be dropped", || {
        let stored = stored_events(daemon.setup.folder.path()).ok()?;
        (stored.first()?["seq"].as_u64()? > 100).then_some(())
    });
    daemon.signal(libc::SIGKILL);
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    proxy.connect_to(&broker);
    let replay = "rate = 1.0\nloop = true\n";
    let queue = "drain_per_s = 2000.0\ndrain_delay_s = 0.0\n";
    let daemon = restart(daemon, Some(&queue_config(port, replay, queue)));
    let report = subscriber
        .wait_message("bench/queue", |m| m.json()["storage"] == "disk")
        .json();
    let schema =
        serde_json::from_str(include_str!("../../docs/queue.schema.json")).expect("schema");
    jsonschema::validate(&schema, &report).expect("the report fits its schema");
    let dropped = report["dropped"]["full"].as_u64().expect("a count");
    let first = subscriber.wait_events(1)[0]["seq"].as_u64().expect("seq");
    println!("{dropped} dropped, the first that arrives is {first}");
    assert!(
        dropped > 100 && first == dropped,
        "every event that is missing was counted"
    );
    drop(daemon);
}
