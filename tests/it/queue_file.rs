//! The queue's file is the one at its path: it is removed, replaced or moved while the daemon runs, and nothing is lost.

use super::support::queue::{queue_setup, stored_events, wait_stored};
use super::support::{
    Broker, Daemon, LIMIT, Proxy, Subscriber, constancy, free_port, json_lines, seqs, wait_for,
};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

const REPLAY: &str = "rate = 100.0\nloop = true\n";
const QUEUE: &str = "sync_s = 0.1\ndrain_per_s = 2000.0\ndrain_delay_s = 0.0\n";
const REMOVED: &str = "its file was removed or replaced while in use";

/// A daemon whose broker is away, with some events on disk.
fn outage(port: u16) -> Daemon {
    let daemon = queue_setup(port, REPLAY, QUEUE).start();
    daemon.wait_log("next attempt in");
    wait_stored(daemon.setup.folder.path(), 50);
    daemon
}

/// Waits until the queue's file holds every event from the first on.
fn wait_whole(folder: &Path, count: usize) {
    wait_for("all events in the file at its path", || {
        let seqs = seqs(&stored_events(folder).ok()?);
        let whole = seqs.iter().copied().eq(0..seqs.len() as u64);
        (whole && seqs.len() > count).then_some(())
    });
}

/// Kills the daemon, starts another one with a broker, and asserts that every event from the first on arrives in order.
fn assert_nothing_lost(mut daemon: Daemon, port: u16) {
    let stored = stored_events(daemon.setup.folder.path()).map_or(0, |events| events.len());
    daemon.signal(libc::SIGKILL);
    daemon.wait_exit(LIMIT);
    let (broker, proxy) = (Broker::start(), Proxy::without_broker(port));
    let subscriber = Subscriber::new(&broker);
    proxy.connect_to(&broker);
    let daemon = daemon.take_setup().start();
    let events = subscriber.wait_events(stored + 10);
    let first: &Value = &events[0]["boot_id"];
    let mut seqs = seqs(&events);
    let ours = events.iter().filter(|e| e["boot_id"] == *first).count();
    seqs.truncate(ours);
    seqs.dedup();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
    assert!(ours >= stored, "{ours} of {stored}");
    drop(daemon);
}

#[test]
fn a_removed_file_is_noticed_and_what_it_held_goes_to_a_new_one() {
    let port = free_port();
    let daemon = outage(port);
    fs::remove_file(daemon.setup.path("state/queue.redb")).expect("removed");
    daemon.wait_log(REMOVED);
    daemon.wait_log("it can be written again; events go to disk again");
    wait_whole(daemon.setup.folder.path(), 50);
    let log = daemon.log();
    assert_eq!(log.matches(REMOVED).count(), 1, "told once:\n{log}");
    let mode = fs::metadata(daemon.setup.path("state/queue.redb"))
        .expect("file")
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_nothing_lost(daemon, port);
}

#[test]
fn a_removed_folder_is_told_and_one_that_comes_back_gets_everything() {
    let port = free_port();
    let daemon = outage(port);
    let state = daemon.setup.path("state");
    fs::remove_dir_all(&state).expect("removed");
    daemon.wait_log(
        "there is no such folder; create it, or correct `queue.folder`. Events wait in memory",
    );
    assert!(
        !state.exists(),
        "a folder that someone removed is not made again"
    );
    fs::create_dir(&state).expect("folder");
    daemon.wait_log("it can be written again; events go to disk again");
    wait_whole(daemon.setup.folder.path(), 50);
    let log = daemon.log();
    assert_eq!(
        log.matches("no such folder").count(),
        1,
        "told once:\n{log}"
    );
    assert_nothing_lost(daemon, port);
}

#[test]
fn a_folder_that_is_moved_away_and_back_is_used_again() {
    let port = free_port();
    let daemon = outage(port);
    let (state, away) = (daemon.setup.path("state"), daemon.setup.path("away"));
    fs::rename(&state, &away).expect("moved");
    daemon.wait_log("there is no such folder");
    fs::rename(&away, &state).expect("moved back");
    daemon.wait_log("it can be written again; events go to disk again");
    wait_whole(daemon.setup.folder.path(), 50);
    assert!(!daemon.log().contains(REMOVED), "{}", daemon.log());
    assert_nothing_lost(daemon, port);
}

#[test]
fn a_foreign_file_in_its_place_is_moved_aside_and_another_queue_goes_first() {
    let port = free_port();
    let daemon = outage(port);
    let file = daemon.setup.path("state/queue.redb");
    let noise = daemon.setup.path("noise");
    fs::write(&noise, vec![7; 9000]).expect("written");
    fs::rename(&noise, &file).expect("replaced");
    daemon.wait_log("queue.redb.damaged");
    daemon.wait_log("it can be written again; events go to disk again");
    wait_whole(daemon.setup.folder.path(), 50);
    // Another queue, with an event of its own.
    let other = queue_setup(free_port(), "rate = 2.0\nloop = true\n", "sync_s = 0.1\n").start();
    wait_stored(other.setup.folder.path(), 2);
    other.signal(libc::SIGTERM);
    other.wait_log("messages wait on disk and are sent after the next start");
    let other_file = other.setup.path("state/queue.redb");
    let foreign = wait_for("the other daemon's end", || {
        stored_events(other.setup.folder.path()).ok()
    });
    fs::copy(&other_file, &noise).expect("copied");
    fs::rename(&noise, &file).expect("replaced");
    daemon.wait_log_times("it can be written again; events go to disk again", 2);
    let stored = wait_for("both queues' events", || {
        let stored = stored_events(daemon.setup.folder.path()).ok()?;
        (stored.len() > 50 + foreign.len()).then_some(stored)
    });
    assert_eq!(
        stored[..foreign.len()],
        foreign,
        "what the file brought is older"
    );
    assert_eq!(
        seqs(&stored[foreign.len()..])[..50],
        (0..50).collect::<Vec<_>>()
    );
}

#[test]
fn a_file_that_is_removed_just_before_the_end_is_written_anew() {
    let port = free_port();
    let mut setup_queue = QUEUE.replace("0.1", "3600");
    setup_queue.push_str("sync_events = 60\n");
    let mut daemon = queue_setup(port, REPLAY, &setup_queue).start();
    wait_stored(daemon.setup.folder.path(), 60);
    fs::remove_file(daemon.setup.path("state/queue.redb")).expect("removed");
    daemon.signal(libc::SIGTERM);
    daemon.wait_log("messages wait on disk and are sent after the next start");
    daemon.wait_exit(LIMIT);
    wait_whole(daemon.setup.folder.path(), 60);
}

/// What `constancy check` says about the queue, and whether it is content.
fn check(config: &Path) -> (bool, String) {
    let output = constancy()
        .args(["check", "--json", "--config"])
        .arg(config)
        .output();
    let findings = json_lines(&output.expect("it runs"));
    let queue = findings
        .iter()
        .find(|f| f["check"] == "queue")
        .expect("the queue is checked");
    (queue["ok"] == true, queue["detail"].to_string())
}

/// The daemon must not wait for a FIFO, write through a link, or make a promise in `check` that it does not keep.
#[test]
fn check_and_daemon_agree_on_what_cannot_be_the_queues_file() {
    type Plant = fn(&Path);
    let plant: [(&str, Plant); 5] = [
        ("a FIFO", |path| {
            let path = std::ffi::CString::new(path.to_str().expect("a path")).expect("a path");
            // SAFETY: the path is a C string.
            assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        }),
        ("a socket", |path| {
            drop(std::os::unix::net::UnixListener::bind(path).expect("socket"));
        }),
        ("a folder", |path| fs::create_dir(path).expect("folder")),
        ("a link", |path| symlink("/dev/null", path).expect("link")),
        ("a link", |path| {
            let victim = path.with_file_name("victim");
            fs::write(&victim, "").expect("written");
            symlink(&victim, path).expect("link");
        }),
    ];
    for (kind, plant) in plant {
        let broker = Broker::start();
        let subscriber = Subscriber::new(&broker);
        let setup = queue_setup(broker.port, REPLAY, QUEUE);
        let file = setup.path("state/queue.redb");
        plant(&file);
        let expected = format!("`queue.redb` is {kind} and must be a file; remove it");
        let (ok, detail) = check(&setup.config());
        assert!(!ok && detail.contains(&expected), "{detail}");
        let daemon = setup.start();
        daemon.wait_log(&format!("{expected}. Events wait in memory"));
        subscriber.wait_events(20);
        let victim = daemon.setup.path("state/victim");
        assert!(!victim.exists() || fs::metadata(victim).expect("victim").len() == 0);
        if file.is_dir() {
            fs::remove_dir(&file)
        } else {
            fs::remove_file(&file)
        }
        .expect("removed");
        daemon.wait_log("it can be written again; events go to disk again");
        assert!(file.is_file());
    }
}

#[test]
fn check_and_daemon_agree_on_a_folder_that_is_none_and_a_name_that_is_taken() {
    for (plant, expected) in [
        ("state", "it is no folder; correct `queue.folder`"),
        (
            "state/queue.redb.new",
            "`queue.redb.new` is a folder and must be a file; remove it",
        ),
    ] {
        let setup = queue_setup(free_port(), REPLAY, QUEUE);
        if plant == "state" {
            fs::remove_dir(setup.path("state")).expect("removed");
            fs::write(setup.path(plant), "").expect("written");
        } else {
            fs::create_dir(setup.path(plant)).expect("folder");
        }
        let (ok, detail) = check(&setup.config());
        assert!(!ok && detail.contains(expected), "{detail}");
        setup.start().wait_log(expected);
    }
}

/// What others could read in a file of an earlier version, they cannot any more.
#[test]
fn the_files_permissions_are_tightened() {
    let daemon = outage(free_port());
    daemon.signal(libc::SIGTERM);
    daemon.wait_log("messages wait on disk and are sent after the next start");
    let setup = daemon.take_setup();
    let file = setup.path("state/queue.redb");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("mode");
    let daemon = setup.start();
    wait_for("tightened permissions", || {
        (fs::metadata(&file).expect("file").mode() & 0o777 == 0o640).then_some(())
    });
    drop(daemon);
}
