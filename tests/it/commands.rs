//! Commands over MQTT, with the real daemon and a real broker.

use super::support::{
    Broker, Heard, Link, Setup, Subscriber, free_port, stderr, tiny_model, write_images,
};
use serde_json::Value;

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

/// Sends a command and returns its answer, which fits its schema.
fn ask(heard: &Subscriber, command: &str, payload: &str) -> Value {
    let before = results(&heard.heard(), command).len();
    heard.publish(
        &format!("constancy/bench/belt/set/{command}"),
        payload.as_bytes(),
        false,
    );
    let answer = heard.wait(&format!("the answer to {command}"), |h| {
        results(h, command).get(before).cloned()
    });
    let schema =
        serde_json::from_str(include_str!("../../docs/result.schema.json")).expect("schema");
    jsonschema::validate(&schema, &answer).expect("the answer fits its schema");
    assert_eq!(
        (&answer["command"], &answer["camera"]),
        (&Value::from(command), &Value::from("belt"))
    );
    answer
}

fn results(heard: &[Heard], command: &str) -> Vec<Value> {
    let topic = format!("constancy/bench/belt/set/{command}/result");
    heard
        .iter()
        .filter(|h| h.topic == topic)
        .map(Heard::json)
        .collect()
}

fn refused(answer: &Value, why: &str) {
    let detail = answer["detail"].as_str().expect("detail");
    assert!(answer["ok"] == false && detail.contains(why), "{answer}");
}

/// Waits for an event after those that were heard so far, which fits.
fn event_after(heard: &Subscriber, fits: impl Fn(&Value) -> bool) -> Value {
    let seen = heard.events().len();
    heard.wait("an event after the command", |h| {
        let events = h.iter().filter(|h| h.is_event()).skip(seen);
        events.map(Heard::json).find(&fits)
    })
}

#[test]
fn labels_and_threshold_change_what_events_say() {
    let broker = Broker::start();
    let heard = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), ALL).start();
    assert_eq!(
        heard.wait_events(1)[0]["known"],
        true,
        "the threshold is 0 at first"
    );
    assert_eq!(ask(&heard, "threshold", "1.0")["ok"], true);
    event_after(&heard, |e| e["known"] == false);
    let answer = ask(&heard, "labels", "[\"a pipe\", \"a nut\", \"a washer\"]");
    assert_eq!(
        answer["detail"],
        "the answer is one of a pipe, a nut, a washer"
    );
    let event = event_after(&heard, |e| {
        e["top"].as_array().is_some_and(|top| top.len() == 3)
    });
    assert_eq!(
        event["known"], false,
        "the threshold that was commanded stays"
    );
    refused(
        &ask(&heard, "threshold", "7"),
        "expected a number from 0 to 1",
    );
    refused(&ask(&heard, "labels", "[]"), "expected 1 to 100");
    daemon.signal(libc::SIGHUP);
    event_after(&heard, |e| {
        e["known"] == true && e["top"].as_array().is_some_and(|top| top.len() == 2)
    });
}

#[test]
fn a_camera_is_switched_off_and_on() {
    let broker = Broker::start();
    let heard = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), ALL).start();
    heard.wait_events(1);
    assert_eq!(ask(&heard, "enabled", "false")["ok"], true);
    heard.message("belt/state", |h| {
        h.json()["fault"] == "switched off over MQTT"
    });
    let off = heard.events().len();
    refused(&ask(&heard, "snapshot", ""), "switched off");
    assert!(
        heard.events().len() <= off + 1,
        "one frame may have been under way"
    );
    assert_eq!(ask(&heard, "enabled", "true")["ok"], true);
    event_after(&heard, |e| e["known"] == true);
    heard.message("belt/state", |h| h.json()["fault"].is_null());
    let seqs: Vec<u64> = heard
        .events()
        .iter()
        .filter_map(|e| e["seq"].as_u64())
        .collect();
    assert_eq!(
        seqs,
        (0..seqs.len() as u64).collect::<Vec<_>>(),
        "being off leaves no gap"
    );
    drop(daemon);
}

#[test]
fn a_picture_of_the_next_frame_hides_what_is_masked() {
    let broker = Broker::start();
    let heard = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), ALL).start();
    heard.wait_events(1);
    let answer = ask(&heard, "snapshot", "");
    let picture = heard.message("belt/snapshot", |_| true);
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
    assert!(spread(88, 160) > 60, "the right half is as it was");
    drop(daemon);
}

#[test]
fn only_what_is_allowed_is_done_and_everything_is_answered() {
    let broker = Broker::start();
    let heard = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), "commands = [\"threshold\"]\n").start();
    heard.wait_events(1);
    refused(
        &ask(&heard, "enabled", "false"),
        "`mqtt.commands` of this device has threshold",
    );
    refused(&ask(&heard, "reboot", ""), "there is no such command");
    heard.publish("constancy/bench/gate/set/threshold", b"1", false);
    let answer = heard.message("gate/set/threshold/result", |_| true).json();
    refused(&answer, "there are belt");
    event_after(&heard, |e| e["known"] == true);
    drop(daemon);
}

#[test]
fn without_commands_nothing_is_subscribed_to() {
    let broker = Broker::start();
    let heard = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), "").start();
    heard.wait_events(1);
    heard.publish("constancy/bench/belt/set/enabled", b"false", false);
    event_after(&heard, |_| true);
    heard.wait("more events", |h| {
        (h.iter().filter(|h| h.is_event()).count() > 20).then_some(())
    });
    assert_eq!(results(&heard.heard(), "enabled"), Vec::<Value>::new());
    drop(daemon);
}

#[test]
fn a_retained_command_is_refused_and_one_of_many_bytes_ends_nothing() {
    let port = free_port();
    let broker = Broker::start();
    let heard = Subscriber::new(&broker);
    heard.publish("constancy/bench/belt/set/threshold", b"1.0", true);
    let link = Link::open(port, &broker);
    let daemon = setup(&format!("mqtt://127.0.0.1:{port}"), ALL).start();
    let answer = heard.message("belt/set/threshold/result", |_| true).json();
    refused(&answer, "is retained");
    assert_eq!(heard.wait_events(1)[0]["known"], true);
    refused(
        &ask(&heard, "labels", &"x".repeat(20_000)),
        "20000 bytes are too many",
    );
    // More than the client takes in at all: the connection goes, and comes again without listening.
    heard.publish(
        "constancy/bench/belt/set/labels",
        &vec![b'x'; 2 << 20],
        true,
    );
    daemon.wait_log("a message of more than 1 MiB came to constancy/bench/+/set/+; nothing is listened to for 300 s");
    daemon.wait_log_times("connected", 2);
    event_after(&heard, |_| true);
    drop(link);
}

#[test]
fn a_model_without_a_text_tower_says_why_labels_cannot_change() {
    let broker = Broker::start();
    let heard = Subscriber::new(&broker);
    let setup = setup(&broker.url(), ALL);
    // The same model without its text tower, with classes that were made before.
    let text = std::fs::read_to_string(tiny_model()).expect("manifest");
    let vision = text.split("[text]").next().unwrap_or_default();
    let file = |name: &str| tiny_model().with_file_name(name).display().to_string();
    let manifest = vision.replace("vision-fp32.onnx", &file("vision-fp32.onnx"));
    std::fs::write(setup.path("blind.toml"), manifest).expect("manifest");
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
        .replace(&tiny_model().display().to_string(), "blind.toml")
        .replace(
            "labels = [\"a gear\", \"a bolt\"]",
            "bank = \"bank.safetensors\"",
        );
    std::fs::write(setup.config(), written).expect("configuration");
    let daemon = setup.start();
    heard.wait_events(1);
    refused(&ask(&heard, "labels", "[\"a pipe\"]"), "[text]");
    drop(daemon);
}
