//! Commands over MQTT, to the real daemon through a real broker.

use super::support::{
    Broker, Message, Proxy, Setup, Subscriber, free_port, stderr, tiny_model, write_images,
};
use serde_json::Value;

/// A camera `belt` with its left half masked. `commands` are lines of `[mqtt]`.
fn config(broker: &str, commands: &str) -> String {
    format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images\"\nrate = 40.0\nloop = true\n[camera.view]\nmask = [[0.0, 0.0, 0.5, 1.0]]\n[mqtt]\nbroker = \"{broker}\"\nbackoff_max_s = 1\n{commands}"
    )
}

const ALL: &str = "commands = [\"enabled\", \"labels\", \"threshold\", \"snapshot\"]\n";

fn setup(broker: &str, commands: &str) -> Setup {
    let setup = Setup::new(&config(broker, commands));
    write_images(&setup.path("images"), 4);
    setup
}

/// Sends a command and returns its result, which must match its schema.
fn send(subscriber: &Subscriber, command: &str, payload: &str) -> Value {
    let before = results(&subscriber.messages(), command).len();
    subscriber.publish(
        &format!("constancy/bench/belt/set/{command}"),
        payload.as_bytes(),
        false,
    );
    let answer = subscriber.wait(&format!("the answer to {command}"), |h| {
        results(h, command).get(before).cloned()
    });
    let schema =
        serde_json::from_str(include_str!("../../docs/result.schema.json")).expect("schema");
    jsonschema::validate(&schema, &answer).expect("the result matches its schema");
    assert_eq!(
        (&answer["command"], &answer["camera"]),
        (&Value::from(command), &Value::from("belt"))
    );
    answer
}

fn results(messages: &[Message], command: &str) -> Vec<Value> {
    let topic = format!("constancy/bench/belt/set/{command}/result");
    messages
        .iter()
        .filter(|h| h.topic == topic)
        .map(Message::json)
        .collect()
}

/// Asserts that the command was refused, with `why` among the reasons.
fn assert_refused(answer: &Value, why: &str) {
    let detail = answer["detail"].as_str().expect("detail");
    assert!(answer["ok"] == false && detail.contains(why), "{answer}");
}

/// Waits for a new event that satisfies `fits`.
fn event_after(subscriber: &Subscriber, fits: impl Fn(&Value) -> bool) -> Value {
    let before = subscriber.events().len();
    subscriber.wait("an event after the command", |h| {
        let events = h.iter().filter(|h| h.is_event()).skip(before);
        events.map(Message::json).find(&fits)
    })
}

#[test]
fn labels_and_threshold_change_the_events() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), ALL).start();
    assert_eq!(
        subscriber.wait_events(1)[0]["known"],
        true,
        "the threshold is 0 at first"
    );
    assert_eq!(send(&subscriber, "threshold", "1.0")["ok"], true);
    event_after(&subscriber, |e| e["known"] == false);
    let answer = send(
        &subscriber,
        "labels",
        "[\"a pipe\", \"a nut\", \"a washer\"]",
    );
    assert_eq!(
        answer["detail"],
        "the answer is one of a pipe, a nut, a washer"
    );
    let event = event_after(&subscriber, |e| {
        e["top"].as_array().is_some_and(|top| top.len() == 3)
    });
    assert_eq!(event["known"], false, "the commanded threshold stays");
    assert_refused(
        &send(&subscriber, "threshold", "7"),
        "expected a number from 0 to 1",
    );
    assert_refused(&send(&subscriber, "labels", "[]"), "expected 1 to 100");
    daemon.signal(libc::SIGHUP);
    event_after(&subscriber, |e| {
        e["known"] == true && e["top"].as_array().is_some_and(|top| top.len() == 2)
    });
}

#[test]
fn a_camera_is_disabled_and_enabled() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), ALL).start();
    subscriber.wait_events(1);
    assert_eq!(send(&subscriber, "enabled", "false")["ok"], true);
    subscriber.wait_message("belt/state", |h| {
        h.json()["fault"] == "switched off over MQTT"
    });
    let off = subscriber.events().len();
    assert_refused(&send(&subscriber, "snapshot", ""), "switched off");
    assert!(
        subscriber.events().len() <= off + 1,
        "one frame may have been in flight"
    );
    assert_eq!(send(&subscriber, "enabled", "true")["ok"], true);
    event_after(&subscriber, |e| e["known"] == true);
    subscriber.wait_message("belt/state", |h| h.json()["fault"].is_null());
    let seqs: Vec<u64> = subscriber
        .events()
        .iter()
        .filter_map(|e| e["seq"].as_u64())
        .collect();
    assert_eq!(
        seqs,
        (0..seqs.len() as u64).collect::<Vec<_>>(),
        "a disabled camera takes no numbers"
    );
    drop(daemon);
}

#[test]
fn a_snapshot_hides_masked_areas() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), ALL).start();
    subscriber.wait_events(1);
    let answer = send(&subscriber, "snapshot", "");
    let picture = subscriber.wait_message("belt/snapshot", |_| true);
    assert!(!picture.retained);
    assert_eq!(
        answer["detail"],
        format!("160×120 pixels, {} bytes", picture.payload.len())
    );
    let image = image::load_from_memory(&picture.payload)
        .expect("a JPEG")
        .to_rgb8();
    assert_eq!(image.dimensions(), (160, 120));
    let spread = |from: u32, to: u32| {
        let greens = image
            .enumerate_pixels()
            .filter(|(x, ..)| (from..to).contains(x))
            .map(|(.., p)| p.0[1]);
        let (least, most) = greens.fold((255, 0), |(l, m), g| (g.min(l), g.max(m)));
        most - least
    };
    assert!(
        spread(0, 72) <= 4,
        "the left half is painted over: {}",
        spread(0, 72)
    );
    assert!(spread(88, 160) > 60, "the right half is unchanged");
    drop(daemon);
}

#[test]
fn only_allowed_commands_run_and_each_is_answered() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), "commands = [\"threshold\"]\n").start();
    subscriber.wait_events(1);
    assert_refused(
        &send(&subscriber, "enabled", "false"),
        "this device's `mqtt.commands` lists threshold",
    );
    assert_refused(&send(&subscriber, "reboot", "now"), "no such command");
    subscriber.publish("constancy/bench/gate/set/threshold", b"1", false);
    let answer = subscriber
        .wait_message("gate/set/threshold/result", |_| true)
        .json();
    assert_refused(&answer, "no such camera, expected belt");
    event_after(&subscriber, |e| e["known"] == true);
    drop(daemon);
}

#[test]
fn without_commands_the_daemon_subscribes_to_none() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), "").start();
    subscriber.wait_events(1);
    subscriber.publish("constancy/bench/belt/set/enabled", b"false", false);
    event_after(&subscriber, |_| true);
    subscriber.wait("more events", |h| {
        (h.iter().filter(|h| h.is_event()).count() > 20).then_some(())
    });
    assert_eq!(
        results(&subscriber.messages(), "enabled"),
        Vec::<Value>::new()
    );
    drop(daemon);
}

#[test]
fn a_retained_command_is_refused_and_an_oversized_one_stops_nothing() {
    let port = free_port();
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    subscriber.publish("constancy/bench/belt/set/threshold", b"1.0", true);
    let proxy = Proxy::to_broker(port, &broker);
    let daemon = setup(&format!("mqtt://127.0.0.1:{port}"), ALL).start();
    let answer = subscriber
        .wait_message("belt/set/threshold/result", |_| true)
        .json();
    assert_refused(&answer, "is retained");
    assert_eq!(subscriber.wait_events(1)[0]["known"], true);
    assert_refused(
        &send(&subscriber, "labels", &"x".repeat(20_000)),
        "the payload has 20000 bytes",
    );
    // More than the MQTT client accepts: it disconnects, and reconnects without its subscription.
    subscriber.publish(
        "constancy/bench/belt/set/labels",
        &vec![b'x'; 2 << 20],
        true,
    );
    daemon.wait_log("a message of more than 1 MiB came to constancy/bench/+/set/+; subscriptions are suspended for 300 s");
    daemon.wait_log_times("connected", 2);
    event_after(&subscriber, |_| true);
    drop(proxy);
}

#[test]
fn without_a_text_tower_labels_are_refused_with_the_reason() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = setup(&broker.url(), ALL);
    // The tiny model without its text tower, and a class bank that was made with it.
    let text = std::fs::read_to_string(tiny_model()).expect("manifest");
    let vision = text.split("[text]").next().unwrap_or_default();
    let file = |name: &str| tiny_model().with_file_name(name).display().to_string();
    let manifest = vision.replace("vision-fp32.onnx", &file("vision-fp32.onnx"));
    std::fs::write(setup.path("no-text.toml"), manifest).expect("manifest");
    let made = super::support::constancy()
        .args(["classes", "--labels", "a gear, a bolt", "--model"])
        .arg(tiny_model())
        .arg("-o")
        .arg(setup.path("bank.safetensors"))
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", stderr(&made));
    let written = std::fs::read_to_string(setup.config()).expect("configuration");
    let written = written
        .replace(&tiny_model().display().to_string(), "no-text.toml")
        .replace(
            "labels = [\"a gear\", \"a bolt\"]",
            "bank = \"bank.safetensors\"",
        );
    std::fs::write(setup.config(), written).expect("configuration");
    let daemon = setup.start();
    subscriber.wait_events(1);
    assert_refused(&send(&subscriber, "labels", "[\"a pipe\"]"), "[text]");
    drop(daemon);
}
