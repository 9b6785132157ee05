//! Home Assistant finds the device, and loses what is gone.

use super::support::{Broker, Setup, Subscriber, write_images};
use rumqttc::{Client, MqttOptions, QoS};
use serde_json::Value;

const TOPIC: &str = "homeassistant/device/constancy_bench/config";

fn config(broker: &Broker, cameras: &[&str]) -> String {
    let camera = |name: &&str| {
        format!("[[camera]]\nname = \"{name}\"\n[camera.replay]\npath = \"images\"\nrate = 5.0\nloop = true\n")
    };
    let cameras: String = cameras.iter().map(camera).collect();
    format!("{cameras}[mqtt]\nbroker = \"{}\"\n[homeassistant]\ndiscovery = true\n", broker.url())
}

fn check(payload: &Value) {
    let schema = include_str!("../fixtures/homeassistant/device.schema.json");
    let schema = serde_json::from_str(schema).expect("schema");
    jsonschema::validate(&schema, payload).expect("the payload is as Home Assistant documents it");
}

fn components(payload: &Value) -> Vec<&str> {
    payload["cmps"].as_object().expect("components").keys().map(String::as_str).collect()
}

#[test]
fn the_device_is_described_and_a_camera_that_is_gone_is_removed() {
    let broker = Broker::start();
    let heard = Subscriber::of(&broker, "#");
    let setup = Setup::new(&config(&broker, &["belt", "gate"]));
    write_images(&setup.path("images"), 3);
    let daemon = setup.start();
    let first = heard.message(TOPIC, |h| !h.payload.is_empty()).json();
    check(&first);
    let all = ["belt_class", "belt_problem", "gate_class", "gate_problem", "queue_dropped", "queue_waiting"];
    assert_eq!(components(&first), all);
    assert!(Subscriber::of(&broker, "#").message(TOPIC, |h| h.retained).json()["dev"].is_object());
    // Each topic that it names exists.
    for component in first["cmps"].as_object().expect("components").values() {
        let topic = component["state_topic"].as_str().expect("topic");
        heard.message(topic, |h| h.json().is_object());
    }
    daemon.setup.write(&config(&broker, &["belt"]));
    daemon.signal(libc::SIGHUP);
    let removal =
        heard.message(TOPIC, |h| h.json()["cmps"]["gate_class"].as_object().is_some_and(|c| c.len() == 1)).json();
    check(&removal);
    let last = heard.message(TOPIC, |h| h.json()["cmps"].get("gate_class").is_none()).json();
    check(&last);
    assert_eq!(components(&last), ["belt_class", "belt_problem", "queue_dropped", "queue_waiting"]);
}

#[test]
fn it_is_told_again_when_home_assistant_starts() {
    let broker = Broker::start();
    let heard = Subscriber::of(&broker, "#");
    let setup = Setup::new(&config(&broker, &["belt"]));
    write_images(&setup.path("images"), 3);
    let daemon = setup.start();
    let count = |heard: &[super::support::Heard]| heard.iter().filter(|h| h.topic == TOPIC && !h.retained).count();
    heard.wait("discovery", |h| (count(h) == 1).then_some(()));
    let (client, mut connection) = Client::new(MqttOptions::new("home-assistant", "127.0.0.1", broker.port), 8);
    client.publish("homeassistant/status", QoS::AtLeastOnce, false, "online").expect("publish");
    std::thread::spawn(move || connection.iter().take_while(Result::is_ok).count());
    heard.wait("discovery again", |h| (count(h) >= 2).then_some(()));
    drop(daemon);
}
