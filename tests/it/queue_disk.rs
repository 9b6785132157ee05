//! The disk under the queue is full, read-only or damaged: the daemon reports it, keeps running, and recovers.

use super::support::queue::queue_setup;
use super::support::{Broker, LIMIT, Proxy, Setup, Subscriber, Tmpfs, free_port, seqs, wait_for};

const REPLAY: &str = "rate = 100.0\nloop = true\n";
const QUEUE: &str = "sync_s = 0.1\ndrain_per_s = 2000.0\ndrain_delay_s = 0.0\n";

/// Waits for `count` events, which must be numbered from 0 without gaps. One may be delivered twice.
fn assert_all(subscriber: &Subscriber, count: usize) {
    let mut seqs = seqs(&subscriber.wait_events(count));
    seqs.dedup();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_is_reported_and_no_event_is_lost() {
    let port = free_port();
    let proxy = Proxy::without_broker(port);
    let setup = queue_setup(port, REPLAY, QUEUE);
    let Some(tmpfs) = Tmpfs::on(&setup.path("state"), "size=600k") else {
        return;
    };
    let daemon = setup.start();
    daemon.wait_log("the disk is full; make room, or lower `queue.max_mib`. Events wait in memory");
    // The events on a full disk can be read, so the order holds.
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    proxy.connect_to(&broker);
    subscriber.wait_message("bench/queue", |h| {
        h.json()["fault"]
            .as_str()
            .is_some_and(|f| f.contains("the disk is full"))
    });
    assert_all(&subscriber, 500);
    tmpfs.remount("size=64m");
    daemon.wait_log("it can be written again; events go to disk again");
    let now = subscriber.events().len();
    assert_all(&subscriber, now + 200);
    subscriber.wait_message("bench/queue", |h| {
        h.json()["storage"] == "disk" && h.json()["fault"].is_null()
    });
    drop(daemon);
}

#[test]
fn a_read_only_disk_is_reported_and_no_event_is_lost() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = queue_setup(broker.port, REPLAY, QUEUE);
    let Some(tmpfs) = Tmpfs::on(&setup.path("state"), "size=64m,ro") else {
        return;
    };
    let daemon = setup.start();
    daemon.wait_log("the file system is read-only; remount it");
    let report = subscriber
        .wait_message("bench/queue", |h| h.json()["storage"] == "memory")
        .json();
    assert!(
        report["fault"]
            .as_str()
            .is_some_and(|f| f.contains("read-only")),
        "{report}"
    );
    assert_all(&subscriber, 100);
    tmpfs.remount("rw");
    subscriber.wait_message("bench/queue", |h| h.json()["storage"] == "disk");
    let now = subscriber.events().len();
    assert_all(&subscriber, now + 100);
    drop(daemon);
}

/// The folder of a daemon that was stopped with events in its queue.
fn with_backlog(port: u16) -> Setup {
    let mut daemon = queue_setup(port, REPLAY, QUEUE).start();
    daemon.wait_log_times("next attempt in", 2);
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(LIMIT);
    daemon.take_setup()
}

/// Damages the file of a queue with events; the next start must move it aside and go on.
fn assert_moved_aside(name: &str, damage: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let port = free_port();
    let proxy = Proxy::without_broker(port);
    let setup = with_backlog(port);
    let file = setup.path("state/queue.redb");
    let bytes = std::fs::read(&file).expect("file");
    std::fs::write(&file, damage(bytes)).expect("file");
    proxy.connect_to(&broker);
    let daemon = setup.start();
    daemon.wait_log("the file is damaged (");
    daemon.wait_log(
        "queue.redb.damaged; events that only it held are lost, and a new file is in use",
    );
    subscriber.wait_events(50);
    subscriber.wait_message("bench/queue", |h| h.json()["storage"] == "disk");
    wait_for("a new file", || {
        daemon.setup.path("state/queue.redb").exists().then_some(())
    });
    let reports = daemon
        .log()
        .lines()
        .filter(|l| l.contains("queue "))
        .count();
    assert_eq!(reports, 1, "{name}: logged once:\n{}", daemon.log());
}

#[test]
fn a_truncated_file_is_moved_aside() {
    assert_moved_aside("truncated", |bytes| bytes[..bytes.len() / 2].to_vec());
}

#[test]
fn a_file_of_noise_is_moved_aside() {
    assert_moved_aside("noise", |bytes| {
        bytes.iter().map(|_| fastrand::u8(..)).collect()
    });
}

/// A bit of each event flips; the checksums of their pages find it.
#[test]
fn a_flipped_bit_is_found() {
    assert_moved_aside("flipped", |mut bytes| {
        let events: Vec<usize> = (0..bytes.len() - 9)
            .filter(|at| bytes[*at..].starts_with(b"\"boot_id\""))
            .collect();
        assert!(!events.is_empty(), "the file holds events");
        // All of them: the file no longer uses some.
        for at in events {
            bytes[at + 3] ^= 1;
        }
        bytes
    });
}
