//! `constancy demo`: the daemon and a broker at work on a rendered workshop, by default for half a minute.
//!
//! The daemon is `constancy run` in a process of its own. The demo subscribes to its events, asks it by command to calibrate
//! when the light becomes one that the model has never seen, renders each scene again to classify it with raw CLIP and
//! with the projection alone, and counts correct answers.

mod operator;
mod peers;
mod processes;
mod scores;

use super::CliError;
use super::output::line;
use crate::config::Settings;
use clap::Args;
use constancy_core::frame::GroundTruth;
use constancy_core::workshop::{ENVIRONMENTS, Environment};
use operator::{CAMERA, Operator};
use peers::{Peers, SIZE};
use processes::Processes;
use scores::{Answer, Scores};
use serde::Deserialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Folders to look for the shipped model in: a checkout's, and the package's.
const MODEL_FOLDERS: [&str; 2] = ["models/pocket", "/usr/share/constancy/models/pocket"];
/// Where the daemon of [`config`] publishes its events.
const TOPIC: &str = "constancy/demo/workshop/event";
/// If no event arrives for this long, something is wrong.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Duration in seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Frames per second
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=100))]
    rate: u64,
    /// Random seed for the scenes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..1 << 21))]
    seed: u64,
    /// Folder of the shipped model
    #[arg(long)]
    model: Option<PathBuf>,
}

/// The fields of an event that the demo reads.
#[derive(Deserialize)]
struct ReceivedEvent {
    class: String,
    confidence: Option<f32>,
    known: bool,
    drift: Option<ReceivedDrift>,
    condition: Option<String>,
    truth: Option<GroundTruth>,
}

#[derive(Deserialize)]
struct ReceivedDrift {
    level: f32,
}

pub(super) fn run(args: &DemoArgs) -> Result<(), CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let model = model_folder(args)?;
    let mut processes = Processes::start(TOPIC, |port| config(&model, port, args))?;
    let settings = Settings::read(&processes.config())?;
    let mut peers = Peers::load(&settings)?;
    let mut operator = Operator::new(settings, calibration_frames(args));
    let port = processes.port();
    line(&format!(
        "broker on port {port}, the daemon looks at a rendered workshop with pocket; one line per event"
    ))?;
    line(&scores::heading())?;
    let mut scores = Scores::default();
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut last_event = Instant::now();
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        let Some((answer, drift)) = next_answer(&mut processes, &mut peers)? else {
            processes.check(last_event.elapsed() >= SILENCE_LIMIT)?;
            continue;
        };
        last_event = Instant::now();
        for said in operator.watch(answer.environment, drift) {
            line(&said)?;
        }
        scores.add(answer);
        line(&scores.last_line())?;
    }
    let (published, received) = processes.stop()?;
    line("")?;
    scores.table().iter().try_for_each(|row| line(row))?;
    line("")?;
    line(&format!(
        "{published} events published, {received} heard by a subscriber, {} lost",
        published.saturating_sub(received)
    ))
}

/// Frames that an environment is shown for. The demo shows every environment once.
fn frames_each(args: &DemoArgs) -> u64 {
    (args.seconds * args.rate / ENVIRONMENTS.len() as u64).max(1)
}

/// The first frames of an environment, that a calibration takes: fewer than half, so that most show its effect.
fn calibration_frames(args: &DemoArgs) -> usize {
    usize::try_from(frames_each(args) * 2 / 5).unwrap_or(usize::MAX)
}

/// The daemon's configuration.
fn config(model: &Path, port: u16, args: &DemoArgs) -> String {
    let model = model.display();
    let (width, height) = SIZE;
    let frames_each = frames_each(args);
    let (rate, seed) = (args.rate, args.seed);
    format!(
        r#"device = "demo"
[model]
manifest = "{model}/pocket.toml"
projection = "{model}/projection.safetensors"
[classes]
bank = "{model}/classes.safetensors"
[[camera]]
name = "{CAMERA}"
[camera.synthetic]
rate = {rate}
seed = {seed}
frames_each = {frames_each}
width = {width}
height = {height}
[mqtt]
broker = "mqtt://127.0.0.1:{port}"
commands = ["calibrate"]
"#
    )
}

/// The next event's answer with those of the peers to the same scene, and the level of drift.
fn next_answer(
    processes: &mut Processes,
    peers: &mut Peers,
) -> Result<Option<(Answer, Option<f32>)>, CliError> {
    let Some(payload) = processes.next_event(Duration::from_millis(100))? else {
        return Ok(None);
    };
    let event: ReceivedEvent = serde_json::from_slice(&payload)?;
    let Some(truth) = event.truth else {
        return Ok(None);
    };
    let Some(environment) = Environment::named(&truth.environment) else {
        return Ok(None);
    };
    let [raw, projected] = peers.answers(truth.seed, environment)?;
    let answer = Answer {
        environment: environment.name,
        raw,
        projected,
        daemon: event.class,
        calibrated: event.condition.is_some(),
        confidence: event.confidence,
        known: event.known,
        truth: truth.class,
    };
    Ok(Some((answer, event.drift.map(|d| d.level))))
}

fn model_folder(args: &DemoArgs) -> Result<PathBuf, CliError> {
    let candidates = args
        .model
        .clone()
        .map_or_else(|| MODEL_FOLDERS.map(PathBuf::from).to_vec(), |m| vec![m]);
    let found = candidates
        .iter()
        .find(|folder| folder.join("pocket.toml").is_file());
    let found = found.ok_or_else(|| {
        let path = candidates[0].join("pocket.toml");
        let hint = "run the demo in a checkout of constancy, or name the folder of the shipped model with --model";
        CliError::Read {
            path,
            source: std::io::Error::new(std::io::ErrorKind::NotFound, hint),
        }
    })?;
    found.canonicalize().map_err(|source| CliError::Read {
        path: found.clone(),
        source,
    })
}
