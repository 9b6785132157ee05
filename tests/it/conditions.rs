//! Calibration for another light: by the real daemon through a real broker, and by the command line.

use super::support::{
    Broker, Daemon, Setup, Subscriber, constancy, picture, stderr, stdout, tiny_model,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

const COMMANDS: &str = "commands = [\"calibrate\"]\n";

/// Writes `count` images of each of two classes, red and green, in turn; or, sorted, in folders of their classes.
/// `light` scales them.
fn write_parts(folder: &Path, count: u32, light: f64, sorted: bool) {
    for i in 0..count {
        for (class, gains) in [("red", [1.0, 0.45, 0.5]), ("green", [0.45, 1.0, 0.5])] {
            let mut image = picture(96, 96, i);
            for pixel in image.pixels_mut() {
                for (value, gain) in pixel.0.iter_mut().zip(gains) {
                    *value = (f64::from(*value) * gain * light).round() as u8;
                }
            }
            let path = if sorted {
                folder.join(class).join(format!("{i:03}.png"))
            } else {
                folder.join(format!("{i:03}-{class}.png"))
            };
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
            image.save(path).expect("image");
        }
    }
}

fn make_bank(folder: &Path, count: u32) -> PathBuf {
    let (examples, bank) = (folder.join("examples"), folder.join("bank.safetensors"));
    let _ = std::fs::remove_dir_all(&examples);
    write_parts(&examples, count, 1.0, true);
    let made = constancy()
        .args(["classes", "--no-cache", "--model"])
        .arg(tiny_model())
        .arg("--from-images")
        .arg(&examples)
        .arg("--output")
        .arg(&bank)
        .output()
        .expect("runs");
    assert!(made.status.success(), "{}", stderr(&made));
    bank
}

/// A device with a calibrated bank, whose camera looks at `day`; `night` and `one` (one class at night) lie beside it.
fn setup(broker: &str, more: &str) -> Setup {
    let setup = Setup::raw("");
    let folder = setup.path("");
    make_bank(&folder, 24);
    write_parts(&folder.join("day"), 24, 1.0, false);
    write_parts(&folder.join("night"), 24, 0.3, false);
    write_parts(&folder.join("one"), 24, 0.3, false);
    for i in 0..24 {
        std::fs::remove_file(folder.join(format!("one/{i:03}-green.png"))).expect("removed");
    }
    let text = format!(
        "device = \"bench\"\n[model]\nmanifest = \"{}\"\n[classes]\nbank = \"bank.safetensors\"\nthreshold = 0.5\n\
         [[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"night\"\nrate = 60.0\nloop = true\n\
         [mqtt]\nbroker = \"{broker}\"\nbackoff_max_s = 1\n{COMMANDS}[queue]\nfolder = \"state\"\n{more}",
        tiny_model().display()
    );
    std::fs::create_dir(folder.join("state")).expect("folder");
    std::fs::write(setup.config(), text).expect("configuration");
    setup
}

fn send(subscriber: &Subscriber, payload: &str) -> Value {
    let topic = "belt/set/calibrate/result";
    let count = |messages: &[super::support::Message]| {
        messages.iter().filter(|m| m.topic.ends_with(topic)).count()
    };
    let before = count(&subscriber.messages());
    subscriber.publish(
        "constancy/bench/belt/set/calibrate",
        payload.as_bytes(),
        false,
    );
    subscriber.wait("the answer to calibrate", |messages| {
        let mut answers = messages.iter().filter(|m| m.topic.ends_with(topic));
        answers.nth(before).map(super::support::Message::json)
    })
}

/// Waits for a new event with this condition.
fn wait_condition(subscriber: &Subscriber, condition: &Value) {
    let before = subscriber.events().len();
    subscriber.wait(&format!("an event in condition {condition}"), |messages| {
        let events = messages.iter().filter(|m| m.is_event()).skip(before);
        events
            .map(super::support::Message::json)
            .find(|e| &e["condition"] == condition)
    });
}

/// The id of the profile that an answer names.
fn profile(answer: &Value) -> Value {
    assert_eq!(answer["ok"], true, "{answer}");
    let detail = answer["detail"].as_str().expect("detail");
    let id = detail.split_whitespace().nth(2).expect("an id");
    assert!(
        detail.starts_with("condition profile ") && detail.contains("known"),
        "{detail}"
    );
    Value::from(id)
}

fn look_at(daemon: &Daemon, from: &str, to: &str) {
    daemon
        .setup
        .replace(&format!("path = \"{from}\""), &format!("path = \"{to}\""));
    daemon.signal(libc::SIGHUP);
}

fn files(setup: &Setup) -> Vec<String> {
    let entries = std::fs::read_dir(setup.path("state")).expect("folder");
    let name = |e: std::fs::DirEntry| e.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.flatten().map(name).collect();
    names.retain(|n| n.starts_with("condition-"));
    names.sort();
    names
}

#[test]
fn a_calibration_is_used_kept_found_again_and_undone() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), "").start();
    wait_condition(&subscriber, &Value::Null);
    let night = profile(&send(&subscriber, "{\"frames\": 40}"));
    wait_condition(&subscriber, &night);
    subscriber.wait_message("belt/state", |m| m.json()["condition"] == night);
    assert_eq!(files(&daemon.setup).len(), 1);
    // The light of the calibration returns, and then the night.
    look_at(&daemon, "night", "day");
    wait_condition(&subscriber, &Value::Null);
    look_at(&daemon, "day", "night");
    wait_condition(&subscriber, &night);
    let listed = send(&subscriber, "{\"list\": true}");
    let listed = listed["detail"].as_str().expect("detail").to_owned();
    assert!(
        listed.contains(night.as_str().expect("an id")) && listed.contains("in use"),
        "{listed}"
    );
    // A restart.
    let daemon = daemon.take_setup().start();
    wait_condition(&subscriber, &night);
    // What one class says of the light is refused, and changes nothing.
    look_at(&daemon, "night", "one");
    daemon.wait_log_times("the new configuration is in force", 1);
    let refused = send(&subscriber, "{\"frames\": 24}");
    assert_eq!(refused["ok"], false, "{refused}");
    let reason = refused["detail"].as_str().expect("detail");
    assert!(reason.contains("things of all classes"), "{reason}");
    assert_eq!(files(&daemon.setup).len(), 1);
    let undone = send(&subscriber, "{\"undo\": true}");
    assert_eq!(undone["ok"], true, "{undone}");
    wait_condition(&subscriber, &Value::Null);
    assert!(files(&daemon.setup).is_empty());
    let nothing = send(&subscriber, "{\"undo\": true}");
    assert_eq!(nothing["detail"], "there is no condition profile to undo");
}

#[test]
fn a_profile_of_another_bank_and_a_damaged_one_are_refused_by_name() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), "").start();
    wait_condition(&subscriber, &Value::Null);
    let night = profile(&send(&subscriber, "{}"));
    wait_condition(&subscriber, &night);
    let bank = daemon.setup.path("bank.safetensors");
    let first = std::fs::read(&bank).expect("bank");
    std::fs::write(
        daemon.setup.path("state/condition-belt-7-00ff.safetensors"),
        "noise",
    )
    .expect("written");
    make_bank(&daemon.setup.path(""), 20);
    daemon.signal(libc::SIGHUP);
    let file = files(&daemon.setup)[0].clone();
    daemon.wait_log(&format!("{file}: belongs to class bank"));
    daemon.wait_log("condition-belt-7-00ff.safetensors: not a safetensors file");
    wait_condition(&subscriber, &Value::Null);
    // With its own bank, it is used again.
    std::fs::write(&bank, first).expect("bank");
    daemon.signal(libc::SIGHUP);
    wait_condition(&subscriber, &night);
}

fn calibrate(setup: &Setup, args: &[&str]) -> Output {
    let mut command = constancy();
    command
        .arg("calibrate")
        .args(args)
        .arg("--config")
        .arg(setup.config());
    command.output().expect("runs")
}

#[test]
fn the_command_line_asks_the_daemon_and_prints_before_and_after() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let daemon = setup(&broker.url(), "").start();
    wait_condition(&subscriber, &Value::Null);
    let made = calibrate(&daemon.setup, &["--frames", "40"]);
    let line = stdout(&made);
    assert!(
        made.status.success() && line.contains(" → ") && line.contains("from 40 frames"),
        "{line}{}",
        stderr(&made)
    );
    let listed = calibrate(&daemon.setup, &["--list", "--camera", "belt"]);
    assert!(stdout(&listed).contains("in use"), "{}", stdout(&listed));
    let undone = calibrate(&daemon.setup, &["--undo"]);
    assert!(
        stdout(&undone).contains("is removed; 0 left"),
        "{}{}",
        stdout(&undone),
        stderr(&undone)
    );
    let again = calibrate(&daemon.setup, &["--undo"]);
    assert_eq!(again.status.code(), Some(65));
    assert!(stderr(&again).contains("camera belt: there is no condition profile to undo"));
    let unknown = calibrate(&daemon.setup, &["--frames", "40", "--camera", "gate"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(
        stderr(&unknown).contains("it names belt"),
        "{}",
        stderr(&unknown)
    );
    daemon.setup.replace(COMMANDS, "commands = []\n");
    let forbidden = calibrate(&daemon.setup, &["--frames", "40"]);
    assert!(
        stderr(&forbidden).contains("does not list \"calibrate\""),
        "{}",
        stderr(&forbidden)
    );
}

#[test]
fn a_folder_of_the_new_light_makes_a_profile_that_the_daemon_finds() {
    let broker = Broker::start();
    let setup = setup(&broker.url(), "");
    let night = setup.path("night").to_string_lossy().into_owned();
    let made = calibrate(&setup, &[&night, "--camera", "belt", "--no-cache"]);
    let line = stdout(&made);
    assert!(
        made.status.success() && line.contains("from 48 frames"),
        "{line}{}",
        stderr(&made)
    );
    let one = setup.path("one").to_string_lossy().into_owned();
    let refused = calibrate(&setup, &[&one, "--camera", "belt", "--no-cache"]);
    assert_eq!(refused.status.code(), Some(65));
    assert!(
        stderr(&refused).contains("things of all classes"),
        "{}",
        stderr(&refused)
    );
    let id = line
        .split("condition profile ")
        .nth(1)
        .and_then(|r| r.split_whitespace().next());
    let id = Value::from(id.expect("an id"));
    let subscriber = Subscriber::new(&broker);
    let _daemon = setup.start();
    wait_condition(&subscriber, &id);
    let offline = calibrate_nowhere();
    assert_eq!(offline.status.code(), Some(69), "{}", stderr(&offline));
}

/// A calibration by a daemon that does not run.
fn calibrate_nowhere() -> Output {
    let setup = setup("mqtt://127.0.0.1:1", "");
    calibrate(&setup, &["--frames", "40"])
}

#[test]
fn following_by_itself_is_refused_where_the_bank_does_not_allow_it() {
    let setup = setup("mqtt://127.0.0.1:1", "[light]\nadapt = \"auto\"\n");
    let bank = setup.path("bank.safetensors");
    // A bank of five images of each class knows nothing of its light.
    make_bank(bank.parent().expect("folder"), 5);
    let checked = constancy()
        .args(["run", "--config"])
        .arg(setup.config())
        .output()
        .expect("runs");
    assert_eq!(checked.status.code(), Some(78), "{}", stderr(&checked));
    assert!(
        stderr(&checked).contains("`light.adapt` is \"auto\", but the class bank"),
        "{}",
        stderr(&checked)
    );
}
