//! The cost of publishing one event: processor time, and bytes written. Needs mosquitto.

#![allow(unreachable_pub, reason = "a bench exports nothing")]
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench reports errors by panicking, and prints its figures"
)]

#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as in the tests"
)]
mod support;

use constancy::config::Settings;
use constancy::publish::Sink;
use constancy_core::classify::{Decision, Scored};
use constancy_core::frame::Timestamp;
use std::path::Path;
use std::time::Duration;
use support::{Broker, event, free_port};

/// Processor time of this process so far, seconds.
fn processor_s() -> f64 {
    // SAFETY: all-zero is a valid rusage, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Bytes that this process has written so far: to sockets and files, and to disk.
fn written_bytes() -> [u64; 2] {
    let io = std::fs::read_to_string("/proc/self/io").expect("/proc/self/io");
    ["wchar: ", "write_bytes: "].map(|name| {
        let line = io
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .expect("a line of /proc/self/io");
        line.parse().expect("a number")
    })
}

fn sink(port: u16, mqtt: &str, queue: &str) -> Sink {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = format!(
        "device = \"bench\"\n[model]\nmanifest = \"encoder/vision-fp32.toml\"\n[classes]\nlabels = [\"a\"]\n[[camera]]\nname = \"belt\"\n\
         [camera.v4l]\ndevice = \"/dev/null\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\n{mqtt}[queue]\ndrain_per_s = 100000.0\n\
         drain_delay_s = 0.0\n{queue}"
    );
    let settings = Settings::parse(&text, &fixtures.join("bench.toml")).expect("settings");
    Sink::open(&settings).expect("sink")
}

/// Publishes `count` events, with a pause after every `each` of them, and prints the cost of one.
fn measure(name: &str, sink: Sink, count: u64, each: u64, pause: Duration) {
    // An event lists five classes by default.
    let labels = [
        "an intact gear",
        "a broken gear",
        "a rusty gear",
        "an intact bolt",
        "a broken bolt",
    ];
    let top = labels
        .iter()
        .map(|l| Scored {
            class: (*l).to_owned(),
            score: 0.2,
        })
        .collect();
    let decision = Decision {
        top,
        margin: 0.1,
        known: true,
        confidence: None,
        reason: None,
        in_support: Some(true),
        shift: Some(0.3),
        drift: Some(1.1),
    };
    // Until the connection is up and the file is open.
    std::thread::sleep(Duration::from_millis(1500));
    let (processor, written) = (processor_s(), written_bytes());
    for seq in 0..count {
        let captured_at = Timestamp {
            monotonic_ns: seq,
            unix_ns: 1_795_516_504_123_456_789,
            clock_synced: true,
        };
        sink.event(&event("bench", &decision, captured_at, seq))
            .expect("the event is accepted");
        if (seq + 1) % each == 0 {
            std::thread::sleep(pause);
        }
    }
    let left = sink.close(Duration::from_secs(60)).messages;
    let us = (processor_s() - processor) / count as f64 * 1e6;
    let now = written_bytes();
    let [all, disk] = [0, 1].map(|i| (now[i] - written[i]) / count);
    println!(
        "{name:<46} {us:>6.1} µs of processor time, {all:>6} bytes written, {disk:>6} of them to disk ({left} left)"
    );
}

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("folder");
    let broker = Broker::start();
    let port = broker.port;
    let place = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("folder");
        format!("folder = \"{}\"\n", path.display())
    };
    let second = Duration::from_millis(20);
    measure(
        "broker there, queue in memory, 250 events/s",
        sink(port, "", ""),
        2000,
        5,
        second,
    );
    measure(
        "broker there, queue on disk, 250 events/s",
        sink(port, "", &place("there")),
        2000,
        5,
        second,
    );
    let sparkplug = "payload = \"sparkplug\"\n";
    measure(
        "the same in Sparkplug",
        sink(port, sparkplug, &place("sparkplug")),
        2000,
        5,
        second,
    );
    drop(broker);
    let away = format!("{}sync_events = 5\nsync_s = 3600.0\n", place("five"));
    measure(
        "broker away, queue on disk, 5 events a batch",
        sink(free_port(), "", &away),
        2000,
        5,
        second,
    );
    measure(
        "broker away, queue on disk, 200 events a batch",
        sink(free_port(), "", &place("many")),
        20_000,
        200,
        second,
    );
}
