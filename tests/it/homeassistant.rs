//! Home Assistant's discovery: which entities it gets, and what they show.

use super::support::{
    Broker, LIMIT, Message, Setup, Subscriber, judges_python, stderr, write_images,
};
use rumqttc::{Client, MqttOptions, QoS};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

const TOPIC: &str = "homeassistant/device/constancy_bench/config";

fn config(broker: &Broker, cameras: &[&str]) -> String {
    let camera = |name: &&str| {
        format!(
            "[[camera]]\nname = \"{name}\"\n[camera.replay]\npath = \"images\"\nrate = 5.0\nloop = true\n"
        )
    };
    let cameras: String = cameras.iter().map(camera).collect();
    format!(
        "{cameras}[mqtt]\nbroker = \"{}\"\n[homeassistant]\ndiscovery = true\n",
        broker.url()
    )
}

fn assert_valid(payload: &Value) {
    let schema = include_str!("../fixtures/homeassistant/device.schema.json");
    let schema = serde_json::from_str(schema).expect("schema");
    jsonschema::validate(&schema, payload).expect("the payload is as Home Assistant documents it");
}

/// The names of the entities that a discovery message describes.
fn components(payload: &Value) -> Vec<&str> {
    payload["cmps"]
        .as_object()
        .expect("components")
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn discovery_describes_the_device() {
    let broker = Broker::start();
    let subscriber = Subscriber::with_filter(&broker, "#");
    let setup = Setup::new(&config(&broker, &["belt", "gate"]));
    write_images(&setup.path("images"), 3);
    let daemon = setup.start();
    let first = subscriber
        .wait_message(TOPIC, |h| !h.payload.is_empty())
        .json();
    assert_valid(&first);
    let all = [
        "belt_class",
        "belt_drift",
        "belt_health",
        "belt_light",
        "belt_problem",
        "gate_class",
        "gate_drift",
        "gate_health",
        "gate_light",
        "gate_problem",
        "queue_dropped",
        "queue_waiting",
    ];
    assert_eq!(components(&first), all);
    let late = Subscriber::with_filter(&broker, "#");
    let retained = late.wait_message(TOPIC, |h| h.retained).json();
    assert!(retained["dev"].is_object());
    // Every topic that it names carries messages.
    for component in first["cmps"].as_object().expect("components").values() {
        let topic = component["state_topic"].as_str().expect("topic");
        subscriber.wait_message(topic, |h| h.json().is_object());
    }
    drop(daemon);
}

#[test]
fn a_removed_camera_is_removed_from_home_assistant() {
    let broker = Broker::start();
    let subscriber = Subscriber::with_filter(&broker, "#");
    let setup = Setup::new(&config(&broker, &["belt", "gate"]));
    write_images(&setup.path("images"), 3);
    let daemon = setup.start();
    subscriber.wait_message(TOPIC, |h| !h.payload.is_empty());
    daemon.setup.write(&config(&broker, &["belt"]));
    daemon.signal(libc::SIGHUP);
    let removal = subscriber
        .wait_message(TOPIC, |h| {
            h.json()["cmps"]["gate_class"]
                .as_object()
                .is_some_and(|c| c.len() == 1)
        })
        .json();
    assert_valid(&removal);
    let last = subscriber
        .wait_message(TOPIC, |h| h.json()["cmps"].get("gate_class").is_none())
        .json();
    assert_valid(&last);
    assert_eq!(
        components(&last),
        [
            "belt_class",
            "belt_drift",
            "belt_health",
            "belt_light",
            "belt_problem",
            "queue_dropped",
            "queue_waiting"
        ]
    );
}

#[test]
fn discovery_is_sent_again_when_home_assistant_starts() {
    let broker = Broker::start();
    let subscriber = Subscriber::with_filter(&broker, "#");
    let setup = Setup::new(&config(&broker, &["belt"]));
    write_images(&setup.path("images"), 3);
    let daemon = setup.start();
    let count = |messages: &[Message]| {
        let sent = messages.iter().filter(|m| m.topic == TOPIC && !m.retained);
        sent.count()
    };
    subscriber.wait("discovery", |h| (count(h) == 1).then_some(()));
    let (client, mut connection) = Client::new(
        MqttOptions::new("home-assistant", "127.0.0.1", broker.port),
        8,
    );
    client
        .publish("homeassistant/status", QoS::AtLeastOnce, false, "online")
        .expect("publish");
    std::thread::spawn(move || connection.iter().take_while(Result::is_ok).count());
    subscriber.wait("discovery again", |h| (count(h) >= 2).then_some(()));
    drop(daemon);
}

/// What each entity shows after these messages, computed with Home Assistant's template language.
fn shown(python: &Path, folder: &Path, config: &Value, messages: &[Message]) -> Value {
    let last = messages.iter().map(|m| (m.topic.as_str(), m.text()));
    let states: BTreeMap<&str, String> = last.collect();
    let path = folder.join("messages.json");
    std::fs::write(
        &path,
        json!({"config": config, "states": states}).to_string(),
    )
    .expect("messages");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/homeassistant.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&path)
        .output()
        .expect("python");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)))
}

/// Each entity needs an id that no other has, here or on another device.
fn assert_unique_ids(discovery: &Value) {
    let components = discovery["cmps"].as_object().expect("components");
    let ids: BTreeSet<&str> = components
        .values()
        .filter_map(|c| c["unique_id"].as_str())
        .collect();
    assert!(
        ids.len() == components.len() && ids.iter().all(|id| id.starts_with("constancy_bench_")),
        "{ids:?}"
    );
}

#[test]
fn home_assistant_shows_what_the_daemon_publishes() {
    let Some(python) = judges_python() else {
        return;
    };
    let broker = Broker::start();
    let subscriber = Subscriber::with_filter(&broker, "#");
    let rest = config(&broker, &["belt"]);
    let gone = "[[camera]]\nname = \"gone\"\n[camera.v4l]\ndevice = \"/dev/video-that-is-not\"\n";
    let setup = Setup::new(&rest.replace("[mqtt]", &format!("{gone}[mqtt]")));
    write_images(&setup.path("images"), 3);
    let mut daemon = setup.start();
    let discovery = subscriber
        .wait_message(TOPIC, |h| !h.payload.is_empty())
        .json();
    subscriber.wait_message("gone/state", |h| h.json()["fault"].is_string());
    let state = subscriber
        .wait_message("belt/state", |h| h.json()["known"] == true)
        .json();
    subscriber.wait_message("bench/queue", |_| true);
    let folder = daemon.setup.folder.path().to_owned();
    let shows = shown(&python, &folder, &discovery, &subscriber.messages());
    println!("{shows}");
    assert!(
        [&json!("a gear"), &json!("a bolt")].contains(&&shows["belt_class"]),
        "{state}: {shows}"
    );
    assert_eq!(shows["belt_problem"], "OFF");
    // A camera that learns its reference has no fault; labels do not measure drift.
    assert_eq!(
        ["belt_health", "belt_light", "belt_drift"].map(|name| &shows[name]),
        ["OFF", "None", "None"]
    );
    assert_eq!(
        (&shows["gone_class"], &shows["gone_problem"]),
        (&json!("unknown"), &json!("ON"))
    );
    assert_eq!(shows["queue_dropped"], "0");
    assert!(
        shows["queue_waiting"]
            .as_str()
            .is_some_and(|n| n.parse::<u64>().is_ok()),
        "{shows}"
    );
    assert_eq!(shows["availability"], json!(["online"]));
    assert_unique_ids(&discovery);
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(LIMIT);
    let stopped = subscriber.wait("the last status", |messages| {
        let is_last = |m: &Message| m.topic.ends_with("/status") && m.text() == "stopped";
        messages.iter().any(is_last).then(|| messages.to_vec())
    });
    assert_eq!(
        shown(&python, &folder, &discovery, &stopped)["availability"],
        json!(["offline"])
    );
}
