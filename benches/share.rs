//! The cost of a frame besides the tower, relative to the tower. Needs mosquitto and the CLIP ViT-B/32 tower that
//! CONSTANCY_TEST_TOWER names.
//!
//! Measures processor time of one thread. By the clock, the share would depend on the number of cores, since the tower
//! uses all of them and preprocessing uses one.

#![allow(unreachable_pub, reason = "a bench exports nothing")]
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench reports errors by panicking, and prints its figures"
)]

#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as in the tests"
)]
mod support;

use constancy::config::Settings;
use constancy::publish::Sink;
use constancy_core::classify::{BankOrigin, ClassBank, Classifier};
use constancy_core::frame::{Frame, PixelFormat, Timestamp};
use constancy_core::icm::Projection;
use constancy_core::preprocess::Preprocessor;
use constancy_engine::{Encoder, EngineOptions};
use std::path::Path;
use std::time::Duration;
use support::{Broker, Subscriber, event, fixture, full_size_model, jpeg};

const ROUNDS: usize = 21;
/// Width of ViT-B/32's embeddings.
const WIDTH: usize = 512;
/// Directions that the projection keeps.
const RANK: usize = 400;

const CAPTURED_AT: Timestamp = Timestamp {
    monotonic_ns: 1,
    unix_ns: 1,
    clock_synced: true,
};

/// Processor time of this thread so far, milliseconds.
fn processor_ms() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes to a valid timespec of this frame.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// The times of one stage, milliseconds of processor time.
#[derive(Default)]
struct Stage(Vec<f64>);

impl Stage {
    fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = processor_ms();
        let result = work();
        self.0.push(processor_ms() - start);
        result
    }

    fn median(mut self) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0[self.0.len() / 2]
    }
}

/// A classifier of ten classes behind a projection of full size.
fn classifier() -> Classifier {
    let random = |seed: u64| {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..WIDTH).map(|_| rng.f32() - 0.5).collect::<Vec<f32>>()
    };
    let bank = ClassBank {
        labels: (0..10).map(|i| format!("class {i}")).collect(),
        templates: Vec::new(),
        origin: BankOrigin::Text,
        encoder_sha256: String::new(),
        rows: (0..10).map(random).collect(),
        support: None,
        probe: None,
        whitening: None,
        confidence: None,
    };
    Classifier::new(bank, Some(projection()), "0123456789ab", 100.0)
}

/// The first [`RANK`] of [`WIDTH`] directions, with the metadata of the fixtures' projection.
fn projection() -> Projection {
    let columns: Vec<u8> = (0..WIDTH * RANK)
        .flat_map(|i| f32::from(u8::from(i / RANK == i % RANK)).to_le_bytes())
        .collect();
    let zeros = vec![0u8; WIDTH * 4];
    let view = |shape: Vec<usize>, data| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, data).expect("view")
    };
    let tensors = [
        ("projection", view(vec![WIDTH, RANK], &columns)),
        ("mean", view(vec![WIDTH], &zeros)),
        ("eigenvalues", view(vec![WIDTH], &zeros)),
    ];
    let template = std::fs::read(fixture("projection/tiny.safetensors")).expect("projection");
    let (_, header) = safetensors::SafeTensors::read_metadata(&template).expect("header");
    let mut metadata = header.metadata().clone().expect("metadata");
    metadata.insert("width".into(), WIDTH.to_string());
    metadata.insert("rank".into(), RANK.to_string());
    let sha256 = metadata["encoder_sha256"].clone();
    let bytes = safetensors::serialize(tensors, Some(metadata)).expect("file");
    Projection::parse(&bytes, &sha256, WIDTH).expect("projection")
}

fn sink(manifest: &Path, broker: &Broker) -> Sink {
    let text = format!(
        "device = \"bench\"\n[model]\nmanifest = \"{}\"\n[classes]\nlabels = [\"a\"]\n[[camera]]\nname = \"c\"\n\
         [camera.v4l]\ndevice = \"/dev/null\"\n[mqtt]\nbroker = \"{}\"\n",
        manifest.display(),
        broker.url()
    );
    let settings = Settings::parse(&text, &manifest.with_file_name("c.toml")).expect("settings");
    Sink::open(&settings).expect("sink")
}

fn main() {
    let folder = tempfile::tempdir().expect("folder");
    let Some(manifest) = full_size_model(folder.path()) else {
        return;
    };
    let on_this_thread = EngineOptions {
        threads: Some(1),
        ..EngineOptions::default()
    };
    let encoder = Encoder::load(&manifest, &on_this_thread).expect("tower");
    let mut preprocessor = Preprocessor::new(encoder.manifest().transform());
    let classifier = classifier();
    let broker = Broker::start();
    let subscriber = Subscriber::new(&broker);
    let sink = sink(&manifest, &broker);
    // More work than most cameras' MJPEG, which has half the chroma.
    let data = jpeg(1280, 720, 3);
    let kib = data.len() / 1024;
    let frame = Frame::compressed(PixelFormat::Jpeg, data, CAPTURED_AT);
    let [mut preprocess, mut embed, mut classify, mut publish] = [(); 4].map(|()| Stage::default());
    for seq in 0..ROUNDS as u64 {
        let tensor = preprocess.measure(|| preprocessor.tensor(&frame).expect("a good frame"));
        let embedding = embed.measure(|| encoder.embed(&tensor).expect("embedding"));
        let decision = classify.measure(|| classifier.classify(&embedding));
        publish.measure(|| {
            sink.event(&event("bench", &decision, CAPTURED_AT, seq))
                .expect("the event is queued");
        });
    }
    subscriber.wait_events(ROUNDS);
    assert_eq!(sink.close(Duration::from_secs(2)).messages, 0);
    let [preprocess, embed, classify, publish] =
        [preprocess, embed, classify, publish].map(Stage::median);
    let share = (preprocess + classify + publish) / embed * 100.0;
    println!(
        "processor time of a 1280×720 MJPEG frame ({kib} KiB): decode, resize, normalise {preprocess:.2} ms; \
         project, classify {classify:.3} ms; publish {publish:.3} ms; ViT-B/32 in fp32 {embed:.1} ms; share {share:.1} %"
    );
}
