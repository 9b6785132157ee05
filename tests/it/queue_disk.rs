//! The disk under the queue is full, read-only or damaged: the daemon says so, runs on, and recovers.

use super::queue::setup;
use super::support::{Broker, LIMIT, Link, Setup, Subscriber, free_port, wait_for};
use std::path::{Path, PathBuf};
use std::process::Command;

const REPLAY: &str = "rate = 100.0\nloop = true\n";
const QUEUE: &str = "sync_s = 0.1\ndrain_per_s = 2000.0\ndrain_delay_s = 0.0\n";

/// A file system in memory of its own, as small as one likes.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` where mounting is not allowed.
    fn on(folder: &Path, options: &str) -> Option<Self> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(folder)
            .output();
        if mount.is_ok_and(|o| o.status.success()) {
            return Some(Self(folder.into()));
        }
        println!("skipped: a file system cannot be mounted here (not root?)");
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status()
            .expect("mount");
        assert!(status.success(), "{options}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Every event from 0, in order, apart from repetitions.
fn assert_all(subscriber: &Subscriber, count: usize) {
    let mut seqs: Vec<u64> = subscriber
        .wait_events(count)
        .iter()
        .map(|e| e["seq"].as_u64().expect("seq"))
        .collect();
    seqs.dedup();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_is_told_and_lived_with_and_what_waited_is_sent() {
    let port = free_port();
    let link = Link::nowhere(port);
    let setup = setup(port, REPLAY, QUEUE);
    let Some(tmpfs) = Tmpfs::on(&setup.path("state"), "size=600k") else {
        return;
    };
    let daemon = setup.start();
    daemon.wait_log("the disk is full; make room, or lower `queue.max_mib`. Events wait in memory");
    // What is on a full disk can be read, so that order holds.
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    link.lead_to(&broker);
    subscriber.message("bench/queue", |h| {
        h.json()["fault"]
            .as_str()
            .is_some_and(|f| f.contains("the disk is full"))
    });
    assert_all(&subscriber, 500);
    tmpfs.remount("size=64m");
    daemon.wait_log("it can be written again; what waited in memory is on disk");
    let now = subscriber.events().len();
    assert_all(&subscriber, now + 200);
    subscriber.message("bench/queue", |h| {
        h.json()["storage"] == "disk" && h.json()["fault"].is_null()
    });
    drop(daemon);
}

#[test]
fn a_disk_that_is_read_only_is_told_and_lived_with() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = setup(broker.port, REPLAY, QUEUE);
    let Some(tmpfs) = Tmpfs::on(&setup.path("state"), "size=64m,ro") else {
        return;
    };
    let daemon = setup.start();
    daemon.wait_log("the file system is read-only; remount it");
    let report = subscriber
        .message("bench/queue", |h| h.json()["storage"] == "memory")
        .json();
    assert!(
        report["fault"]
            .as_str()
            .is_some_and(|f| f.contains("read-only")),
        "{report}"
    );
    assert_all(&subscriber, 100);
    tmpfs.remount("rw");
    subscriber.message("bench/queue", |h| h.json()["storage"] == "disk");
    let now = subscriber.events().len();
    assert_all(&subscriber, now + 100);
    drop(daemon);
}

/// A daemon that has left a backlog, and is stopped.
fn with_backlog(port: u16) -> Setup {
    let mut daemon = setup(port, REPLAY, QUEUE).start();
    daemon.wait_log_times("next attempt in", 2);
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(LIMIT);
    daemon.take_setup()
}

fn damage(name: &str, damage: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let port = free_port();
    let link = Link::nowhere(port);
    let setup = with_backlog(port);
    let file = setup.path("state/queue.redb");
    let bytes = std::fs::read(&file).expect("file");
    std::fs::write(&file, damage(bytes)).expect("file");
    link.lead_to(&broker);
    let daemon = setup.start();
    daemon.wait_log("the file is damaged (");
    daemon.wait_log("queue.redb.damaged now; what only it held is lost, a new one is made");
    subscriber.wait_events(50);
    subscriber.message("bench/queue", |h| h.json()["storage"] == "disk");
    wait_for("a new file", || {
        daemon.setup.path("state/queue.redb").exists().then_some(())
    });
    let told = daemon
        .log()
        .lines()
        .filter(|l| l.contains("queue "))
        .count();
    assert_eq!(told, 1, "{name}: told once:\n{}", daemon.log());
}

#[test]
fn a_truncated_file_is_moved_aside() {
    damage("truncated", |bytes| bytes[..bytes.len() / 2].to_vec());
}

#[test]
fn a_file_of_noise_is_moved_aside() {
    damage("noise", |bytes| {
        bytes.iter().map(|_| fastrand::u8(..)).collect()
    });
}

/// A bit of each event flips: their pages' checksums tell.
#[test]
fn a_flipped_bit_is_found() {
    damage("flipped", |mut bytes| {
        let events: Vec<usize> = (0..bytes.len() - 9)
            .filter(|at| bytes[*at..].starts_with(b"\"boot_id\""))
            .collect();
        assert!(!events.is_empty(), "there are events in it");
        // Some are what the file no longer needs.
        for at in events {
            bytes[at + 3] ^= 1;
        }
        bytes
    });
}
