//! The daemon: cameras in, decisions out, until somebody asks it to stop.
//!
//! [`run`] is its whole life. Frames come from the camera threads through one slot each and are looked at
//! here, on the thread that called; the MQTT thread sends what this one hands over.

mod camera;
mod pipeline;
mod policy;
mod service;
mod slot;
mod snapshots;

use crate::config::{ConfigError, PayloadFormat, Settings};
use crate::publish::{Left, PreparedSink, PublishError, Sink};
use crate::recognizer::{Recognizer, RecognizerError};
use camera::Cameras;
use constancy_engine::ModelError;
use pipeline::Pipeline;
use service::{Requests, ServiceManager};
use slot::{Taken, Waiting};
use snapshots::SnapshotWriter;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// How long the loop waits for a frame before it looks after everything else.
const TICK: Duration = Duration::from_millis(100);
/// Leaving may take 2 s after a signal: capture stops first, then the queue drains.
const STOP_CAPTURE: Duration = Duration::from_millis(400);
const DRAIN: Duration = Duration::from_millis(1200);
const CLOSE_SNAPSHOTS: Duration = Duration::from_millis(200);
/// When a recording has come to its end nobody waits, and everything should arrive.
const DRAIN_AT_END: Duration = Duration::from_secs(30);
/// Before a reload opens a camera again, the old thread must have let go of it.
const STOP_FOR_RELOAD: Duration = Duration::from_secs(2);

/// Why the daemon could not start, or had to end.
#[derive(Debug, Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Bundle(#[from] RecognizerError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("the system refuses a thread or a signal handler: {0}")]
    System(#[from] std::io::Error),
}

/// Why the loop ended.
enum Leave {
    Asked,
    AllEnded,
}

/// Runs the daemon with the configuration at `config` until it is asked to stop or its recordings end.
pub(crate) fn run(config: &Path) -> Result<(), DaemonError> {
    let requests = Requests::listen()?;
    let settings = Settings::read(config)?;
    let manager = ServiceManager::new();
    let recognizer = manager.while_loading(|| Recognizer::load(&settings))?;
    log_loaded(&recognizer);
    let sink = Sink::open(&settings)?;
    let mut daemon = Daemon {
        pipeline: Pipeline::new(settings.device.clone(), recognizer, sink),
        cameras: Cameras::start(&settings.cameras)?,
        settings,
        manager,
    };
    daemon.open_snapshots()?;
    let result = daemon.serve(config, &requests);
    ServiceManager::stopping();
    daemon.leave(matches!(result, Ok(Leave::AllEnded)));
    result.map(drop)
}

struct Daemon {
    settings: Settings,
    pipeline: Pipeline,
    cameras: Cameras,
    manager: ServiceManager,
}

impl Daemon {
    fn serve(&mut self, config: &Path, requests: &Requests) -> Result<Leave, DaemonError> {
        self.manager.ready("waiting for the first frame");
        loop {
            if requests.stop_asked() {
                log::info!("asked to stop");
                return Ok(Leave::Asked);
            }
            if requests.reload_asked() {
                self.reload(config)?;
            }
            match self.cameras.exchange.take(TICK, self.pipeline.max_batch()) {
                Taken::Frames(frames) => {
                    let name = |w: &Waiting| self.settings.cameras[w.camera].name.as_str();
                    let named: Vec<_> = frames.into_iter().map(|w| (name(&w), w)).collect();
                    self.pipeline.frames(&named, &self.settings.cameras)?;
                    self.feed_watchdog();
                }
                Taken::Fault { camera, message } => {
                    self.pipeline
                        .fault(&self.settings.cameras[camera].name, &message)?;
                    // A camera that is known to be away is no reason to be restarted.
                    self.feed_watchdog();
                }
                Taken::Nothing => {}
                Taken::Ended => {
                    log::info!("every source has come to its end");
                    return Ok(Leave::AllEnded);
                }
            }
            self.pipeline.run_commands(&self.settings)?;
            let pipeline = &mut self.pipeline;
            self.manager.status(|| pipeline.describe());
        }
    }

    /// Feeds the watchdog, unless a camera's thread hangs in its driver.
    fn feed_watchdog(&mut self) {
        if self
            .manager
            .watchdog()
            .is_none_or(|limit| self.cameras.exchange.all_alive(limit))
        {
            self.manager.feed();
        }
    }

    /// Takes a new configuration if all of it is good, and keeps the old one otherwise.
    fn reload(&mut self, config: &Path) -> Result<(), DaemonError> {
        ServiceManager::reloading();
        match self.load(config) {
            Ok((settings, recognizer, sink)) => self.adopt(settings, recognizer, sink)?,
            Err(e) => log::error!("the new configuration is refused, the old one stays: {e}"),
        }
        let status = self.pipeline.describe();
        self.manager.ready(&status);
        Ok(())
    }

    /// Everything that a new configuration needs, before anything of the old one is touched. A sink only
    /// where it changes, and not started: the queue's file belongs to the old one yet.
    fn load(
        &self,
        config: &Path,
    ) -> Result<(Settings, Recognizer, Option<PreparedSink>), DaemonError> {
        let settings = Settings::read(config)?;
        let recognizer = self.manager.while_loading(|| Recognizer::load(&settings))?;
        // Those who hear of the cameras, or command them, must know which there are.
        let cameras = |s: &Settings| {
            let names = s.cameras.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
            let told = s.homeassistant.discovery || s.mqtt.payload == PayloadFormat::Sparkplug;
            (told || !s.mqtt.commands.is_empty()).then_some(names)
        };
        let kept = |s: &Settings| {
            (
                s.mqtt.clone(),
                s.queue.clone(),
                s.device.clone(),
                s.homeassistant.clone(),
                cameras(s),
            )
        };
        let sink = if kept(&settings) == kept(&self.settings) {
            None
        } else {
            Some(PreparedSink::new(&settings)?)
        };
        Ok((settings, recognizer, sink))
    }

    fn adopt(
        &mut self,
        settings: Settings,
        recognizer: Recognizer,
        sink: Option<PreparedSink>,
    ) -> Result<(), DaemonError> {
        log_loaded(&recognizer);
        self.pipeline.forget_commands();
        self.pipeline.recognizer = recognizer;
        self.pipeline.device.clone_from(&settings.device);
        if let Some(sink) = sink {
            report_left_behind(
                std::mem::replace(&mut self.pipeline.sink, Sink::Stdout).close(DRAIN),
            );
            self.pipeline.sink = sink.start(&settings)?;
            self.pipeline.forget_published();
        }
        if settings.cameras != self.settings.cameras {
            let idle = Cameras::start(&[])?;
            std::mem::replace(&mut self.cameras, idle).stop(STOP_FOR_RELOAD);
            self.cameras = Cameras::start(&settings.cameras)?;
        }
        self.settings = settings;
        self.open_snapshots()?;
        log::info!("the new configuration is in force");
        Ok(())
    }

    /// Where the frames of events go from now on.
    fn open_snapshots(&mut self) -> Result<(), DaemonError> {
        if let Some(snapshots) = self.pipeline.snapshots.take() {
            snapshots.close(CLOSE_SNAPSHOTS);
        }
        self.pipeline.snapshots = SnapshotWriter::open(
            &self.settings.snapshots,
            self.pipeline.recognizer.hiding_colour(),
        )?;
        Ok(())
    }

    fn leave(mut self, at_end: bool) {
        self.cameras.stop(STOP_CAPTURE);
        if let Some(snapshots) = self.pipeline.snapshots.take() {
            snapshots.close(if at_end {
                DRAIN_AT_END
            } else {
                CLOSE_SNAPSHOTS
            });
        }
        let limit = if at_end { DRAIN_AT_END } else { DRAIN };
        report_left_behind(self.pipeline.sink.close(limit));
    }
}

fn report_left_behind(left: Left) {
    match left {
        Left { messages: 0, .. } => {}
        Left {
            messages,
            on_disk: true,
        } => {
            log::info!("{messages} messages wait on disk and are sent after the next start");
        }
        Left {
            messages,
            on_disk: false,
        } => {
            log::warn!("{messages} messages could not be delivered before leaving and are lost");
        }
    }
}

fn log_loaded(recognizer: &Recognizer) {
    let encoder = &recognizer.encoder().manifest().encoder;
    let classes = recognizer.classifier().labels().len();
    let (model, projection) = (&recognizer.model_digest, &recognizer.projection_digest);
    log::info!(
        "model {} ({model}), projection {projection}, {classes} classes",
        encoder.name
    );
}
