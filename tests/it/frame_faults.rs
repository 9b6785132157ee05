//! Frames that arrive and cannot be recognised, whatever the cause: the camera has a fault, and nothing else has.

use super::support::{
    Broker, Daemon, FATAL_BRIGHTNESS, LIMIT, Setup, Subscriber, jpeg, tiny_model,
    write_overflowing_model, write_panicking_model,
};
use image::{GrayImage, Luma};
use serde_json::Value;

/// A camera that is never still: while the file `good` exists it sends `good.jpg`, else `bad.jpg`. Each start of its program
/// adds a line to `starts`.
fn camera(stall_s: f64) -> String {
    let script = "cd DIR; echo >> starts; i=0; while true; do i=$((i+1)); \
                  if [ -e good ]; then cat good.jpg; else cat bad.jpg; fi; echo $i; sleep 0.05; done";
    format!(
        "[[camera]]\nname = \"gate\"\nstall_s = {stall_s:.1}\n[camera.pipe]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n"
    )
}

fn mqtt(broker: &Broker) -> String {
    format!("[mqtt]\nbroker = \"{}\"\n", broker.url())
}

fn starts(daemon: &Daemon) -> usize {
    std::fs::read_to_string(daemon.setup.path("starts"))
        .unwrap_or_default()
        .lines()
        .count()
}

/// A JPEG whose header survives, and whose data does not.
fn corrupt() -> Vec<u8> {
    let mut bytes = jpeg(160, 120, 1);
    let middle = bytes.len() / 2;
    bytes[300..middle].fill(0x55);
    bytes
}

fn lines_with(daemon: &Daemon, text: &str) -> usize {
    daemon.log().lines().filter(|l| l.contains(text)).count()
}

/// The camera's fault, once its retained state has one.
fn wait_fault(subscriber: &Subscriber) -> String {
    let state = subscriber
        .wait_message("gate/state", |m| !m.json()["fault"].is_null())
        .json();
    assert_eq!(state["class"], Value::Null, "no class is left: {state}");
    state["fault"].as_str().expect("a fault").to_owned()
}

/// Waits until the camera was reopened `times` more often.
fn wait_reopened(daemon: &Daemon, times: usize) {
    let so_far = starts(daemon);
    super::support::wait_for("the stream to be reopened", || {
        (starts(daemon) >= so_far + times).then_some(())
    });
}

#[test]
fn a_stream_that_can_no_longer_be_decoded_is_a_fault_told_once() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = Setup::new(&format!("{}{}", camera(0.5), mqtt(&broker)));
    std::fs::write(setup.path("good.jpg"), jpeg(160, 120, 1)).expect("image");
    std::fs::write(setup.path("bad.jpg"), corrupt()).expect("image");
    std::fs::write(setup.path("good"), "").expect("file");
    let daemon = setup.start();
    let before = subscriber.wait_events(3).len();
    std::fs::remove_file(daemon.setup.path("good")).expect("removed");
    let fault = wait_fault(&subscriber);
    assert!(
        fault.contains("that can be decoded") && fault.contains("JPEG"),
        "the fault gives the last reason: {fault}"
    );
    wait_reopened(&daemon, 3);
    assert_eq!(
        lines_with(&daemon, "trying again in"),
        1,
        "{}",
        daemon.log()
    );
    let skipped = lines_with(&daemon, "frame skipped");
    assert!(skipped < 12, "not a line per frame: {}", daemon.log());
    let faults = subscriber.messages();
    let faults = faults
        .iter()
        .filter(|m| m.topic.ends_with("gate/state") && !m.json()["fault"].is_null());
    assert_eq!(faults.count(), 1, "the state is published once");
    std::fs::write(daemon.setup.path("good"), "").expect("file");
    subscriber.wait_events(before + 5);
    subscriber.wait("the state to name a class again", |messages| {
        let mut latest_first = messages.iter().rev();
        let last = latest_first.find(|m| m.topic.ends_with("gate/state"))?;
        last.json()["fault"].is_null().then_some(())
    });
}

/// A damaged model, or a picture that it cannot bear: the embedding is not a number.
#[test]
fn a_stream_without_embeddings_is_a_fault_and_the_daemon_stays() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = Setup::new(&format!("{}{}", camera(0.5), mqtt(&broker)));
    write_overflowing_model(&setup.path("overflow.toml"));
    setup.replace(
        &tiny_model().display().to_string(),
        &setup.path("overflow.toml").display().to_string(),
    );
    std::fs::write(setup.path("bad.jpg"), jpeg(160, 120, 1)).expect("image");
    let daemon = setup.start();
    let fault = wait_fault(&subscriber);
    assert!(fault.contains("not a number"), "{fault}");
    wait_reopened(&daemon, 2);
    assert_eq!(
        lines_with(&daemon, "trying again in"),
        1,
        "{}",
        daemon.log()
    );
}

#[test]
fn a_command_that_switches_a_camera_off_is_no_fault_of_its_stream() {
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = Setup::new(&format!(
        "{}{}commands = [\"enabled\"]\n",
        camera(0.5),
        mqtt(&broker)
    ));
    std::fs::write(setup.path("good.jpg"), jpeg(160, 120, 1)).expect("image");
    std::fs::write(setup.path("good"), "").expect("file");
    let daemon = setup.start();
    subscriber.wait_events(3);
    subscriber.publish("constancy/bench/gate/set/enabled", b"false", false);
    assert_eq!(wait_fault(&subscriber), "switched off over MQTT");
    // Longer than `stall_s`, in frames that nobody decodes.
    subscriber.publish("constancy/bench/gate/set/enabled", b"true", false);
    let events = subscriber.events().len();
    subscriber.wait_events(events + 30);
    assert_eq!(starts(&daemon), 1, "it was not reopened: {}", daemon.log());
}

/// Writes pictures of one brightness each, and the list that replays them.
fn replay_of(setup: &Setup, brightness: &[u8]) {
    let mut list = String::new();
    for (i, &value) in brightness.iter().enumerate() {
        let name = format!("{i}.png");
        let picture = GrayImage::from_pixel(40, 40, Luma([value]));
        picture.save(setup.path(&name)).expect("image");
        list.push_str(&name);
        list.push('\n');
    }
    std::fs::write(setup.path("images.txt"), list).expect("list");
}

/// A recording for a tower that panics at [`FATAL_BRIGHTNESS`].
fn setup_that_panics(brightness: &[u8]) -> Setup {
    let setup = Setup::new("[[camera]]\nname = \"belt\"\n[camera.replay]\npath = \"images.txt\"\n");
    let model = write_panicking_model(setup.folder.path());
    setup.replace(
        &tiny_model().display().to_string(),
        &model.display().to_string(),
    );
    replay_of(&setup, brightness);
    setup
}

#[test]
fn a_frame_at_which_the_model_panics_is_skipped() {
    let mut daemon = setup_that_panics(&[90, FATAL_BRIGHTNESS, 30, FATAL_BRIGHTNESS, 60]).start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert!(status.success(), "{status}: {}", daemon.log());
    let events = daemon.wait_events(3);
    assert_eq!(events[2]["damaged_frames"], 2);
    assert_eq!(events[2]["seq"], 2);
    for name in ["1.png", "3.png"] {
        let told = lines_with(&daemon, name);
        assert_eq!(told, 1, "one message for {name}: {}", daemon.log());
    }
    assert_eq!(lines_with(&daemon, "panicked"), 0, "{}", daemon.log());
}

#[test]
fn a_model_that_does_nothing_but_panic_ends_the_daemon() {
    let mut daemon = setup_that_panics(&[&[90][..], &[FATAL_BRIGHTNESS; 9]].concat()).start();
    let (status, _) = daemon.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(70), "{}", daemon.log());
    let log = daemon.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("error: ")
            && last.contains("the model failed unexpectedly on 5 frames in a row")
            && last.contains("out of "),
        "{log}"
    );
}
