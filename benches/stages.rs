//! One benchmark for each stage of a frame's path; `make bench` runs them. The embedding stage uses the CLIP ViT-B/32
//! tower that CONSTANCY_TEST_TOWER names, or the small tower of the test fixtures.

#![allow(unreachable_pub, reason = "a bench exports nothing")]
#![allow(
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a bench reports errors by panicking"
)]

#[path = "../tests/it/support/event.rs"]
mod event;

use constancy::recognizer::FrameEncoder;
use constancy_core::classify::{
    BankOrigin, Basis, ChangedLight, ClassBank, Classifier, Confidence, ConfidenceModel, Drift,
    Feature, Geometry, LowRank, MAX_DRIFT_RANK, MAX_RANK, Sum, Tails, Term,
};
use constancy_core::frame::{ColorEncoding, Frame, PixelFormat, Timestamp};
use constancy_core::intervene::{Family, intervene};
use constancy_core::jpeg::repair;
use constancy_core::numeric::{Rng, unit};
use constancy_core::preprocess::{
    Area, Preprocessor, RgbImage, Transform, View, ViewMasker, decode, is_complete_jpeg,
};
use constancy_core::workshop::{Condition, ENVIRONMENTS, Part, Scene, render};
use constancy_engine::{Encoder, EngineOptions};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use image::{ColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use std::hint::black_box;
use std::path::{Path, PathBuf};

const CAPTURED_AT: Timestamp = Timestamp {
    monotonic_ns: 1,
    unix_ns: 1_795_516_504_123_456_789,
    clock_synced: true,
};
const SIZE: (u32, u32) = (1280, 720);

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn picture() -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    let pixels = SIZE.0 * SIZE.1;
    (0..pixels)
        .flat_map(|i| {
            [(i % SIZE.0 / 5) as u8, (i / SIZE.0 / 3) as u8, 100]
                .map(|c| c.saturating_add(rng.u8(..16)))
        })
        .collect()
}

fn mjpeg() -> Frame {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .write_image(&picture(), SIZE.0, SIZE.1, ColorType::Rgb8.into())
        .expect("JPEG in memory");
    Frame::compressed(PixelFormat::Jpeg, bytes, CAPTURED_AT)
}

fn raw(format: PixelFormat, bytes_per_row: u32, rows: u32) -> Frame {
    let mut rng = fastrand::Rng::with_seed(2);
    let data = (0..bytes_per_row * rows).map(|_| rng.u8(16..235)).collect();
    let color = ColorEncoding {
        full_range: false,
        bt709: false,
    };
    Frame {
        data,
        format,
        width: SIZE.0,
        height: SIZE.1,
        stride_bytes: bytes_per_row as usize,
        color,
        captured_at: CAPTURED_AT,
        file: None,
        truth: None,
    }
}

fn clip() -> Transform {
    let manifest =
        constancy_engine::Manifest::read(&fixture("encoder/vision-fp32.toml")).expect("manifest");
    Transform {
        size: 224,
        resize_to: 224,
        ..manifest.transform()
    }
}

fn preprocessing(c: &mut Criterion) {
    let frames = [
        ("mjpeg", mjpeg()),
        ("yuyv", raw(PixelFormat::Yuyv, SIZE.0 * 2, SIZE.1)),
        ("nv12", raw(PixelFormat::Nv12, SIZE.0, SIZE.1 * 3 / 2)),
        ("grey", raw(PixelFormat::Grey, SIZE.0, SIZE.1)),
    ];
    let mut group = c.benchmark_group("decode 1280x720");
    for (name, frame) in &frames {
        let mut rgb = RgbImage::default();
        group.bench_function(*name, |b| {
            b.iter(|| decode(black_box(frame), &mut rgb).expect("a good frame"));
        });
    }
    group.finish();
    let mut group = c.benchmark_group("JPEG 1280x720");
    let data = &frames[0].1.data;
    // A part of the decoding above: it happens to every frame.
    group.bench_function("repair", |b| {
        b.iter(|| {
            let picture = repair(black_box(data)).next().expect("a picture");
            picture
                .expect("a good header")
                .rebuild()
                .expect("a good picture")
        });
    });
    // Only for frames of a stream that come without an end marker.
    group.bench_function("is it whole", |b| {
        b.iter(|| assert!(is_complete_jpeg(black_box(data))));
    });
    group.finish();
    let mut preprocessor = Preprocessor::new(clip());
    let mut group = c.benchmark_group("decode, resize, crop, normalise 1280x720 to 224");
    for (name, frame) in &frames {
        group.bench_function(*name, |b| {
            b.iter(|| preprocessor.tensor(black_box(frame)).expect("a good frame"));
        });
    }
    group.finish();
}

/// Masks and regions on a decoded picture.
fn viewing(c: &mut Criterion) {
    let corner = Area::Polygon(vec![[0.0, 0.0], [0.4, 0.0], [0.3, 0.3], [0.0, 0.5]]);
    let mask = View {
        mask: vec![corner, Area::Rectangle([0.8, 0.0, 1.0, 1.0])],
        ..View::default()
    };
    let region = View {
        region: Some(Area::Rectangle([0.1, 0.1, 0.9, 0.9])),
        ..View::default()
    };
    let rgb = RgbImage {
        width: SIZE.0,
        height: SIZE.1,
        data: picture(),
    };
    let mut group = c.benchmark_group("view 1280x720");
    for (name, view) in [
        ("two masks, 34 % of the picture", mask),
        ("region, 64 % of the picture", region),
    ] {
        let mut viewer = ViewMasker::new([122, 116, 104]);
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || rgb.clone(),
                |rgb| viewer.apply(&view, black_box(rgb)),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Interventions, which `fit` applies to each image, and renders, which the synthetic camera takes.
fn making_images(c: &mut Criterion) {
    let pixels = picture().into_iter().take(256 * 256 * 3).collect();
    let image = RgbImage {
        width: 256,
        height: 256,
        data: pixels,
    };
    let mut group = c.benchmark_group("intervene 256x256");
    for family in Family::PAPER.iter().chain(Family::CAMERA) {
        group.bench_function(family.name(), |b| {
            b.iter(|| intervene(black_box(&image), *family, 0.7, 1));
        });
    }
    group.finish();
    let mut rng = Rng::new(1);
    let scene = Scene::of(Part::Gear, Condition::Intact, &mut rng, &ENVIRONMENTS[0]);
    c.bench_function("render 640x480", |b| {
        b.iter(|| render(black_box(&scene), 640, 480));
    });
}

/// Name and manifest of the tower to measure.
fn tower(folder: &Path) -> (String, PathBuf) {
    let tiny = fixture("encoder/vision-fp32.toml");
    let Some(path) = std::env::var_os("CONSTANCY_TEST_TOWER")
        .map(PathBuf::from)
        .filter(|p| p.exists())
    else {
        return ("tower of the fixtures".into(), tiny);
    };
    let text = std::fs::read_to_string(tiny).expect("manifest");
    let text: Vec<&str> = text
        .split("[text]")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|l| !l.starts_with("sha256"))
        .collect();
    let text = text
        .join("\n")
        .replace("vision-fp32.onnx", &path.display().to_string());
    let manifest = folder.join("tower.toml");
    std::fs::write(
        &manifest,
        text.replace("size = 32", "size = 224")
            .replace("width = 48", "width = 512"),
    )
    .expect("manifest");
    ("ViT-B/32 fp32, plain tract".into(), manifest)
}

fn embedding(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("folder");
    let (name, manifest) = tower(folder.path());
    let encoder = Encoder::load(&manifest, &EngineOptions::default()).expect("tower");
    let input = vec![0.1; encoder.manifest().input_len()];
    let mut group = c.benchmark_group("embed");
    group.sample_size(10);
    group.bench_function(name, |b| {
        b.iter(|| encoder.embed(black_box(&input)).expect("embedding"));
    });
    group.finish();
}

/// A classifier without a projection whose confidence has every feature and as many directions as may be.
fn sure_classifier(rng: &mut fastrand::Rng) -> Classifier {
    let mut matrix = |rows: usize| -> Vec<Vec<f32>> {
        (0..rows)
            .map(|_| unit(&(0..512).map(|_| rng.f32() - 0.5).collect::<Vec<_>>()))
            .collect()
    };
    let mut low_rank = || LowRank {
        axes: matrix(MAX_RANK),
        shares: vec![0.5; MAX_RANK],
        variance: 1e-3,
    };
    let (within, background) = (low_rank(), low_rank());
    let drift = Drift {
        axes: matrix(MAX_DRIFT_RANK),
        center: vec![0.0; MAX_DRIFT_RANK],
        weights: vec![1.0; MAX_DRIFT_RANK],
        quantiles: Vec::new(),
    };
    let term = |feature| Term {
        feature,
        center: 0.0,
        scale: 1.0,
        weight: 0.0,
        low: -3.0,
        high: 3.0,
    };
    let terms = Feature::ANSWER.map(term).to_vec();
    let confidence = Confidence {
        projection: String::new(),
        encoder_sha256: String::new(),
        model: ConfidenceModel {
            temperature: 2.0,
            intercept: 0.0,
            terms: terms.clone(),
            changed: Some(ChangedLight {
                odds: Sum {
                    intercept: 0.0,
                    terms: Feature::LIGHT.map(term).to_vec(),
                },
                answer: Sum {
                    intercept: 0.0,
                    terms,
                },
            }),
            limit: 0.01,
        },
        geometry: Geometry {
            within,
            background,
            mean: vec![0.0; 512],
            centers: Some(matrix(100)),
            drift,
        },
        tails: Tails {
            cosine: 0.0,
            mahalanobis: 1.0,
            drift: 3.0,
        },
        outcomes: Vec::new(),
        unseen: Vec::new(),
        reference: None,
        basis: Basis {
            images: 1,
            answers: 1,
            families: Vec::new(),
            accuracy_clean: None,
            accuracy_changed: None,
        },
    };
    let bank = ClassBank {
        labels: (0..100).map(|i| format!("class {i}")).collect(),
        templates: Vec::new(),
        origin: BankOrigin::Text,
        encoder_sha256: String::new(),
        rows: matrix(100),
        support: None,
        probe: None,
        whitening: None,
        confidence: Some(confidence),
    };
    Classifier::new(bank, None, "", 100.0)
}

fn deciding(c: &mut Criterion) {
    let frame_encoder = FrameEncoder::load(
        &fixture("encoder/vision-fp32.toml"),
        &EngineOptions::default(),
    )
    .expect("model");
    let projection = frame_encoder
        .load_projection(&fixture("projection/tiny.safetensors"))
        .expect("projection");
    let mut rng = fastrand::Rng::with_seed(3);
    let mut row = || (0..48).map(|_| rng.f32() - 0.5).collect::<Vec<f32>>();
    let rows: Vec<Vec<f32>> = (0..10).map(|_| row()).collect();
    let embedding = row();
    let bank = ClassBank {
        labels: (0..10).map(|i| format!("class {i}")).collect(),
        templates: Vec::new(),
        origin: BankOrigin::Images,
        encoder_sha256: String::new(),
        rows,
        support: None,
        probe: None,
        whitening: None,
        confidence: None,
    };
    c.bench_function("project 48 to 40", |b| {
        b.iter(|| projection.projection.apply(black_box(&embedding)));
    });
    let classifier = Classifier::new(bank, Some(projection.projection), "", 100.0);
    c.bench_function("project and classify, 10 classes", |b| {
        b.iter(|| classifier.classify(black_box(&embedding)));
    });
    c.bench_function("classify, 512 values, 100 classes, with confidence", {
        let classifier = sure_classifier(&mut rng);
        let embedding: Vec<f32> = (0..512).map(|_| rng.f32() - 0.5).collect();
        move |b| b.iter(|| classifier.classify(black_box(&embedding)))
    });
    let decision = classifier.classify(&embedding);
    c.bench_function("event to JSON", |b| {
        b.iter(|| {
            serde_json::to_vec(&event::event("bench", black_box(&decision), CAPTURED_AT, 1))
                .expect("JSON")
        });
    });
}

criterion_group!(
    stages,
    preprocessing,
    viewing,
    making_images,
    embedding,
    deciding
);
criterion_main!(stages);
