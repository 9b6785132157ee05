//! Real photographs, classified by a network that was trained on others, through a real broker.

use super::support::{Broker, Setup, Subscriber, constancy, seqs, stderr, test_data};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Images of each class that its class mean is made from.
const EXAMPLES: usize = 10;
const CLASSES: usize = 7;
const PHOTOGRAPHS: usize = 350;

/// MobileNetV2's own preprocessing: RGB, (u8 − 128)/128.
fn manifest(model: &Path) -> String {
    format!(
        "[encoder]\nname = \"mobilenet-v2\"\nfile = \"{}\"\n[input]\nname = \"input\"\nsize = 224\nresize = \"shortest-edge\"\nfilter = \"bicubic\"\ncrop = \"center\"\nmean = [0.50196078, 0.50196078, 0.50196078]\nstd = [0.50196078, 0.50196078, 0.50196078]\n[output]\nname = \"features\"\nwidth = 1280\nlogit_scale = 20.0\n",
        model.display()
    )
}

/// A daemon's folder with model and class bank, and `photos` as its only recording.
fn setup(photos: &Path, model: &Path, broker: &Broker) -> Setup {
    let setup = Setup::raw(&format!(
        "device = \"bench\"\n[model]\nmanifest = \"model.toml\"\n[classes]\nbank = \"classes.safetensors\"\n[[camera]]\nname = \"photos\"\n[camera.replay]\npath = \"{}\"\n[mqtt]\nbroker = \"{}\"\n",
        photos.display(),
        broker.url()
    ));
    std::fs::write(setup.path("model.toml"), manifest(model)).expect("manifest");
    let made = constancy()
        .args(["classes", "--model"])
        .arg(setup.path("model.toml"))
        .arg("--from-images")
        .arg(photos)
        .args(["--per-class", &EXAMPLES.to_string(), "--output"])
        .arg(setup.path("classes.safetensors"))
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", stderr(&made));
    setup
}

/// The files that the class means are made from: the first of each class by name.
fn examples(photos: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("folder");
        let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("entry").path()).collect();
        paths.sort();
        paths
    };
    list(photos)
        .iter()
        .flat_map(|class| list(class).into_iter().take(EXAMPLES))
        .collect()
}

fn file(event: &Value) -> &Path {
    Path::new(event["file"].as_str().expect("file"))
}

/// Whether the event names the class of the photograph's folder.
fn is_right(event: &Value) -> bool {
    let class = file(event).parent().and_then(Path::file_name);
    event["class"] == *class.expect("class").to_string_lossy()
}

fn assert_valid(events: &[Value]) {
    let schema =
        serde_json::from_str(include_str!("../../docs/event.schema.json")).expect("schema");
    let schema = jsonschema::validator_for(&schema).expect("schema");
    for event in events {
        if let Err(e) = schema.validate(event) {
            panic!("{e}: {event}");
        }
        assert_eq!(event["projection"], "identity");
    }
}

#[test]
fn photographs_are_classified_correctly_and_every_event_matches_the_schema() {
    let Some(photos) = test_data("pacs-mini/photo") else {
        return;
    };
    let Some(model) = test_data("mobilenet/mobilenet_v2_conse.onnx") else {
        return;
    };
    let photos = photos.canonicalize().expect("photos");
    let model = model.canonicalize().expect("model");
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let mut daemon = setup(&photos, &model, &broker).start();
    let (status, took) = daemon.wait_exit(Duration::from_secs(120));
    assert!(status.success());
    subscriber.wait("the last status", |messages| {
        messages.iter().any(|m| m.text() == "stopped").then_some(())
    });
    let events = subscriber.events();
    assert_eq!(
        seqs(&events),
        (0..PHOTOGRAPHS as u64).collect::<Vec<_>>(),
        "one event per photograph, in order"
    );
    assert_valid(&events);

    let examples = examples(&photos);
    let is_example = |event: &&Value| examples.iter().any(|e| e == file(event));
    let judged: Vec<&Value> = events.iter().filter(|e| !is_example(e)).collect();
    let right = judged.iter().filter(|e| is_right(e)).count();
    let known: Vec<_> = judged.iter().filter(|e| e["known"] == true).collect();
    let total = judged.len();
    println!(
        "{right} of {total} photographs right ({:.1} %); {} called known, {} of them right; {:.1} s",
        100.0 * right as f64 / total as f64,
        known.len(),
        known.iter().filter(|e| is_right(e)).count(),
        took.as_secs_f64()
    );
    assert_eq!(total, PHOTOGRAPHS - CLASSES * EXAMPLES);
    assert!(right * 10 >= total * 9, "{right} of {total}");
}
