//! The main job on real photographs, with a real network trained on other ones, through a real broker.

use super::support::{Broker, LIMIT, Setup, Subscriber, constancy, stderr, test_data};
use std::path::Path;
use std::time::Duration;

/// Images per class that the class means are made of.
const EXAMPLES: usize = 10;

/// MobileNetV2's own preprocessing: RGB, (u8 − 128)/128.
fn manifest(model: &Path) -> String {
    format!(
        "[encoder]\nname = \"mobilenet-v2\"\nfile = \"{}\"\n[input]\nname = \"input\"\nsize = 224\nresize = \"shortest-edge\"\nfilter = \"bicubic\"\ncrop = \"center\"\nmean = [0.50196078, 0.50196078, 0.50196078]\nstd = [0.50196078, 0.50196078, 0.50196078]\n[output]\nname = \"features\"\nwidth = 1280\nlogit_scale = 20.0\n",
        model.display()
    )
}

#[test]
fn photographs_are_named_right_and_every_event_fits_the_schema() {
    let Some(photos) = test_data("pacs-mini/photo") else {
        return;
    };
    let Some(model) = test_data("mobilenet/mobilenet_v2_conse.onnx") else {
        return;
    };
    let (photos, model) = (
        photos.canonicalize().expect("photos"),
        model.canonicalize().expect("model"),
    );
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let setup = Setup::raw(&format!(
        "device = \"bench\"\n[model]\nmanifest = \"model.toml\"\n[classes]\nbank = \"classes.safetensors\"\n[[camera]]\nname = \"photos\"\n[camera.replay]\npath = \"{}\"\n[mqtt]\nbroker = \"{}\"\n",
        photos.display(),
        broker.url()
    ));
    std::fs::write(setup.path("model.toml"), manifest(&model)).expect("manifest");
    let made = constancy()
        .args(["classes", "--model"])
        .arg(setup.path("model.toml"))
        .arg("--from-images")
        .arg(&photos)
        .args(["--per-class", &EXAMPLES.to_string(), "--output"])
        .arg(setup.path("classes.safetensors"))
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", stderr(&made));
    let examples = examples(&photos);

    let mut daemon = setup.start();
    let (status, took) = daemon.wait_exit(Duration::from_secs(120));
    assert!(status.success());
    subscriber.wait_long("the daemon's farewell", LIMIT, |heard| {
        heard.iter().any(|h| h.text() == "stopped").then_some(())
    });
    let events = subscriber.events();
    let seqs: Vec<Option<u64>> = events.iter().map(|e| e["seq"].as_u64()).collect();
    assert_eq!(
        seqs,
        (0..350).map(Some).collect::<Vec<_>>(),
        "one event per photograph, in order"
    );

    let schema =
        serde_json::from_str(include_str!("../../docs/event.schema.json")).expect("schema");
    let schema = jsonschema::validator_for(&schema).expect("schema");
    let (mut right, mut total, mut known, mut right_known) = (0, 0, 0, 0);
    for event in &events {
        if let Err(e) = schema.validate(event) {
            panic!("{e}: {event}");
        }
        assert_eq!(event["projection"], "identity");
        let file = Path::new(event["file"].as_str().expect("file"));
        if examples.iter().any(|e| e == file) {
            continue;
        }
        let truth = file
            .parent()
            .and_then(Path::file_name)
            .expect("class")
            .to_string_lossy();
        let is_right = event["class"] == *truth;
        total += 1;
        right += usize::from(is_right);
        known += usize::from(event["known"] == true);
        right_known += usize::from(is_right && event["known"] == true);
    }
    println!(
        "{right} of {total} photographs right ({:.1} %); {known} called known, {right_known} of them right; {:.1} s",
        100.0 * f64::from(right as u32) / f64::from(total),
        took.as_secs_f64()
    );
    assert_eq!(total, 350 - 7 * EXAMPLES as u32);
    assert!(right as u32 * 10 >= total * 9, "{right} of {total}");
}

/// The files that the class means are made of: the first of each class by name.
fn examples(photos: &Path) -> Vec<std::path::PathBuf> {
    let list = |folder: &Path| {
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .expect("folder")
            .map(|e| e.expect("entry").path())
            .collect();
        paths.sort();
        paths
    };
    list(photos)
        .iter()
        .flat_map(|class| list(class).into_iter().take(EXAMPLES))
        .collect()
}
