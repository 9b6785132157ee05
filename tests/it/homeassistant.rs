//! Home Assistant finds the device, and loses what is gone.

use super::support::{Broker, Heard, Setup, Subscriber, judges, stderr, wait_for, write_images};
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

fn check(payload: &Value) {
    let schema = include_str!("../fixtures/homeassistant/device.schema.json");
    let schema = serde_json::from_str(schema).expect("schema");
    jsonschema::validate(&schema, payload).expect("the payload is as Home Assistant documents it");
}

fn components(payload: &Value) -> Vec<&str> {
    payload["cmps"]
        .as_object()
        .expect("components")
        .keys()
        .map(String::as_str)
        .collect()
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
    let all = [
        "belt_class",
        "belt_problem",
        "gate_class",
        "gate_problem",
        "queue_dropped",
        "queue_waiting",
    ];
    assert_eq!(components(&first), all);
    assert!(
        Subscriber::of(&broker, "#")
            .message(TOPIC, |h| h.retained)
            .json()["dev"]
            .is_object()
    );
    // Each topic that it names exists.
    for component in first["cmps"].as_object().expect("components").values() {
        let topic = component["state_topic"].as_str().expect("topic");
        heard.message(topic, |h| h.json().is_object());
    }
    daemon.setup.write(&config(&broker, &["belt"]));
    daemon.signal(libc::SIGHUP);
    let removal = heard
        .message(TOPIC, |h| {
            h.json()["cmps"]["gate_class"]
                .as_object()
                .is_some_and(|c| c.len() == 1)
        })
        .json();
    check(&removal);
    let last = heard
        .message(TOPIC, |h| h.json()["cmps"].get("gate_class").is_none())
        .json();
    check(&last);
    assert_eq!(
        components(&last),
        [
            "belt_class",
            "belt_problem",
            "queue_dropped",
            "queue_waiting"
        ]
    );
}

#[test]
fn it_is_told_again_when_home_assistant_starts() {
    let broker = Broker::start();
    let heard = Subscriber::of(&broker, "#");
    let setup = Setup::new(&config(&broker, &["belt"]));
    write_images(&setup.path("images"), 3);
    let daemon = setup.start();
    let count = |heard: &[super::support::Heard]| {
        heard
            .iter()
            .filter(|h| h.topic == TOPIC && !h.retained)
            .count()
    };
    heard.wait("discovery", |h| (count(h) == 1).then_some(()));
    let (client, mut connection) = Client::new(
        MqttOptions::new("home-assistant", "127.0.0.1", broker.port),
        8,
    );
    client
        .publish("homeassistant/status", QoS::AtLeastOnce, false, "online")
        .expect("publish");
    std::thread::spawn(move || connection.iter().take_while(Result::is_ok).count());
    heard.wait("discovery again", |h| (count(h) >= 2).then_some(()));
    drop(daemon);
}

/// What a component shows for the last message of each topic, by Home Assistant's own template language.
fn shown(python: &Path, folder: &Path, config: &Value, heard: &[Heard]) -> Value {
    let states: BTreeMap<&str, String> =
        heard.iter().map(|h| (h.topic.as_str(), h.text())).collect();
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

#[test]
fn what_home_assistant_shows_is_what_is_so() {
    let Some(python) = judges() else { return };
    let broker = Broker::start();
    let heard = Subscriber::of(&broker, "#");
    let rest = config(&broker, &["belt"]);
    let gone = "[[camera]]\nname = \"gone\"\n[camera.v4l]\ndevice = \"/dev/video-that-is-not\"\n";
    let setup = Setup::new(&rest.replace("[mqtt]", &format!("{gone}[mqtt]")));
    write_images(&setup.path("images"), 3);
    let mut daemon = setup.start();
    let discovery = heard.message(TOPIC, |h| !h.payload.is_empty()).json();
    heard.message("gone/state", |h| h.json()["fault"].is_string());
    let state = heard
        .message("belt/state", |h| h.json()["known"] == true)
        .json();
    heard.message("bench/queue", |_| true);
    let folder = daemon.setup.folder.path().to_owned();
    let shows = shown(&python, &folder, &discovery, &heard.heard());
    println!("{shows}");
    assert!(
        [&json!("a gear"), &json!("a bolt")].contains(&&shows["belt_class"]),
        "{state}: {shows}"
    );
    assert_eq!(shows["belt_problem"], "OFF");
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
    // Each id is one entity's, here and with another device.
    let components = discovery["cmps"].as_object().expect("components");
    let ids: BTreeSet<&str> = components
        .values()
        .filter_map(|c| c["unique_id"].as_str())
        .collect();
    assert!(
        ids.len() == components.len() && ids.iter().all(|id| id.starts_with("constancy_bench_")),
        "{ids:?}"
    );
    daemon.signal(libc::SIGTERM);
    daemon.wait_exit(super::support::LIMIT);
    let stopped = wait_for("the last status", || {
        let heard = heard.heard();
        heard
            .iter()
            .any(|h| h.topic.ends_with("/status") && h.text() == "stopped")
            .then_some(heard)
    });
    assert_eq!(
        shown(&python, &folder, &discovery, &stopped)["availability"],
        json!(["offline"])
    );
}
