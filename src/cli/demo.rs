//! `constancy demo`: the whole path on a rendered workshop, with a real broker, for about twenty seconds.
//!
//! The daemon is this program again, run as anybody would run it. The demonstration only listens to what it
//! publishes, draws each scene a second time to ask raw CLIP about it, and counts.

mod score;
mod stage;

use super::CliError;
use super::output::line;
use crate::clock;
use crate::config::Settings;
use crate::recognizer::Recognizer;
use clap::Args;
use constancy_core::frame::{Frame, Truth};
use constancy_core::workshop::{Environment, Scene, render};
use score::{Answer, Scores};
use serde::Deserialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use stage::Stage;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where the shipped model is looked for: in a checkout, and where packages put it.
const MODEL_FOLDERS: [&str; 2] = ["models/pocket", "/usr/share/constancy/models/pocket"];
/// Pixels of a frame.
const SIZE: (u32, u32) = (640, 480);
/// How long a frame may take from the daemon to here before something is wrong.
const SILENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// How long it lasts
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Frames per second
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=100))]
    rate: u64,
    /// Which scenes are drawn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..1 << 21))]
    seed: u64,
    /// The folder of the shipped model
    #[arg(long)]
    model: Option<PathBuf>,
}

/// What the demonstration reads of an event.
#[derive(Deserialize)]
struct Heard {
    class: String,
    known: bool,
    truth: Option<Truth>,
}

pub(super) fn run(args: &DemoArgs) -> Result<(), CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let model = model_folder(args)?;
    let mut stage = Stage::set(&model, args)?;
    let mut settings = Settings::read(&stage.config())?;
    settings.model.projection = None;
    let mut raw = Recognizer::load(&settings)?;
    let port = stage.port();
    line(&format!(
        "broker on port {port}, the daemon looks at a rendered workshop with pocket; one line per event"
    ))?;
    line(&score::heading())?;
    let mut scores = Scores::default();
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut last_heard = Instant::now();
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        if let Some(answer) = listen(&mut stage, &mut raw)? {
            last_heard = Instant::now();
            scores.add(answer);
            line(&scores.last_line())?;
        } else {
            stage.check(last_heard.elapsed() < SILENCE)?;
        }
    }
    let (published, heard) = stage.strike()?;
    line("")?;
    scores.table().iter().try_for_each(|row| line(row))?;
    line(&format!(
        "\n{published} events published, {heard} heard by a subscriber, {} lost",
        published.saturating_sub(heard)
    ))
}

/// The next event, with what raw CLIP says of the same scene.
fn listen(stage: &mut Stage, raw: &mut Recognizer) -> Result<Option<Answer>, CliError> {
    let Some(payload) = stage.hear(Duration::from_millis(100))? else {
        return Ok(None);
    };
    let event: Heard = serde_json::from_slice(&payload)?;
    let Some(truth) = event.truth else {
        return Ok(None);
    };
    let Some(environment) = Environment::named(&truth.environment) else {
        return Ok(None);
    };
    let frame = draw(&truth, environment);
    let (decision, _) = raw.recognize(&frame)?;
    Ok(Some(Answer {
        environment: environment.name,
        raw: decision.top[0].class.clone(),
        projected: event.class,
        known: event.known,
        truth: truth.class,
    }))
}

/// The frame that the daemon saw, drawn again: the same scene gives the same bytes.
fn draw(truth: &Truth, environment: &Environment) -> Frame {
    let (width, height) = SIZE;
    Frame::rgb(
        render(&Scene::numbered(truth.seed, environment), width, height),
        width,
        height,
        clock::now(),
    )
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
        let hint = "run it in a checkout of constancy, or name the folder with --model";
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
