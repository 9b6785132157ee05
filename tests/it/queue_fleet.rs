//! Many devices whose broker comes back: each gets its turn, and together they keep to their rate.

use super::queue::long;
use super::support::{Broker, Subscriber, event, free_port, tiny_model};
use constancy::config::Settings;
use constancy::publish::Sink;
use constancy_core::classify::{Decision, Scored};
use constancy_core::frame::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

const BACKLOG: u64 = 20;
const PER_S: f64 = 2.0;
const DELAY_S: f64 = 10.0;
const BACKOFF_S: f64 = 5.0;

fn device(number: usize, port: u16) -> Sink {
    let text = format!(
        "device = \"d{number:04}\"\n[model]\nmanifest = \"{}\"\n[classes]\nlabels = [\"a\"]\n[[camera]]\nname = \"belt\"\n\
         [camera.v4l]\ndevice = \"/dev/null\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = {BACKOFF_S:.0}\n\
         [queue]\ndrain_per_s = {PER_S:?}\ndrain_delay_s = {DELAY_S:?}\n",
        tiny_model().display()
    );
    let settings = Settings::parse(&text, Path::new("fleet.toml")).expect("settings");
    Sink::open(&settings).expect("sink")
}

/// As many files as the system allows: a device has a socket and a few others.
fn allow_many_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a valid rlimit of this frame.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

#[test]
fn no_device_of_many_starves_after_an_outage_and_together_they_keep_to_their_rate() {
    let count = if long() { 1000 } else { 60 };
    allow_many_files();
    let port = free_port();
    let decision = Decision {
        top: vec![Scored {
            class: "a".into(),
            score: 0.9,
        }],
        margin: 0.8,
        known: true,
        in_support: None,
        shift: None,
    };
    let taken = Timestamp {
        monotonic_ns: 1,
        unix_ns: 1,
        clock_synced: true,
    };
    let start = Instant::now();
    let fleet: Vec<Sink> = (0..count).map(|n| device(n, port)).collect();
    for (n, sink) in fleet.iter().enumerate() {
        let name = format!("d{n:04}");
        (0..BACKLOG).for_each(|seq| {
            sink.event(&event(&name, &decision, taken, seq))
                .expect("it is taken")
        });
    }
    // They have been trying for as long as they wait at most.
    std::thread::sleep(Duration::from_secs_f64(DELAY_S).saturating_sub(start.elapsed()));
    let broker = Broker::start_on(port);
    let back = SystemTime::now();
    let subscriber = Subscriber::new(&broker);
    let total = count * usize::try_from(BACKLOG).expect("small");
    subscriber.wait_long("every event", Duration::from_secs(120), |heard| {
        (heard.iter().filter(|h| h.is_event()).count() >= total).then_some(())
    });
    let since = |at: SystemTime| at.duration_since(back).unwrap_or_default().as_secs_f64();
    let mut devices: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    let mut per_second = BTreeMap::<u64, u32>::new();
    for heard in subscriber.heard().iter().filter(|h| h.is_event()) {
        let event = heard.json();
        let at = since(heard.at);
        *per_second.entry(at as u64).or_default() += 1;
        let device = event["device"].as_str().expect("device").to_owned();
        devices
            .entry(device)
            .or_default()
            .push((event["seq"].as_u64().expect("seq"), at));
    }
    let peak = per_second.values().max().copied().unwrap_or_default();
    let took: Vec<f64> = devices
        .values()
        .map(|e| e[e.len() - 1].1 - e[0].1)
        .collect();
    let last: f64 = devices
        .values()
        .map(|e| e[e.len() - 1].1)
        .fold(0.0, f64::max);
    let (least, most) = took.iter().fold((f64::MAX, 0.0), |(l, m): (f64, f64), t| {
        (l.min(*t), m.max(*t))
    });
    let configured = count as f64 * PER_S;
    println!(
        "{count} devices, {BACKLOG} events each: the fullest second had {peak} of {configured:.0} events configured; a device took {least:.1} to {most:.1} s, the last was done after {last:.1} s"
    );
    let resident = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!(
        "{}",
        resident
            .lines()
            .find(|l| l.starts_with("VmHWM"))
            .unwrap_or_default()
    );
    for sink in fleet {
        assert_eq!(
            sink.close(Duration::from_secs(2)).messages,
            0,
            "nothing is left"
        );
    }
    assert_eq!(devices.len(), count);
    for (device, events) in &devices {
        let seqs: Vec<u64> = events.iter().map(|e| e.0).collect();
        assert_eq!(
            seqs,
            (0..BACKLOG).collect::<Vec<_>>(),
            "{device}: in order, each once"
        );
    }
    // A tenth for what is credited at the start.
    assert!(f64::from(peak) <= configured * 1.1, "{per_second:?}");
    let alone = (BACKLOG - 1) as f64 / PER_S;
    // The first may be heard late on a busy machine.
    assert!(
        least >= alone - 4.0 && most <= alone + 5.0,
        "a device alone takes {alone} s"
    );
    assert!(last <= BACKOFF_S * 1.5 + DELAY_S + alone + 10.0, "{last}");
}
