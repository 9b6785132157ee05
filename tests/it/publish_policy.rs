//! Which decisions become events, by the real daemon.

use super::support::{Broker, Setup, Subscriber, write_images};

fn events(rules: &str, images: u32, count: usize) -> Vec<serde_json::Value> {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 40.0\nloop = true\n[camera.publish]\n{rules}"
    ));
    write_images(&setup.path("images"), images);
    let daemon = setup.start();
    let events = daemon.wait_events(count);
    let seqs: Vec<u64> = events
        .iter()
        .map(|e| e["seq"].as_u64().expect("seq"))
        .collect();
    assert_eq!(
        seqs,
        (0..seqs.len() as u64).collect::<Vec<_>>(),
        "what is not published leaves no gap"
    );
    events
}

/// Seconds between an event and the next.
fn gaps(events: &[serde_json::Value]) -> Vec<f64> {
    let at = |e: &serde_json::Value| e["monotonic_ns"].as_f64().expect("time") / 1e9;
    events.windows(2).map(|w| at(&w[1]) - at(&w[0])).collect()
}

#[test]
fn at_most_every_so_often() {
    let gaps = gaps(&events("at_most_every_s = 0.3\n", 5, 5));
    assert!(gaps.iter().all(|gap| *gap >= 0.3), "{gaps:?}");
}

/// One picture again and again: nothing changes but the time.
#[test]
fn on_change_with_a_heartbeat() {
    let gaps = gaps(&events("when = \"on-change\"\nheartbeat_s = 0.5\n", 1, 4));
    assert!(gaps.iter().all(|gap| *gap >= 0.5), "{gaps:?}");
}

#[test]
fn a_state_that_must_dwell_does_not_flicker() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 40.0\nloop = true\n[camera.publish]\nwhen = \"on-change\"\ndwell_s = 3600.0\n[mqtt]\nbroker = \"{}\"\n[[camera]]\nname = \"every\"\n[camera.replay]\npath = \"images\"\nrate = 40.0\nloop = true\n",
        broker.url()
    ));
    write_images(&setup.path("images"), 40);
    let daemon = setup.start();
    subscriber.wait_events(100);
    let heard = subscriber.heard();
    let count = |topic: &str| heard.iter().filter(|h| h.topic.ends_with(topic)).count();
    assert_eq!((count("belt/state"), count("belt/event")), (1, 1));
    assert!(count("every/event") >= 99);
    drop(daemon);
}
