//! What a frame costs besides the tower, against the tower, in one run.
//!
//! Both are counted in the processor time of one thread. Preprocessing keeps to one, and a tower is shared by as many as
//! there are: by the clock, the share would grow with every core that is added, though neither costs more; and whatever
//! else the machine does would be counted, too. The picture is dearer than a camera's, whose MJPEG has half the chroma.

use super::support::{Broker, Subscriber, event, fixture, jpeg, tiny_model};
use constancy::config::Settings;
use constancy::publish::Sink;
use constancy::recognizer::FrameEncoder;
use constancy_core::classify::{BankOrigin, ClassBank, Classifier};
use constancy_core::frame::{Frame, PixelFormat, Timestamp};
use constancy_core::preprocess::Preprocessor;
use constancy_engine::{Encoder, EngineOptions};
use std::path::PathBuf;
use std::time::Duration;

const ROUNDS: usize = 21;
const WIDTH: usize = 512;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Processor time of this thread so far.
fn processor_ms() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call fills what it is pointed to.
    assert_eq!(
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) },
        0
    );
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn ms<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = processor_ms();
    let result = work();
    (result, processor_ms() - start)
}

/// A manifest for the tower of CLIP ViT-B/32's real size, in a folder of its own.
fn tower() -> Option<(tempfile::TempDir, PathBuf)> {
    let path = std::env::var_os("CONSTANCY_TEST_TOWER")
        .map(PathBuf::from)
        .filter(|p| p.exists());
    let Some(path) = path else {
        println!(
            "SKIPPED: CONSTANCY_TEST_TOWER names no CLIP ViT-B/32 tower in fp32; `make test` makes one"
        );
        return None;
    };
    let folder = tempfile::tempdir().expect("folder");
    let manifest = std::fs::read_to_string(tiny_model()).expect("manifest");
    let manifest = manifest.split("[text]").next().unwrap_or_default();
    let lines = manifest.lines().filter(|l| !l.starts_with("sha256"));
    let manifest = lines.collect::<Vec<_>>().join("\n");
    let manifest = manifest
        .replace(
            "vision-fp32.onnx",
            &path.canonicalize().expect("tower").display().to_string(),
        )
        .replace("size = 32", "size = 224")
        .replace("width = 48", "width = 512");
    let to = folder.path().join("tower.toml");
    std::fs::write(&to, manifest).expect("manifest");
    Some((folder, to))
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
    };
    Classifier::new(bank, Some(projection()), "0123456789ab", 100.0)
}

/// 400 of 512 directions.
fn projection() -> constancy_core::icm::Projection {
    let rank = 400;
    let columns: Vec<u8> = (0..WIDTH * rank)
        .flat_map(|i| f32::from(u8::from(i / rank == i % rank)).to_le_bytes())
        .collect();
    let zeros = vec![0u8; WIDTH * 4];
    let view = |shape: Vec<usize>, data| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, data).expect("view")
    };
    let tensors = [
        ("projection", view(vec![WIDTH, rank], &columns)),
        ("mean", view(vec![WIDTH], &zeros)),
        ("eigenvalues", view(vec![WIDTH], &zeros)),
    ];
    let template = std::fs::read(fixture("projection/tiny.safetensors")).expect("projection");
    let (_, header) = safetensors::SafeTensors::read_metadata(&template).expect("header");
    let mut metadata = header.metadata().clone().expect("metadata");
    metadata.insert("width".into(), WIDTH.to_string());
    metadata.insert("rank".into(), rank.to_string());
    let sha256 = metadata["encoder_sha256"].clone();
    let bytes = safetensors::serialize(tensors, Some(metadata)).expect("file");
    constancy_core::icm::Projection::parse(&bytes, &sha256, WIDTH).expect("projection")
}

#[test]
fn everything_but_the_tower_costs_a_tenth_of_it_at_most() {
    let Some((_folder, manifest)) = tower() else {
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
    let text = format!(
        "device = \"bench\"\n[model]\nmanifest = \"{}\"\n[classes]\nlabels = [\"a\"]\n[[camera]]\nname = \"c\"\n[camera.v4l]\ndevice = \"/dev/null\"\n[mqtt]\nbroker = \"{}\"\n",
        manifest.display(),
        broker.url()
    );
    let settings = Settings::parse(&text, &manifest.with_file_name("c.toml")).expect("settings");
    let sink = Sink::open(&settings).expect("sink");
    let data = jpeg(1280, 720, 3);
    let (mut preprocess, mut embed, mut classify, mut publishing) =
        (vec![], vec![], vec![], vec![]);
    let mut last = Vec::new();
    for round in 0..ROUNDS {
        let taken = Timestamp {
            monotonic_ns: 1,
            unix_ns: 1,
            clock_synced: true,
        };
        let frame = Frame::compressed(PixelFormat::Jpeg, data.clone(), taken);
        let (tensor, t) = ms(|| preprocessor.tensor(&frame).expect("a good frame"));
        preprocess.push(t);
        let (embedding, t) = ms(|| encoder.embed(&tensor).expect("embedding"));
        embed.push(t);
        let (decision, t) = ms(|| classifier.classify(&embedding));
        classify.push(t);
        let hand_over = || {
            sink.event(&event("bench", &decision, frame.taken, round as u64))
                .expect("it is taken")
        };
        publishing.push(ms(hand_over).1);
        last = embedding;
    }
    subscriber.wait_events(ROUNDS);
    assert_eq!(sink.close(Duration::from_secs(2)).messages, 0);
    let (preprocess, embed) = (median(preprocess), median(embed));
    let (classify, publishing) = (median(classify), median(publishing));
    let share = (preprocess + classify + publishing) / embed;
    println!(
        "processor time of a 1280×720 MJPEG frame ({} KiB): decode, resize, normalise {preprocess:.2} ms; project, classify {classify:.3} ms; publish {publishing:.3} ms; ViT-B/32 in fp32 {embed:.1} ms; share {:.1} %",
        data.len() / 1024,
        share * 100.0
    );
    assert!(share <= 0.10, "{:.1} %", share * 100.0);
    // The same frame through the frame_encoder that the daemon uses gives the same tower's answer.
    let mut frame_encoder = FrameEncoder::load(&manifest, &on_this_thread).expect("frame_encoder");
    let taken = Timestamp {
        monotonic_ns: 1,
        unix_ns: 1,
        clock_synced: true,
    };
    let frame = Frame::compressed(PixelFormat::Jpeg, data, taken);
    let (embedding, latency) = frame_encoder.embed(&frame).expect("embedding");
    assert_eq!(embedding, last);
    assert!(latency.embed_ms > 0.0 && latency.preprocess_ms > 0.0);
}
