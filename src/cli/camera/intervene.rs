//! `constancy camera intervene`: moves the sensor's own controls, and the light, while the scene stands still, and stores
//! pairs of images that `fit --pairs` takes.

mod light;
mod moved;
mod plan;
mod round;
mod steps;
mod stop;
mod store;
mod view;

use super::super::output::line;
use super::super::{CliError, configured};
use crate::capture::{self, CaptureError, Effect};
use crate::config::{CameraSettings, Settings, SourceSettings};
use crate::daemon::control_journal;
use clap::Args;
use light::{Light, LightArgs, seconds};
use moved::Moved;
use plan::{Plan, restless};
use round::{Round, Tally};
use std::path::{Path, PathBuf};
use std::time::Duration;
use stop::Stop;
use store::Store;
use view::{Calm, Viewer};

#[derive(Debug, Args)]
pub(super) struct InterveneArgs {
    /// Name of a camera in the configuration; the daemon must not run on it
    camera: String,
    /// Configuration file
    #[arg(short, long, default_value = configured::SERVICE_CONFIG)]
    config: PathBuf,
    /// Folder for the images and pairs.jsonl; pairs that are there stay
    #[arg(short, long, default_value = "pairs")]
    output: PathBuf,
    /// Comma-separated controls to move: exposure, gain, white-balance, brightness, contrast, saturation, hue; or `none`
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = effects)]
    controls: Effects,
    /// Values on each side of where a control stands
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    steps: u32,
    /// Scenes to intervene on; after each, put something else before the camera
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    scenes: u32,
    /// Seconds to wait for the next scene
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    wait: f64,
    /// Seconds that the picture may take to settle after a change
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    settle: f64,
    #[command(flatten)]
    light: LightArgs,
    /// Move nothing: put back the controls that an intervention has left which was killed
    #[arg(long)]
    restore: bool,
}

/// The controls that `--controls` names.
#[derive(Debug, Clone)]
struct Effects(Vec<Effect>);

fn effects(list: &str) -> Result<Effects, String> {
    let named = |name: &str| {
        let found = Effect::ALL.into_iter().find(|e| e.name() == name.trim());
        found.ok_or_else(|| {
            let names = Effect::ALL.map(Effect::name).join(", ");
            format!("there is no control `{name}`; choose from {names}, or `all`, or `none`")
        })
    };
    Ok(Effects(match list {
        "all" => Effect::ALL.to_vec(),
        "none" => Vec::new(),
        names => names.split(',').map(named).collect::<Result<_, _>>()?,
    }))
}

pub(super) fn run(args: &InterveneArgs) -> Result<(), CliError> {
    let settings = Settings::read(&args.config)?;
    let camera = configured::camera(&settings, Some(&args.camera), &args.config)?;
    let light = args.light.light()?;
    let folder =
        configured::state_folder(&settings, "values of controls, until they are put back,")?;
    match control_journal::recover(folder, camera)? {
        Some(saved) => line(&format!("camera {}: {saved}", camera.name))?,
        None if args.restore => line(&format!(
            "camera {}: there is nothing to put back",
            camera.name
        ))?,
        None => {}
    }
    if args.restore {
        return Ok(());
    }
    intervene(args, camera, light, folder)
}

fn intervene(
    args: &InterveneArgs,
    camera: &CameraSettings,
    light: Option<Light>,
    folder: &Path,
) -> Result<(), CliError> {
    // From here on a signal is waited for, so that what was moved is put back.
    let stop = Stop::listen()?;
    let source = open(camera)?;
    let sensor = source.sensor()?;
    let plan = Plan::new(
        &camera.name,
        (&args.controls.0, args.steps),
        sensor.as_deref(),
        light.as_ref(),
    )?;
    let mut store = Store::open(&args.output)?;
    let settle = Duration::from_secs_f64(args.settle);
    let mut viewer = Viewer::new(camera, source, &stop, settle);
    line(&format!(
        "camera       {}: {}",
        camera.name,
        viewer.source().describe()
    ))?;
    let before = viewer.learn()?;
    let saved = plan.saved(sensor.as_deref(), light.as_ref());
    let mut moved = Moved::begin(folder, &camera.name, (sensor, light), saved)?;
    if let Some(journal) = moved.journal() {
        let shown = journal.display();
        line(&format!(
            "journal      {shown} has what is put back, should this be killed"
        ))?;
    }
    let before = before.as_ref().map(|(_, look)| look);
    let outcome = plan
        .end_automatic(&mut moved, &mut viewer, before)
        .and_then(|calm| rounds(args, &plan, &calm, (&mut moved, &mut viewer, &mut store)));
    moved.put_back()?;
    report(camera, &plan, &outcome?, &store)
}

/// Opens the camera. One that is busy may be the daemon's.
fn open(camera: &CameraSettings) -> Result<Box<dyn capture::Source>, CliError> {
    if let SourceSettings::Replay(_) = camera.source {
        return Err(CliError::Usage(format!(
            "camera {} replays recordings: nothing can be done to what was before the camera",
            camera.name
        )));
    }
    capture::open(camera).map_err(|error| match error {
        CaptureError::Busy { .. } => CliError::Busy {
            camera: camera.name.clone(),
            source: error,
        },
        error => error.into(),
    })
}

/// Intervenes on each scene.
fn rounds(
    args: &InterveneArgs,
    plan: &Plan,
    calm: &Calm,
    (moved, viewer, store): (&mut Moved, &mut Viewer<'_>, &mut Store),
) -> Result<Tally, CliError> {
    let mut tally = Tally::default();
    let wait = Duration::from_secs_f64(args.wait);
    let mut reference = viewer
        .settled(calm)?
        .ok_or_else(|| restless(&args.camera))?;
    for scene in 1..=args.scenes {
        let round = Round {
            camera: &args.camera,
            plan,
            calm,
        };
        let pairs = tally.pairs();
        reference = round.run(reference, (moved, viewer, store), &mut tally)?;
        line(&format!("scene {scene:<6} {} pairs", tally.pairs() - pairs))?;
        if scene == args.scenes {
            break;
        }
        let Some(next) = viewer.another(&reference.look, calm, wait)? else {
            log::warn!(
                "no other scene came within {} s (--wait): {scene} of {} are done",
                args.wait,
                args.scenes
            );
            break;
        };
        reference = next;
    }
    Ok(tally)
}

fn report(
    camera: &CameraSettings,
    plan: &Plan,
    tally: &Tally,
    store: &Store,
) -> Result<(), CliError> {
    if !plan.automatic.is_empty() || !plan.moves.is_empty() {
        let settings = plan.settings();
        let back: Vec<String> = settings
            .map(|s| format!("{} = {}", s.name, s.value))
            .collect();
        line(&format!("put back     {}", back.join(", ")))?;
    }
    tally.print()?;
    if tally.pairs() == 0 {
        return Err(CliError::refused(
            &camera.name,
            "no pair could be taken: the scene moved, or no control changes the picture",
        ));
    }
    line(&format!("written      {}", store.manifest().display()))
}
