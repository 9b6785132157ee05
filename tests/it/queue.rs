//! Events that wait on disk: daemon and broker are killed, and nothing that was synced is lost.

use super::support::{
    Broker, Daemon, Heard, LIMIT, Link, Setup, Subscriber, constancy, free_port, write_images,
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
/// Before the topic in a record.
const HEADER: usize = 34;

/// Whether to run at full length, as `make test-long` does.
pub fn long() -> bool {
    std::env::var_os("CONSTANCY_TEST_LONG").is_some()
}

fn config(port: u16, replay: &str, queue: &str) -> String {
    format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\n{replay}[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = 1\n[queue]\nfolder = \"state\"\n{queue}"
    )
}

pub fn setup(port: u16, replay: &str, queue: &str) -> Setup {
    let setup = Setup::new(&config(port, replay, queue));
    write_images(&setup.path("images"), 5);
    std::fs::create_dir(setup.path("state")).expect("folder");
    setup
}

fn id(event: &Value) -> String {
    event["id"].as_str().expect("id").to_owned()
}

/// The events in a queue's file, read from a copy and without the daemon's own code.
fn stored(folder: &Path) -> Vec<Value> {
    let file = folder.join("state/queue.redb");
    if !file.exists() {
        return Vec::new();
    }
    let copy = folder.join("copy.redb");
    std::fs::copy(&file, &copy).expect("copy");
    let db = Database::open(&copy).expect("the file is whole after kill -9");
    let Ok(events) = db.begin_read().expect("transaction").open_table(EVENTS) else {
        return Vec::new();
    };
    let event = |bytes: &[u8]| {
        let topic = usize::from(u16::from_le_bytes([bytes[32], bytes[33]]));
        serde_json::from_slice(&bytes[HEADER + topic..]).expect("an event")
    };
    events
        .iter()
        .expect("events")
        .map(|e| event(e.expect("event").1.value()))
        .collect()
}

/// Starts the daemon again on the same folder, with another configuration.
fn again(mut daemon: Daemon, config: Option<&str>) -> Daemon {
    daemon.wait_exit(LIMIT);
    if let Some(text) = config {
        daemon.setup.write(text);
    }
    daemon.take_setup().start()
}

/// What arrived, against what was on disk: complete, in order, and repeated only by `id`.
fn assert_nothing_lost(heard: &[Value], synced: &BTreeSet<String>) {
    let mut by_id: BTreeMap<String, &Value> = BTreeMap::new();
    let mut boots: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in heard {
        if let Some(before) = by_id.insert(id(event), event) {
            assert_eq!(before, event, "what has the same id is the same");
        } else {
            let boot = event["boot_id"].as_str().expect("boot_id");
            boots
                .entry(boot)
                .or_default()
                .push(event["seq"].as_u64().expect("seq"));
        }
    }
    for (boot, seqs) in &boots {
        let expected: Vec<u64> = (0..seqs.len() as u64).collect();
        assert_eq!(*seqs, expected, "boot {boot}: in order, without gaps");
    }
    let lost: Vec<&String> = synced
        .iter()
        .filter(|id| !by_id.contains_key(*id))
        .collect();
    println!(
        "{} events of {} boots heard, {} of them more than once; {} were on disk at a kill, {} of these lost",
        by_id.len(),
        boots.len(),
        heard.len() - by_id.len(),
        synced.len(),
        lost.len()
    );
    assert!(lost.is_empty(), "{lost:?}");
}

fn events(heard: &[Heard]) -> impl Iterator<Item = Value> + '_ {
    heard.iter().filter(|h| h.is_event()).map(Heard::json)
}

#[test]
fn kill_nine_of_daemon_or_broker_at_any_moment_loses_nothing_that_was_synced() {
    let rounds = if long() { 20 } else { 6 };
    let port = free_port();
    let mut at = Some(Broker::start());
    let mut subscriber = at.as_ref().map(Subscriber::new);
    let link = Link::open(port, at.as_ref().expect("a broker"));
    let replay = "rate = 200.0\nloop = true\n";
    let queue = "sync_s = 0.2\nsync_events = 100\ndrain_per_s = 1000.0\ndrain_delay_s = 0.5\n";
    let mut daemon = setup(port, replay, queue).start();
    let (mut heard, mut synced, mut kills) = (Vec::new(), BTreeSet::new(), [0, 0]);
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(fastrand::u64(300..2500)));
        // Sometimes the broker is away when the daemon dies: only then does much lie on disk.
        let which = if round < 2 {
            round
        } else {
            fastrand::usize(..2)
        };
        kills[which] += 1;
        if which == 1 {
            link.shut();
            at.take().into_iter().for_each(Broker::kill);
            std::thread::sleep(Duration::from_millis(fastrand::u64(0..1500)));
        }
        if which == 0 || fastrand::bool() {
            daemon.signal(libc::SIGKILL);
            daemon.wait_exit(LIMIT);
            synced.extend(stored(daemon.setup.folder.path()).iter().map(id));
            daemon = again(daemon, None);
        }
        if which == 1 {
            heard.extend(events(
                &subscriber
                    .take()
                    .map(|s: Subscriber| s.heard())
                    .unwrap_or_default(),
            ));
            let next = Broker::start();
            subscriber = Some(Subscriber::new(&next));
            link.lead_to(&next);
            at = Some(next);
        }
    }
    daemon.signal(libc::SIGTERM);
    // The rest goes out with a recording that ends.
    let mut daemon = again(daemon, Some(&config(port, "", queue)));
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success());
    assert_eq!(
        stored(daemon.setup.folder.path()),
        Vec::<Value>::new(),
        "everything is delivered"
    );
    heard.extend(events(&subscriber.map(|s| s.heard()).unwrap_or_default()));
    println!(
        "{} kills of the daemon, {} of the broker",
        kills[0], kills[1]
    );
    assert_nothing_lost(&heard, &synced);
}

#[test]
fn what_waits_when_the_daemon_is_stopped_is_sent_after_the_next_start() {
    let port = free_port();
    let link = Link::nowhere(port);
    let daemon = setup(
        port,
        "rate = 50.0\nloop = true\n",
        "drain_per_s = 1000.0\ndrain_delay_s = 0.0\n",
    )
    .start();
    daemon.wait_log("next attempt in");
    std::thread::sleep(Duration::from_millis(700));
    daemon.signal(libc::SIGTERM);
    daemon.wait_log("messages wait on disk and are sent after the next start");
    let daemon = again(
        daemon,
        Some(&config(
            port,
            "rate = 50.0\nloop = true\n",
            "drain_per_s = 1000.0\n",
        )),
    );
    daemon.wait_log("events wait from before");
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    link.lead_to(&broker);
    let heard = subscriber.wait("two boots", |heard| {
        let boots: BTreeSet<String> = events(heard).map(|e| e["boot_id"].to_string()).collect();
        (boots.len() == 2 && events(heard).count() > 60).then(|| events(heard).collect::<Vec<_>>())
    });
    assert_nothing_lost(&heard, &BTreeSet::new());
}

#[test]
fn check_tells_what_waits() {
    let daemon = setup(free_port(), "rate = 50.0\nloop = true\n", "sync_s = 0.1\n").start();
    daemon.wait_log("next attempt in");
    super::support::wait_for("events on disk", || {
        (stored(daemon.setup.folder.path()).len() > 5).then_some(())
    });
    let finding = |daemon: &Daemon| {
        let mut check = constancy();
        let output = check
            .args(["check", "--json", "--config"])
            .arg(daemon.setup.config())
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .find(|l| l.contains("\"queue\""))
            .expect("the queue is checked")
            .to_owned()
    };
    assert!(finding(&daemon).contains("in use by a daemon at present"));
    daemon.signal(libc::SIGTERM);
    daemon.wait_log("messages wait on disk and are sent after the next start");
    let mut daemon = daemon;
    daemon.wait_exit(LIMIT);
    let waiting = stored(daemon.setup.folder.path()).len();
    let found = finding(&daemon);
    assert!(
        found.contains(&format!("{waiting} events wait (")),
        "{found}"
    );
    println!("{found}");
}

/// Writes a queue's file as the daemon would have, independently of its code.
fn write_backlog(folder: &Path, count: u64) {
    let boot = "00000000-0000-4000-8000-000000000000";
    let db = Database::create(folder.join("state/queue.redb")).expect("file");
    let mut bytes_of_all = 0;
    for from in (0..count).step_by(5000) {
        let mut txn = db.begin_write().expect("transaction");
        txn.set_durability(redb::Durability::Immediate)
            .expect("durability");
        {
            let mut table = txn.open_table(EVENTS).expect("table");
            for seq in from..count.min(from + 5000) {
                let event = json!({"device": "bench", "camera": "belt", "boot_id": boot, "seq": seq,
                    "id": format!("bench/{boot}/belt/{seq}"), "ts": "2026-11-24T15:56:25.265Z", "filler": "x".repeat(500)});
                let topic = b"constancy/bench/belt/event";
                let mut rest = [
                    0u64.to_le_bytes(),
                    0u64.to_le_bytes(),
                    i64::MIN.to_le_bytes(),
                ]
                .concat();
                rest.extend(u16::try_from(topic.len()).expect("short").to_le_bytes());
                rest.extend(topic);
                rest.extend(event.to_string().into_bytes());
                let sum = Sha256::new()
                    .chain_update(seq.to_le_bytes())
                    .chain_update(&rest)
                    .finalize();
                let record = [&sum[..8], &rest].concat();
                bytes_of_all += record.len() as u64;
                table.insert(seq, record.as_slice()).expect("insert");
            }
            let mut totals = txn.open_table(TOTALS).expect("table");
            totals
                .insert("entries", count.min(from + 5000))
                .expect("insert");
            totals.insert("bytes", bytes_of_all).expect("insert");
        }
        txn.commit().expect("commit");
    }
}

#[test]
fn a_day_offline_drains_at_its_rate_while_new_events_are_not_late() {
    let (count, rate) = if long() { (86_400, 1000) } else { (3_000, 300) };
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let queue = format!("drain_per_s = {rate}.0\ndrain_delay_s = 0.5\nlive_first = true\n");
    let setup = setup(broker.port, "rate = 5.0\nloop = true\n", &queue);
    write_backlog(setup.folder.path(), count);
    let daemon = setup.start();
    let is_old = |h: &Heard| h.is_event() && h.payload.windows(8).any(|w| w == b"\"filler\"");
    let limit = Duration::from_secs(count / rate * 3 + 30);
    subscriber.wait_long("the backlog", limit, |heard| {
        (heard.iter().filter(|h| is_old(h)).count() as u64 >= count).then_some(())
    });
    daemon.signal(libc::SIGTERM);
    let heard = subscriber.heard();
    let old: Vec<&Heard> = heard.iter().filter(|h| is_old(h)).collect();
    let seqs: Vec<u64> = old
        .iter()
        .map(|h| h.json()["seq"].as_u64().expect("seq"))
        .collect();
    assert_eq!(seqs, (0..count).collect::<Vec<_>>(), "in order, each once");
    let since = |h: &Heard, from: SystemTime| h.at.duration_since(from).unwrap_or_default();
    let (first, last) = (old[0].at, old[old.len() - 1]);
    let took = since(last, first).as_secs_f64();
    let mut per_second = BTreeMap::<u64, u64>::new();
    for event in &old {
        *per_second.entry(since(event, first).as_secs()).or_default() += 1;
    }
    let peak = per_second.values().max().copied().unwrap_or_default();
    let late: Vec<f64> = heard
        .iter()
        .filter(|h| h.is_event() && !is_old(h) && h.at < last.at)
        .map(lateness)
        .collect();
    let worst = late.iter().copied().fold(0.0, f64::max);
    println!(
        "{count} events in {took:.1} s at {rate}/s, {peak} in the fullest second; {} new ones meanwhile, {worst:.3} s late at most",
        late.len()
    );
    assert!(
        took >= count as f64 / rate as f64 * 0.95,
        "no faster than configured"
    );
    assert!(peak as f64 <= rate as f64 * 1.25, "{per_second:?}");
    assert!(!late.is_empty() && worst < 2.0, "{late:?}");
}

/// Seconds from the frame to the subscriber.
fn lateness(heard: &Heard) -> f64 {
    let taken: jiff::Timestamp = heard.json()["ts"]
        .as_str()
        .expect("ts")
        .parse()
        .expect("a time");
    let at = heard
        .at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    at - taken.as_millisecond() as f64 / 1e3
}

#[test]
fn the_oldest_go_when_it_is_full_and_the_count_survives_and_is_published() {
    let port = free_port();
    let link = Link::nowhere(port);
    let daemon = setup(port, "loop = true\n", "max_mib = 1\nsync_s = 0.1\n").start();
    daemon.wait_log("next attempt in");
    let full = |daemon: &Daemon| {
        stored(daemon.setup.folder.path())
            .first()
            .map(|e| e["seq"].as_u64().expect("seq"))
    };
    super::support::wait_for("the oldest to be dropped", || {
        full(&daemon).filter(|seq| *seq > 100)
    });
    daemon.signal(libc::SIGKILL);
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    link.lead_to(&broker);
    let daemon = again(
        daemon,
        Some(&config(
            port,
            "rate = 1.0\nloop = true\n",
            "drain_per_s = 2000.0\ndrain_delay_s = 0.0\n",
        )),
    );
    let report = subscriber
        .message("bench/queue", |h| h.json()["storage"] == "disk")
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
