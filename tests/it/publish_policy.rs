//! Which decisions the real daemon publishes as events.

use super::support::{Broker, Setup, Subscriber, assert_numbered_from_zero, write_images};
use serde_json::Value;

/// The first `count` events or more of a camera with these lines in `[camera.publish]`, which replays `images` images.
fn events(rules: &str, images: u32, count: usize) -> Vec<Value> {
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 40.0\nloop = true\n[camera.publish]\n{rules}"
    ));
    write_images(&setup.path("images"), images);
    let daemon = setup.start();
    let events = daemon.wait_events(count);
    // Decisions that are not published take no number.
    assert_numbered_from_zero(&events);
    events
}

/// Seconds between the frame of an event and the frame of the next.
fn gaps(events: &[Value]) -> Vec<f64> {
    let at = |e: &Value| e["monotonic_ns"].as_f64().expect("time") / 1e9;
    events.windows(2).map(|w| at(&w[1]) - at(&w[0])).collect()
}

#[test]
fn events_are_at_least_at_most_every_s_apart() {
    let gaps = gaps(&events("at_most_every_s = 0.3\n", 5, 5));
    assert!(gaps.iter().all(|gap| *gap >= 0.3), "{gaps:?}");
}

/// The same image again and again: only the heartbeat publishes.
#[test]
fn without_a_change_the_heartbeat_publishes() {
    let gaps = gaps(&events("when = \"on-change\"\nheartbeat_s = 0.5\n", 1, 4));
    assert!(gaps.iter().all(|gap| *gap >= 0.5), "{gaps:?}");
}

#[test]
fn a_state_with_a_dwell_time_does_not_flicker() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = Setup::new(&format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 40.0\nloop = true\n[camera.publish]\nwhen = \"on-change\"\ndwell_s = 3600.0\n[mqtt]\nbroker = \"{}\"\n[[camera]]\nname = \"every\"\n[camera.replay]\npath = \"images\"\nrate = 40.0\nloop = true\n",
        broker.url()
    ));
    write_images(&setup.path("images"), 40);
    let daemon = setup.start();
    subscriber.wait_events(100);
    let messages = subscriber.messages();
    let count = |topic: &str| messages.iter().filter(|m| m.topic.ends_with(topic)).count();
    assert_eq!((count("belt/state"), count("belt/event")), (1, 1));
    assert!(count("every/event") >= 99);
    drop(daemon);
}
