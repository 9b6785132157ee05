//! What reusing answers saves before a camera that stands still, and what it costs: processor time, equal answers, delay.
//!
//! Rendered pictures with the noise of a sensor: a bench where nothing happens, one whose light fades slowly, and one where
//! another part comes every four seconds. Each frame is also recognised without reuse. Takes pocket, or the tower of a
//! manifest: `cargo bench --bench still -- MODEL.toml`.

#![allow(unreachable_pub, reason = "a bench exports nothing")]
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench reports errors by panicking, and prints its figures"
)]

use constancy::recognizer::{FrameEncoder, FrameInput, Recognizer};
use constancy_core::classify::{BankOrigin, ClassBank};
use constancy_core::frame::{Frame, Timestamp};
use constancy_core::preprocess::View;
use constancy_core::still::StillScene;
use constancy_core::workshop::{ENVIRONMENTS, Scene, render};
use constancy_engine::EngineOptions;
use std::path::{Path, PathBuf};

const SIZE: (u32, u32) = (640, 480);
/// Frames of each scene, ten a second.
const FRAMES: u64 = 1200;
const FRAME_NS: u64 = 100_000_000;
/// Answers are reused for ten seconds.
const KEEP_NS: u64 = 10_000_000_000;
/// The standard deviation of the sensor's noise, levels.
const NOISE: f32 = 2.0;
/// Frames until the next part comes.
const STAYS: u64 = 40;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Still,
    Fading,
    Parts,
}

/// Processor time of this process so far, milliseconds.
fn processor_ms() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes to a valid timespec of this frame.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn frame(kind: Kind, number: u64, pictures: &[Vec<u8>], rng: &mut fastrand::Rng) -> Frame {
    let part = if kind == Kind::Parts {
        number / STAYS
    } else {
        0
    };
    let picture = &pictures[part as usize % pictures.len()];
    let level = match kind {
        Kind::Fading => 1.0 - 0.5 * number as f32 / FRAMES as f32,
        Kind::Still | Kind::Parts => 1.0,
    };
    // Noise of a table: a normal variable for each byte would take longer than the tower.
    let noise: Vec<f32> = (0..4096)
        .map(|_| NOISE * ((0..12).map(|_| rng.f32()).sum::<f32>() - 6.0))
        .collect();
    let mut next = rng.usize(..4096);
    let noisy = |&byte: &u8| {
        next = (next + 1 + usize::from(byte & 3)) % 4096;
        (f32::from(byte) * level + noise[next])
            .round()
            .clamp(0.0, 255.0) as u8
    };
    Frame::rgb(
        picture.iter().map(noisy).collect(),
        SIZE.0,
        SIZE.1,
        at(number),
    )
}

/// When a frame was captured.
fn at(number: u64) -> Timestamp {
    Timestamp {
        monotonic_ns: number * FRAME_NS,
        unix_ns: 0,
        clock_synced: false,
    }
}

struct Answer {
    class: String,
    known: bool,
    reused: bool,
}

/// The answer to a frame, and the processor time that it took.
fn recognise(
    recognizer: &mut Recognizer,
    frame: &Frame,
    scene: Option<&mut StillScene>,
) -> (Answer, f64) {
    let start = processor_ms();
    let mut input = [FrameInput {
        frame,
        view: &View::WHOLE,
        classifier: None,
        condition: None,
        still: scene.map(|scene| (scene, KEEP_NS)),
    }];
    let result = recognizer.recognize_all(&mut input).remove(0);
    let (recognition, _) = result.expect("an answer");
    let answer = Answer {
        class: recognition.decision.top[0].class.clone(),
        known: recognition.decision.known,
        reused: recognition.reused_ns.is_some(),
    };
    (answer, processor_ms() - start)
}

fn measure(recognizer: &mut Recognizer, pictures: &[Vec<u8>], kind: Kind, name: &str) {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut scene = StillScene::default();
    let (mut each, mut reusing, mut equal, mut reused, mut late) = (0.0, 0.0, 0, 0, 0);
    for number in 0..FRAMES {
        let frame = frame(kind, number, pictures, &mut rng);
        let (full, full_ms) = recognise(recognizer, &frame, None);
        let (quick, quick_ms) = recognise(recognizer, &frame, Some(&mut scene));
        each += full_ms;
        reusing += quick_ms;
        equal += usize::from(full.class == quick.class && full.known == quick.known);
        reused += usize::from(quick.reused);
        let comes = kind == Kind::Parts && number > 0 && number.is_multiple_of(STAYS);
        late += usize::from(comes && quick.reused);
    }
    let share = |n: usize| 100.0 * n as f64 / FRAMES as f64;
    println!(
        "{name:<28} processor time {:5.1} %, reused {:5.1} %, equal answers {:6.2} %, parts noticed late {late}",
        100.0 * reusing / each,
        share(reused),
        share(equal),
    );
}

/// pocket with its own classes, or another tower with one class for each picture.
fn recognizer(pictures: &[Vec<u8>]) -> Recognizer {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pocket");
    let given = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let manifest = given
        .as_ref()
        .map_or_else(|| models.join("pocket.toml"), PathBuf::from);
    let options = EngineOptions {
        threads: Some(1),
        ..EngineOptions::default()
    };
    let mut encoder = FrameEncoder::load(&manifest, &options).expect("the model");
    if given.is_none() {
        let projection = encoder.load_projection(&models.join("projection.safetensors"));
        let bank = encoder.load_bank(&models.join("classes.safetensors"));
        let parts = (projection.expect("the projection"), bank.expect("the bank"));
        return Recognizer::new(encoder, Some(parts.0), parts.1).expect("they fit");
    }
    let embed = |picture: &Vec<u8>| {
        let frame = Frame::rgb(picture.clone(), SIZE.0, SIZE.1, at(0));
        encoder.embed(&frame).expect("an embedding").0
    };
    let rows: Vec<Vec<f32>> = pictures.iter().map(embed).collect();
    let bank = ClassBank {
        labels: (0..rows.len()).map(|i| format!("picture {i}")).collect(),
        templates: Vec::new(),
        origin: BankOrigin::Images,
        encoder_sha256: encoder.encoder().sha256().to_owned(),
        rows,
        support: None,
        probe: None,
        whitening: None,
        confidence: None,
    };
    Recognizer::new(encoder, None, bank).expect("it fits")
}

fn main() {
    let pictures: Vec<Vec<u8>> = (0..12)
        .map(|seed| render(&Scene::from_seed(seed, &ENVIRONMENTS[0]), SIZE.0, SIZE.1))
        .collect();
    let mut recognizer = recognizer(&pictures);
    for (kind, name) in [
        (Kind::Still, "nothing happens"),
        (Kind::Fading, "the light fades to a half"),
        (Kind::Parts, "a part comes every 4 s"),
    ] {
        measure(&mut recognizer, &pictures, kind, name);
    }
}
