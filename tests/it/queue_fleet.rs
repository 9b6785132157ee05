//! A fleet whose broker comes back after an outage: every device delivers its backlog, at its own rate.

use super::support::queue::full_length;
use super::support::{Broker, Message, Subscriber, event, free_port, seqs, tiny_model};
use constancy::config::Settings;
use constancy::publish::Sink;
use constancy_core::classify::{Decision, Scored};
use constancy_core::frame::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Events of each device that wait when the broker comes back.
const BACKLOG: u64 = 20;
const DRAIN_PER_S: f64 = 2.0;
const DRAIN_DELAY_S: f64 = 10.0;
const BACKOFF_MAX_S: f64 = 5.0;

fn name(number: usize) -> String {
    format!("d{number:04}")
}

fn device(number: usize, port: u16) -> Sink {
    let text = format!(
        "device = \"{}\"\n[model]\nmanifest = \"{}\"\n[classes]\nlabels = [\"a\"]\n[[camera]]\nname = \"belt\"\n\
         [camera.v4l]\ndevice = \"/dev/null\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\nbackoff_max_s = {BACKOFF_MAX_S:.0}\n\
         [queue]\ndrain_per_s = {DRAIN_PER_S:?}\ndrain_delay_s = {DRAIN_DELAY_S:?}\n",
        name(number),
        tiny_model().display()
    );
    let settings = Settings::parse(&text, Path::new("fleet.toml")).expect("settings");
    Sink::open(&settings).expect("sink")
}

/// Raises this process's limit of open files: each device has a socket and a few others.
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

fn fill(device: &Sink, name: &str) {
    let decision = Decision {
        top: vec![Scored {
            class: "a".into(),
            score: 0.9,
        }],
        margin: 0.8,
        known: true,
        confidence: None,
        reason: None,
        in_support: None,
        shift: None,
        drift: None,
    };
    let captured_at = Timestamp {
        monotonic_ns: 1,
        unix_ns: 1,
        clock_synced: true,
    };
    for seq in 0..BACKLOG {
        let event = event(name, &decision, captured_at, seq);
        device.event(&event).expect("the event is queued");
    }
}

/// The events of one device.
#[derive(Default)]
struct Delivery {
    /// In the order of arrival.
    events: Vec<Value>,
    /// When each arrived, seconds after the broker's return.
    at_s: Vec<f64>,
}

impl Delivery {
    fn last_s(&self) -> f64 {
        self.at_s[self.at_s.len() - 1]
    }

    fn took_s(&self) -> f64 {
        self.last_s() - self.at_s[0]
    }
}

fn by_device(messages: &[Message], since: SystemTime) -> BTreeMap<String, Delivery> {
    let mut devices = BTreeMap::<String, Delivery>::new();
    for message in messages.iter().filter(|m| m.is_event()) {
        let event = message.json();
        let device = event["device"].as_str().expect("device").to_owned();
        let delivery = devices.entry(device).or_default();
        delivery.events.push(event);
        let at = message.at.duration_since(since).unwrap_or_default();
        delivery.at_s.push(at.as_secs_f64());
    }
    devices
}

fn print_figures(devices: &BTreeMap<String, Delivery>) {
    let mut per_second = BTreeMap::<u64, u32>::new();
    for at_s in devices.values().flat_map(|d| &d.at_s) {
        *per_second.entry(*at_s as u64).or_default() += 1;
    }
    let took_s = devices.values().map(Delivery::took_s);
    let (least, most) = took_s.fold((f64::MAX, 0.0_f64), |(l, m), t| (l.min(t), m.max(t)));
    println!(
        "{} devices, {BACKLOG} events each: the fullest second had {} of {:.0} events configured; a device took {least:.1} to {most:.1} s, the last was done after {:.1} s",
        devices.len(),
        per_second.into_values().max().unwrap_or_default(),
        devices.len() as f64 * DRAIN_PER_S,
        devices.values().map(Delivery::last_s).fold(0.0, f64::max)
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status.lines().find(|l| l.starts_with("VmHWM"));
    println!("{}", memory.unwrap_or_default());
}

#[test]
fn after_an_outage_no_device_of_a_fleet_starves_and_each_keeps_to_its_rate() {
    let count = if full_length() { 1000 } else { 60 };
    allow_many_files();
    let port = free_port();
    let start = Instant::now();
    let fleet: Vec<Sink> = (0..count).map(|n| device(n, port)).collect();
    for (n, device) in fleet.iter().enumerate() {
        fill(device, &name(n));
    }
    // Long enough for every device's backoff to reach its maximum, which cannot be observed.
    std::thread::sleep(Duration::from_secs_f64(DRAIN_DELAY_S).saturating_sub(start.elapsed()));
    let back = SystemTime::now();
    let broker = Broker::start_on(port);
    let subscriber = Subscriber::new(&broker);
    let total = count * usize::try_from(BACKLOG).expect("small");
    subscriber.wait_up_to(Duration::from_secs(120), "every event", |messages| {
        (messages.iter().filter(|m| m.is_event()).count() >= total).then_some(())
    });
    let devices = by_device(&subscriber.messages(), back);
    print_figures(&devices);
    for device in fleet {
        let left = device.close(Duration::from_secs(2));
        assert_eq!(left.messages, 0, "nothing is left");
    }
    assert_eq!(devices.len(), count);
    // The first event is free, and a tenth of a second's events may be sent ahead. A busy machine can only be slower.
    let least_s = (BACKLOG - 1) as f64 / DRAIN_PER_S - 1.0;
    for (name, delivery) in &devices {
        assert_eq!(
            seqs(&delivery.events),
            (0..BACKLOG).collect::<Vec<_>>(),
            "{name}: in order, each once"
        );
        let last_s = delivery.last_s();
        assert!(last_s >= least_s, "{name}: all events in {last_s:.1} s");
        // The subscriber may receive the first event late.
        let took_s = delivery.took_s();
        assert!(took_s >= least_s - 3.0, "{name}: a burst of {took_s:.1} s");
    }
}
