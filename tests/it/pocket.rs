//! The shipped model pocket, on renders that it was not trained on.

mod demo;

use super::support::{constancy, json_lines, pocket_model};
use constancy::recognizer::FrameEncoder;
use constancy_core::classify::{ClassBank, Classifier};
use constancy_core::frame::{Frame, Timestamp};
use constancy_core::workshop::{Condition, ENVIRONMENTS, Environment, Part, Scene, render};
use constancy_engine::EngineOptions;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Half of them in environments like those of the training images.
const RENDERS: u64 = 4000;
/// Renders are numbered from here. None of these seeds was used in training.
const SEED: u64 = 1_000_001 << 32;
/// The files of the model.
const SHIPPED: [&str; 6] = [
    "vision-int8.onnx",
    "text-int8.onnx",
    "tokenizer.json",
    "pocket.toml",
    "classes.safetensors",
    "projection.safetensors",
];

fn shipped(file: &str) -> PathBuf {
    pocket_model().with_file_name(file)
}

fn encoder() -> FrameEncoder {
    FrameEncoder::load(&pocket_model(), &EngineOptions::default()).expect("pocket")
}

fn frame(scene: &Scene) -> Frame {
    let (width, height) = (640, 480);
    let captured_at = Timestamp {
        monotonic_ns: 0,
        unix_ns: 0,
        clock_synced: false,
    };
    Frame::rgb(render(scene, width, height), width, height, captured_at)
}

/// Every condition of every part.
fn labels() -> Vec<String> {
    let of = |part: Part| Condition::ALL.map(|condition| format!("{condition} {part}"));
    Part::ALL.into_iter().flat_map(of).collect()
}

fn bank(frame_encoder: &FrameEncoder, labels: &[String]) -> ClassBank {
    frame_encoder
        .bank_from_labels(labels, &["a photo of a {}".to_owned()])
        .expect("class embeddings")
}

/// Correct answers among `frames`, without and with the projection.
#[derive(Clone, Copy, Default)]
struct Score {
    frames: u64,
    part: [u64; 2],
    part_condition: [u64; 2],
    /// Frames whose part and condition are right only with the projection, and only without it.
    won: u64,
    lost: u64,
}

impl Score {
    fn plus(self, other: Self) -> Self {
        let sum = |a: [u64; 2], b: [u64; 2]| [a[0] + b[0], a[1] + b[1]];
        Self {
            frames: self.frames + other.frames,
            part: sum(self.part, other.part),
            part_condition: sum(self.part_condition, other.part_condition),
            won: self.won + other.won,
            lost: self.lost + other.lost,
        }
    }

    /// The projection's gain for part and condition in percentage points, and the half width of its 95 % interval. The
    /// frames are paired.
    fn gain(&self) -> (f64, f64) {
        let (n, won, lost) = (self.frames as f64, self.won as f64, self.lost as f64);
        let gain = (won - lost) / n;
        (
            100.0 * gain,
            100.0 * 1.96 * (((won + lost) / n - gain * gain) / n).sqrt(),
        )
    }

    /// A line of the printed table.
    fn row(&self, name: &str) -> String {
        let cells = [
            self.part[0],
            self.part[1],
            self.part_condition[0],
            self.part_condition[1],
        ];
        let cells = cells.map(|hits| format!("{:>26}", with_interval(hits, self.frames)));
        let (gain, half) = self.gain();
        format!(
            "{name:<16} {:>6} {}{:>18}",
            self.frames,
            cells.join(""),
            format!("{gain:+.1} ± {half:.1}")
        )
    }
}

/// The encoder, and classifiers for the part and for part and condition, each without and with the projection.
struct Evaluator {
    frame_encoder: FrameEncoder,
    part: [Classifier; 2],
    part_condition: [Classifier; 2],
}

impl Evaluator {
    fn new() -> Self {
        let frame_encoder = encoder();
        let loaded = frame_encoder
            .load_projection(&shipped("projection.safetensors"))
            .expect("projection");
        let classifiers = |labels: &[String]| {
            let projected = Some(loaded.projection.clone());
            [None, projected].map(|p| Classifier::new(bank(&frame_encoder, labels), p, "", 1.0))
        };
        let parts: Vec<String> = Part::ALL.iter().map(ToString::to_string).collect();
        let (part, part_condition) = (classifiers(&parts), classifiers(&labels()));
        Self {
            frame_encoder,
            part,
            part_condition,
        }
    }

    fn score(&mut self, scene: &Scene) -> Score {
        let (embedding, _) = self
            .frame_encoder
            .embed(&frame(scene))
            .expect("a good frame");
        let right =
            |c: &Classifier, truth: &str| u64::from(c.classify(&embedding).top[0].class == truth);
        let class = scene.invariant.class();
        let [raw, projected] = [0, 1].map(|i| right(&self.part_condition[i], &class));
        Score {
            frames: 1,
            part: [0, 1].map(|i| right(&self.part[i], scene.invariant.part.name())),
            part_condition: [raw, projected],
            won: projected & !raw,
            lost: raw & !projected,
        }
    }
}

/// The share in per cent with Wilson's 95 % interval.
fn with_interval(hits: u64, count: u64) -> String {
    let (n, z) = (count as f64, 1.959_964_f64);
    let share = hits as f64 / n;
    let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt() / (1.0 + z * z / n);
    format!(
        "{:.1} % ({:.1} to {:.1})",
        100.0 * share,
        100.0 * (centre - half),
        100.0 * (centre + half)
    )
}

/// The score of each environment, over `RENDERS` in all; on two threads, since a small machine has two cores.
fn scores() -> BTreeMap<&'static str, Score> {
    let half = |half: u64| {
        let mut evaluator = Evaluator::new();
        let mut scores: BTreeMap<&'static str, Score> = BTreeMap::new();
        for i in (half..RENDERS).step_by(2) {
            // Both kinds of environments in equal numbers.
            let group: Vec<&Environment> = ENVIRONMENTS
                .iter()
                .filter(|e| e.daylight_like == (i % 4 < 2))
                .collect();
            let environment = group[(i / 4 % group.len() as u64) as usize];
            let score = evaluator.score(&Scene::from_seed(SEED + i, environment));
            let sum = scores.entry(environment.name).or_default();
            *sum = sum.plus(score);
        }
        scores
    };
    let other = std::thread::spawn(move || half(1));
    let mut scores = half(0);
    for (name, score) in other.join().expect("the other half") {
        let sum = scores.entry(name).or_default();
        *sum = sum.plus(score);
    }
    scores
}

/// The accuracy in other environments is printed, and not asserted.
#[test]
fn zero_shot_is_accurate_in_light_like_that_of_training_and_the_projection_harms_nowhere() {
    let scores = scores();
    println!(
        "{:<16} {:>6} {:>26}{:>26}{:>26}{:>26}{:>18}",
        "environment",
        "frames",
        "part, raw",
        "part, projected",
        "part × condition, raw",
        "projected",
        "gain, points"
    );
    let sum = |daylight_like: bool| {
        let of = ENVIRONMENTS
            .iter()
            .filter(|e| e.daylight_like == daylight_like);
        of.fold(Score::default(), |sum, e| {
            let score = scores[e.name];
            println!("{}", score.row(e.name));
            sum.plus(score)
        })
    };
    let seen = sum(true);
    println!("{}", seen.row("= seen"));
    let unseen = sum(false);
    println!("{}", unseen.row("= unseen"));
    assert!(seen.part[0] * 100 >= seen.frames * 97, "parts");
    assert!(
        seen.part_condition[0] * 100 >= seen.frames * 93,
        "parts in their condition"
    );
    assert!(
        unseen.part_condition[0] * 100 >= unseen.frames * 80,
        "parts in their condition, in other light"
    );
    for score in [seen, unseen] {
        // A loss of one point, and another for the error of counting.
        assert!(
            score.part_condition[1] * 100 + 2 * score.frames >= score.part_condition[0] * 100,
            "the projection harms"
        );
    }
}

#[test]
fn the_shipped_files_are_small_and_belong_together() {
    let size: u64 = SHIPPED
        .iter()
        .map(|f| std::fs::metadata(shipped(f)).expect("shipped").len())
        .sum();
    println!("{:.2} MB", size as f64 / 1e6);
    assert!(size <= 8_000_000, "{size} bytes");
    let frame_encoder = encoder();
    let bank = frame_encoder
        .load_bank(&shipped("classes.safetensors"))
        .expect("class bank");
    assert_eq!(bank.labels, labels());
    frame_encoder
        .load_projection(&shipped("projection.safetensors"))
        .expect("projection");
}

#[test]
fn free_labels_work() {
    let folder = tempfile::tempdir().expect("folder");
    let labels = "rusty gear, intact gear, spring";
    let wanted = [
        (Part::Gear, Condition::Rusty),
        (Part::Gear, Condition::Intact),
        (Part::Spring, Condition::Intact),
    ];
    let mut right = 0;
    for (label, (part, condition)) in labels.split(", ").zip(wanted) {
        for seed in 0..10 {
            let mut rng = constancy_core::numeric::Rng::new(SEED + seed);
            let scene = Scene::of(part, condition, &mut rng, &ENVIRONMENTS[0]);
            let image =
                image::RgbImage::from_raw(640, 480, render(&scene, 640, 480)).expect("picture");
            let path = folder.path().join(format!("{seed}.png"));
            image.save(&path).expect("image");
            let output = constancy()
                .args(["classify", "--json", "--labels", labels, "--model"])
                .arg(pocket_model())
                .arg(&path)
                .output()
                .expect("it runs");
            right += u32::from(json_lines(&output)[0]["class"] == label);
        }
    }
    println!("{right} of 30 right");
    assert!(right >= 28, "{right} of 30");
}
