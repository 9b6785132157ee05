//! The shipped model, as it is shipped, on fresh renders; and the demonstration on it.

use super::support::{constancy, stderr};
use constancy::recognizer::FrameEncoder;
use constancy_core::classify::{ClassBank, Classifier};
use constancy_core::frame::{ColorEncoding, Frame, PixelFormat, Timestamp};
use constancy_core::workshop::{Condition, ENVIRONMENTS, Environment, Part, Scene, render};
use constancy_engine::EngineOptions;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Half of them in environments like those of training. None of their seeds was used in training.
const RENDERS: u64 = 4000;
const SEED: u64 = 1_000_001 << 32;
const SHIPPED: [&str; 6] = [
    "vision-int8.onnx",
    "text-int8.onnx",
    "tokenizer.json",
    "pocket.toml",
    "classes.safetensors",
    "projection.safetensors",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/pocket")
}

fn frame(scene: &Scene) -> Frame {
    let (width, height) = (640, 480);
    Frame {
        data: render(scene, width, height),
        format: PixelFormat::Rgb24,
        width,
        height,
        stride_bytes: 640 * 3,
        color: ColorEncoding::default(),
        taken: Timestamp {
            monotonic_ns: 0,
            unix_ns: 0,
            clock_synced: false,
        },
        file: None,
        truth: None,
    }
}

fn labels() -> Vec<String> {
    let of = |part: Part| Condition::ALL.map(|condition| format!("{condition} {part}"));
    Part::ALL.into_iter().flat_map(of).collect()
}

fn bank(frame_encoder: &FrameEncoder, labels: &[String]) -> ClassBank {
    frame_encoder
        .bank_of_labels(labels, &["a photo of a {}".to_owned()])
        .expect("class embeddings")
}

/// Right answers among `frames`.
#[derive(Clone, Copy, Default)]
struct Score {
    frames: u64,
    part: [u64; 2],
    part_condition: [u64; 2],
    /// Frames whose part and condition the projection alone gets right, and those that it alone gets wrong.
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

    /// What the projection gains for part and condition, in points, with its 95 % interval: frames are paired.
    fn gain(&self) -> (f64, f64) {
        let (n, won, lost) = (self.frames as f64, self.won as f64, self.lost as f64);
        let gain = (won - lost) / n;
        (
            100.0 * gain,
            100.0 * 1.96 * (((won + lost) / n - gain * gain) / n).sqrt(),
        )
    }

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

/// The tower once, and the two questions, raw and projected.
struct Examiner {
    frame_encoder: FrameEncoder,
    part: [Classifier; 2],
    part_condition: [Classifier; 2],
}

impl Examiner {
    fn new() -> Self {
        let frame_encoder =
            FrameEncoder::load(&folder().join("pocket.toml"), &EngineOptions::default())
                .expect("pocket");
        let loaded = frame_encoder
            .projection(&folder().join("projection.safetensors"))
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

    fn ask(&mut self, scene: &Scene) -> Score {
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

/// Share in per cent with Wilson's 95 % interval.
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

/// What is right in each environment, over `RENDERS` of all of them together; on both of a small machine's cores.
fn examine() -> BTreeMap<&'static str, Score> {
    let half = |half: u64| {
        let mut examiner = Examiner::new();
        let mut scores: BTreeMap<&'static str, Score> = BTreeMap::new();
        for i in (half..RENDERS).step_by(2) {
            // As many seen as unseen ones.
            let group: Vec<&Environment> = ENVIRONMENTS
                .iter()
                .filter(|e| e.daylight_like == (i % 4 < 2))
                .collect();
            let environment = group[(i / 4 % group.len() as u64) as usize];
            let score = examiner.ask(&Scene::numbered(SEED + i, environment));
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

/// How good it is in light that it was not trained in is printed, whatever it is.
#[test]
fn zero_shot_it_knows_parts_and_conditions_in_the_light_it_was_trained_in_and_the_projection_helps_in_others()
 {
    let scores = examine();
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
    assert!(seen.part[0] * 100 >= seen.frames * 95, "parts");
    assert!(
        seen.part_condition[0] * 100 >= seen.frames * 85,
        "parts in their condition"
    );
    // One point, and the error of counting.
    assert!(
        seen.part_condition[1] * 100 + 2 * seen.frames >= seen.part_condition[0] * 100,
        "the projection harms"
    );
    let (gain, half) = unseen.gain();
    assert!(
        gain > half,
        "in other light the projection gains {gain:.1} ± {half:.1} points"
    );
}

#[test]
fn what_is_shipped_is_small_and_belongs_together() {
    let size: u64 = SHIPPED
        .iter()
        .map(|f| std::fs::metadata(folder().join(f)).expect("shipped").len())
        .sum();
    println!("{:.2} MB", size as f64 / 1e6);
    assert!(size <= 8_000_000, "{size} bytes");
    let frame_encoder =
        FrameEncoder::load(&folder().join("pocket.toml"), &EngineOptions::default())
            .expect("pocket");
    let bank = frame_encoder
        .bank(&folder().join("classes.safetensors"))
        .expect("class bank");
    assert_eq!(bank.labels, labels());
    frame_encoder
        .projection(&folder().join("projection.safetensors"))
        .expect("projection");
}

#[test]
fn any_labels_can_be_given() {
    let folder = tempfile::tempdir().expect("folder");
    let labels = "a rusty gear, an intact gear, a spring";
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
            let model = self::folder().join("pocket.toml");
            let output = constancy()
                .args(["classify", "--json", "--labels", labels, "--model"])
                .arg(model)
                .arg(&path)
                .output();
            let output = output.expect("it runs");
            let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            right += u32::from(line["class"] == label);
        }
    }
    println!("{right} of 30 right");
    assert!(right >= 28, "{right} of 30");
}

/// A folder for the demonstration's temporary files, so that what it leaves behind is seen.
fn demo(args: &[&str]) -> (Command, tempfile::TempDir) {
    let temporary = tempfile::tempdir().expect("folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_constancy"));
    command
        .arg("demo")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("TMPDIR", temporary.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    (command, temporary)
}

/// Neither files nor processes that name them are left.
fn assert_nothing_left(temporary: &Path) {
    assert_eq!(std::fs::read_dir(temporary).expect("folder").count(), 0);
    let mark = temporary.to_string_lossy().into_owned();
    let lines = std::fs::read_dir("/proc")
        .expect("proc")
        .filter_map(|e| std::fs::read(e.ok()?.path().join("cmdline")).ok());
    let left: Vec<String> = lines
        .map(|l| String::from_utf8_lossy(&l).replace('\0', " "))
        .filter(|l| l.contains(&mark))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn the_demonstration_runs_through_and_loses_nothing() {
    let (mut command, temporary) = demo(&["--seconds", "4", "--rate", "10"]);
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    assert!(
        text.contains("= like daylight") && text.contains("= never trained on"),
        "{text}"
    );
    let last = text.lines().last().expect("a summary");
    let numbers: Vec<u64> = last
        .split_whitespace()
        .filter_map(|w| w.parse().ok())
        .collect();
    assert!(
        last.contains("events published") && last.ends_with(" 0 lost"),
        "{last}"
    );
    assert!(numbers[0] > 0 && numbers[0] == numbers[1], "{last}");
    assert_nothing_left(temporary.path());
}

#[test]
fn one_ctrl_c_ends_the_demonstration_cleanly() {
    let (mut command, temporary) = demo(&["--seconds", "60"]);
    let mut child = command.spawn().expect("it runs");
    let pid = child.id();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        child.stdout.take().expect("stdout"),
    ));
    for _ in 0..5 {
        lines.next().expect("a line").expect("text");
    }
    // SAFETY: kill takes no pointers, and the child has not been waited for.
    unsafe { libc::kill(i32::try_from(pid).expect("a process number"), libc::SIGINT) };
    let start = Instant::now();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(child.wait().expect("it ends").success());
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(
        rest.iter().any(|l| l.contains("events published")),
        "{rest:?}"
    );
    assert_nothing_left(temporary.path());
}

#[test]
fn a_model_that_is_not_there_is_named() {
    let (mut command, temporary) = demo(&["--model", "/nowhere"]);
    let output = command.output().expect("it runs");
    assert_nothing_left(temporary.path());
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(66), "{text}");
    assert!(
        text.contains("/nowhere/pocket.toml") && text.contains("--model"),
        "{text}"
    );
}
