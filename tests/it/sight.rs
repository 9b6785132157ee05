//! How well a camera sees: faults told by its reference picture, and the drift of its light, from the real daemon.

use super::support::{
    Broker, LIMIT, Message, Setup, Subscriber, constancy, pocket_model, stderr, stdout,
};
use constancy_core::camera_health::{Glance, HealthMonitor, ReferenceOrigin};
use constancy_core::preprocess::{RgbImage, View};
use constancy_core::workshop::{ENVIRONMENTS, Scene, render};
use serde_json::{Value, json};
use std::path::Path;

const SIZE: (u32, u32) = (320, 240);
const FILE: &str = "state/reference-belt.safetensors";

/// The workshop at noon.
fn workshop(seed: u64) -> Vec<u8> {
    render(&Scene::from_seed(seed, &ENVIRONMENTS[0]), SIZE.0, SIZE.1)
}

/// The bytes of a reference that was learnt from the workshop.
fn reference(camera: &str) -> Vec<u8> {
    let glances: Vec<Glance> = (0..40)
        .map(|seed| {
            let image = RgbImage {
                width: SIZE.0,
                height: SIZE.1,
                data: workshop(seed),
            };
            Glance::at(&image, None)
        })
        .collect();
    let mut monitor = HealthMonitor::new(None);
    for (frame, glance) in (0..400u64).zip(glances.iter().cycle()) {
        monitor.update(glance, frame * 200_000_000);
    }
    let origin = ReferenceOrigin {
        camera: camera.into(),
        view: format!("{:?}", View::WHOLE),
        learnt: "2026-11-30T20:00:00.000Z".into(),
    };
    let reference = monitor.reference().expect("it has learnt");
    reference.to_bytes(&origin).expect("bytes")
}

fn write_picture(folder: &Path, name: &str, pixels: Vec<u8>) {
    std::fs::create_dir_all(folder).expect("folder");
    let picture = image::RgbImage::from_raw(SIZE.0, SIZE.1, pixels).expect("a picture");
    picture.save(folder.join(name)).expect("saved");
}

/// A camera `belt` with a reference, in front of the workshop; the folder `covered` has what a hand over the lens shows.
fn setup(broker: &Broker) -> Setup {
    let setup = Setup::new(&config(broker, "workshop"));
    std::fs::create_dir(setup.path("state")).expect("folder");
    std::fs::write(setup.path(FILE), reference("belt")).expect("reference");
    for seed in 0..6 {
        write_picture(
            &setup.path("workshop"),
            &format!("{seed}.png"),
            workshop(seed),
        );
        let skin = [150, 100, 80 + u8::try_from(seed).expect("small")];
        let pixels = skin.repeat((SIZE.0 * SIZE.1) as usize);
        write_picture(&setup.path("covered"), &format!("{seed}.png"), pixels);
    }
    setup
}

fn config(broker: &Broker, pictures: &str) -> String {
    format!(
        "[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"{pictures}\"\nrate = 20.0\nloop = true\n[queue]\nfolder = \"DIR/state\"\n[mqtt]\nbroker = \"{}\"\ncommands = [\"reference\"]\n",
        broker.url()
    )
}

fn state_with(subscriber: &Subscriber, health: &str) -> Value {
    let state = subscriber.wait_message("belt/state", |m| m.json()["camera_health"] == health);
    let schema =
        serde_json::from_str(include_str!("../../docs/state.schema.json")).expect("schema");
    jsonschema::validate(&schema, &state.json()).expect("the state matches its schema");
    state.json()
}

#[test]
fn a_covered_camera_is_told_and_a_new_reference_forgets_the_old_one() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(&broker).start();
    let good = state_with(&subscriber, "good");
    assert_eq!(
        good["reference"],
        json!({"ts": "2026-11-30T20:00:00.000Z", "background": false}),
        "every frame has another surface"
    );
    assert!(good["image"]["brightness"].as_f64() > Some(0.2), "{good}");
    assert_eq!(
        (&good["light"], &good["drift"]),
        (&Value::Null, &Value::Null),
        "labels do not measure drift"
    );
    daemon.setup.write(&config(&broker, "covered"));
    daemon.signal(libc::SIGHUP);
    let covered = state_with(&subscriber, "covered");
    assert_eq!(
        covered["fault"],
        Value::Null,
        "frames come and are recognised"
    );
    daemon.wait_log("camera belt: covered");
    subscriber.wait("an event of the covered camera", |messages| {
        let events = messages.iter().filter(|m| m.is_event()).map(Message::json);
        events.into_iter().find(|e| e["camera_health"] == "covered")
    });
    subscriber.publish("constancy/bench/belt/set/reference", b"renew", false);
    subscriber.wait_message("set/reference/result", |m| m.json()["ok"] == true);
    assert_eq!(
        state_with(&subscriber, "learning")["reference"],
        Value::Null
    );
}

#[test]
fn the_command_line_shows_and_renews_a_reference() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(&broker).start();
    state_with(&subscriber, "good");
    let config = daemon.setup.config();
    let reference = |more: &[&str]| {
        let mut command = constancy();
        command.args(["camera", "reference", "belt", "--config"]);
        command.arg(&config).args(more).output().expect("it runs")
    };
    let shown = stdout(&reference(&[]));
    assert!(
        shown.contains("learnt at 2026-11-30T20:00:00.000Z from 301 frames"),
        "{shown}"
    );
    assert!(shown.contains("a moved camera cannot be told"), "{shown}");
    let renewed = reference(&["--renew"]);
    assert!(
        stdout(&renewed).contains("is removed"),
        "{}",
        stderr(&renewed)
    );
    state_with(&subscriber, "learning");
    daemon.wait_log("its reference picture was removed");
    assert!(stdout(&reference(&[])).contains("there is no reference yet"));
}

#[test]
fn a_reference_that_cannot_be_used_is_named_and_learnt_anew() {
    let broker = Broker::start();
    let other = reference("gate");
    let cases: [(&[u8], &str); 3] = [
        (b"noise", "not a safetensors file"),
        (&other, "it belongs to camera `gate`"),
        (b"", "it is empty"),
    ];
    for (bytes, why) in cases {
        let setup = setup(&broker);
        std::fs::write(setup.path(FILE), bytes).expect("reference");
        let output = constancy()
            .args(["camera", "reference", "belt", "--config"])
            .arg(setup.config())
            .output()
            .expect("it runs");
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(65), "{message}");
        assert!(
            message.contains(why) && message.contains("--renew"),
            "{message}"
        );
        let daemon = setup.start();
        daemon.wait_log("reference-belt.safetensors");
        daemon.wait_log(why);
        daemon.wait_log("is learnt anew");
    }
}

/// The last event of pocket before 60 frames of the workshop in this environment.
fn last_event(environment: &str) -> Value {
    let model = pocket_model();
    let folder = model.parent().expect("a folder").display().to_string();
    let text = format!(
        "device = \"bench\"\n[model]\nmanifest = \"{folder}/pocket.toml\"\nprojection = \"{folder}/projection.safetensors\"\n[classes]\nbank = \"{folder}/classes.safetensors\"\n[[camera]]\nname = \"belt\"\n[camera.synthetic]\nenvironments = [\"{environment}\"]\ncount = 60\n"
    );
    let mut daemon = Setup::raw(&text).start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success(), "{}", daemon.log());
    let last = daemon.wait_events(60).pop().expect("an event");
    let schema =
        serde_json::from_str(include_str!("../../docs/event.schema.json")).expect("schema");
    jsonschema::validate(&schema, &last).expect("the event matches its schema");
    last
}

#[test]
fn light_that_the_calibration_knows_is_told_from_light_that_it_does_not() {
    let noon = last_event("noon");
    println!("noon: {} {}", noon["light"], noon["drift"]);
    assert_eq!(noon["light"], "as calibrated", "{noon}");
    assert!(noon["drift"]["quantile"].as_f64() < Some(0.95), "{noon}");
    for environment in ["backlight", "red-signal"] {
        let last = last_event(environment);
        println!("{environment}: {} {}", last["light"], last["drift"]);
        assert_ne!(last["light"], "as calibrated", "{last}");
        assert!(last["drift"]["level"].as_f64() > noon["drift"]["level"].as_f64());
    }
}
