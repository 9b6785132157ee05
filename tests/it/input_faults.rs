//! Damaged images, sources that vanish and return, child processes that die.

use super::support::{
    Broker, LIMIT, Setup, Subscriber, assert_numbered_from_zero, jpeg, seqs, wait_for, write_images,
};
use serde_json::Value;

/// A camera whose child process runs a line of shell in the configuration's folder.
fn pipe(script: &str) -> Setup {
    Setup::new(&format!(
        "[[camera]]\nname = \"gate\"\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"cd DIR; {script}\"]\n"
    ))
}

/// Writes good, other, truncated and corrupt JPEG images.
fn write_damaged_images(setup: &Setup) {
    let good = jpeg(160, 120, 1);
    let truncated = &good[..good.len() * 2 / 3];
    let mut corrupt = good.clone();
    let middle = good.len() / 2;
    // The header survives; the data that it announces does not.
    corrupt[300..middle].fill(0x55);
    std::fs::write(setup.path("good.jpg"), &good).expect("image");
    std::fs::write(setup.path("other.jpg"), jpeg(160, 120, 2)).expect("image");
    std::fs::write(setup.path("truncated.jpg"), truncated).expect("image");
    std::fs::write(setup.path("corrupt.jpg"), &corrupt).expect("image");
}

#[test]
fn corrupt_and_truncated_jpegs_in_a_stream_are_skipped_and_counted() {
    // A frame that arrives before its predecessor is decoded replaces it, so the child waits for the test. A truncated
    // image ends where the next one begins.
    let setup = pipe(
        "await() { until [ -e $1 ]; do sleep 0.02; done; }; cat good.jpg; await first; cat corrupt.jpg; await second; cat truncated.jpg other.jpg; exec sleep 60",
    );
    write_damaged_images(&setup);
    let daemon = setup.start();
    let proceed = |file: &str| std::fs::write(daemon.setup.path(file), "").expect("file");
    daemon.wait_events(1);
    proceed("first");
    daemon.wait_log("frame skipped (1 so far)");
    proceed("second");
    let events = daemon.wait_events(2);
    assert_eq!(events[0]["damaged_frames"], 0);
    assert_eq!(events[1]["damaged_frames"], 2, "log:\n{}", daemon.log());
    assert_eq!(
        events[1]["seq"], 1,
        "a frame without a decision takes no number"
    );
    assert_eq!(events[1]["dropped_frames"], 0);
}

#[test]
fn damaged_images_in_a_recording_are_skipped_and_named() {
    let setup = Setup::new("[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images.txt\"\n");
    write_damaged_images(&setup);
    std::fs::write(setup.path("empty.png"), "").expect("image");
    std::fs::write(setup.path("text.webp"), "not an image at all").expect("image");
    let list = "good.jpg\ncorrupt.jpg\ntruncated.jpg\nempty.png\ntext.webp\nother.jpg\n";
    std::fs::write(setup.path("images.txt"), list).expect("list");
    let mut daemon = setup.start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success(), "{}", daemon.log());
    let events = daemon.wait_events(2);
    assert_eq!(events.len(), 2);
    assert_eq!(events[1]["damaged_frames"], 4);
    for name in ["corrupt.jpg", "truncated.jpg", "empty.png", "text.webp"] {
        assert!(
            daemon.log().contains(name),
            "{name} is named in:\n{}",
            daemon.log()
        );
    }
}

#[test]
fn a_source_that_vanishes_is_a_fault_until_it_returns() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 20.0\nloop = true\n[mqtt]\nbroker = \"{}\"\n",
        broker.url()
    ));
    write_images(&setup.path("images"), 3);
    let daemon = setup.start();
    subscriber.wait_events(3);
    std::fs::rename(daemon.setup.path("images"), daemon.setup.path("away")).expect("rename");
    let state = subscriber
        .wait_message("belt/state", |h| !h.json()["fault"].is_null())
        .json();
    assert_eq!(
        state["class"],
        Value::Null,
        "an absent camera sees no class"
    );
    assert!(
        state["fault"]
            .as_str()
            .is_some_and(|f| f.contains("images")),
        "{state}"
    );
    let before = subscriber.events().len();
    std::fs::rename(daemon.setup.path("away"), daemon.setup.path("images")).expect("rename");
    let events = subscriber.wait_events(before + 5);
    // The fault skips no number.
    assert_numbered_from_zero(&events);
    subscriber.wait("the state to name a class again", |messages| {
        let mut latest_first = messages.iter().rev();
        let last = latest_first.find(|m| m.topic.ends_with("belt/state"))?;
        last.json()["fault"].is_null().then_some(())
    });
}

#[test]
fn a_child_that_dies_is_restarted() {
    let setup = pipe("echo $$ >> pids; cat good.jpg; echo out of film >&2; sleep 0.2; exit 3");
    write_damaged_images(&setup);
    let daemon = setup.start();
    daemon.wait_events(3);
    let pids = std::fs::read_to_string(daemon.setup.path("pids")).expect("pids");
    assert!(pids.lines().count() >= 3, "one child per image: {pids}");
    let log = daemon.log();
    assert!(
        log.contains("exit status: 3") && log.contains("out of film"),
        "its exit status and its last line:\n{log}"
    );
}

#[test]
fn a_lasting_fault_is_logged_once() {
    let setup = pipe("echo try >> tries; exit 3");
    write_damaged_images(&setup);
    let daemon = setup.start();
    let tries = || {
        std::fs::read_to_string(daemon.setup.path("tries"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    wait_for("three tries", || (tries() >= 3).then_some(()));
    for once in ["exit status: 3", "(process "] {
        assert_eq!(
            daemon.log().matches(once).count(),
            1,
            "{once}: {}",
            daemon.log()
        );
    }
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let setup = Setup::new(
        "[[camera]]\nname = \"gate\"\n[camera.pipe]\ncommand = [\"no-such-camera-program\"]\n",
    );
    let daemon = setup.start();
    daemon.wait_log("no-such-camera-program");
    daemon.wait_log("trying again in");
}

#[test]
fn a_silent_stream_is_reopened() {
    let setup = Setup::new(
        "[[camera]]\nname = \"gate\"\nstall_s = 0.5\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"cd DIR; cat good.jpg; exec sleep 1000\"]\n",
    );
    write_damaged_images(&setup);
    let daemon = setup.start();
    daemon.wait_events(2);
    assert!(daemon.log().contains("no frame"), "{}", daemon.log());
}

#[test]
fn a_stream_of_damaged_frames_alone_is_reopened() {
    let setup = Setup::new(
        "[[camera]]\nname = \"gate\"\nstall_s = 0.5\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"cd DIR; while true; do cat truncated.jpg; sleep 0.05; done\"]\n",
    );
    write_damaged_images(&setup);
    let daemon = setup.start();
    daemon.wait_log("no frame for");
}

#[test]
fn children_end_with_the_daemon() {
    let setup = pipe("echo $$ > pid; while true; do cat good.jpg; sleep 0.05; done");
    write_damaged_images(&setup);
    let mut daemon = setup.start();
    daemon.wait_events(1);
    let pid = std::fs::read_to_string(daemon.setup.path("pid")).expect("pid");
    let proc = std::path::Path::new("/proc").join(pid.trim());
    assert!(proc.exists());
    daemon.signal(libc::SIGTERM);
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success());
    wait_for("the child to end", || (!proc.exists()).then_some(()));
}

/// A yuv4mpeg stream of `count` frames of 64×48 pixels.
fn y4m(count: u8) -> Vec<u8> {
    let mut stream = b"YUV4MPEG2 W64 H48 F10:1 Ip A1:1 C420jpeg XCOLORRANGE=FULL\n".to_vec();
    for i in 0..count {
        stream.extend_from_slice(b"FRAME\n");
        stream.extend((0..64 * 48).map(|p| (p as u8).wrapping_mul(i + 1)));
        stream.extend([100 + i; 64 * 48 / 4]);
        stream.extend([140 - i; 64 * 48 / 4]);
    }
    stream
}

#[test]
fn yuv4mpeg_is_read_and_a_truncated_stream_is_reopened() {
    let setup = Setup::new(
        "[[camera]]\nname = \"gate\"\n[camera.pipe]\nformat = \"y4m\"\ncommand = [\"sh\", \"-c\", \"cd DIR; head -c 5000 cut.y4m; sleep 0.3; cat rest.y4m; sleep 0.3\"]\n",
    );
    let stream = y4m(3);
    std::fs::write(setup.path("cut.y4m"), &stream).expect("stream");
    std::fs::write(setup.path("rest.y4m"), &stream[5000..stream.len() - 900]).expect("stream");
    let daemon = setup.start();
    // Each run sends two whole frames and a truncated third.
    daemon.wait_events(4);
    daemon.wait_log_times("trying again in", 1);
}

#[test]
fn several_cameras_take_turns() {
    let setup = Setup::new(
        "[[camera]]\nname = \"left\"\n[camera.replay]\npath = \"left\"\n[[camera]]\nname = \"right\"\n[camera.replay]\npath = \"right\"\n",
    );
    write_images(&setup.path("left"), 20);
    write_images(&setup.path("right"), 30);
    let mut daemon = setup.start();
    daemon.wait_exit(LIMIT);
    let events = daemon.wait_events(50);
    for (camera, count) in [("left", 20), ("right", 30)] {
        let own = events.iter().filter(|e| e["camera"] == camera);
        let own: Vec<Value> = own.cloned().collect();
        assert_eq!(seqs(&own), (0..count).collect::<Vec<_>>(), "{camera}");
    }
}
