//! The daemon: it turns frames into events until it is asked to stop or every source has ended.
//!
//! [`run`] is its whole life. The capture threads put frames into one slot per camera; the loop here takes them out and
//! processes them on the calling thread; the MQTT thread sends what the loop publishes.

mod capture_threads;
mod error;
mod pipeline;
mod publish_policy;
mod service;
mod slot;
mod snapshots;

pub(crate) use error::DaemonError;

use crate::config::{CameraSettings, Settings, Warning};
use crate::publish::{PreparedSink, Sink, Undelivered};
use crate::recognizer::{Recognizer, RecognizerError, VettingError};
use capture_threads::CaptureThreads;
use pipeline::Pipeline;
use service::{Requests, ServiceManager};
use slot::CaptureUpdate;
use snapshots::SnapshotWriter;
use std::path::Path;
use std::time::Duration;

/// How long the loop waits for a frame before it checks signals, commands and the status line.
const TICK: Duration = Duration::from_millis(100);
/// The daemon leaves within 2 s of a signal: capture stops first, then the queue drains.
const STOP_CAPTURE: Duration = Duration::from_millis(400);
const DRAIN: Duration = Duration::from_millis(1200);
const CLOSE_SNAPSHOTS: Duration = Duration::from_millis(200);
/// When all recordings have ended nobody waits for the exit, and every message should arrive.
const DRAIN_AT_END: Duration = Duration::from_secs(30);
/// How long a reload waits for the old capture threads to close their cameras before it opens them again.
const STOP_FOR_RELOAD: Duration = Duration::from_secs(2);

/// Why the loop ended.
enum StopReason {
    Signal,
    SourcesEnded,
}

/// Runs the daemon with the configuration at `config` until it is asked to stop or its recordings end.
pub(crate) fn run(config: &Path) -> Result<(), DaemonError> {
    let requests = Requests::listen()?;
    let settings = read_settings(config)?;
    let manager = ServiceManager::new();
    let recognizer = match manager.while_loading(|| Recognizer::load(&settings)) {
        Err(RecognizerError::Vetting(VettingError::Stopped)) => {
            log::info!("asked to stop");
            return Ok(());
        }
        loaded => loaded?,
    };
    log_loaded(&recognizer);
    let sink = Sink::open(&settings)?;
    let mut daemon = Daemon {
        pipeline: Pipeline::new(&settings, recognizer, sink),
        capture: CaptureThreads::start(&settings.cameras)?,
        settings,
        manager,
    };
    daemon.open_snapshots()?;
    let result = daemon.serve(config, &requests);
    ServiceManager::stopping();
    daemon.shut_down(matches!(result, Ok(StopReason::SourcesEnded)));
    result.map(drop)
}

/// Reads the configuration, and logs what it should not have.
fn read_settings(config: &Path) -> Result<Settings, DaemonError> {
    let settings = Settings::read(config)?;
    for Warning { key, text } in settings.warnings() {
        log::warn!("`{key}`: {text}");
    }
    Ok(settings)
}

struct Daemon {
    settings: Settings,
    pipeline: Pipeline,
    capture: CaptureThreads,
    manager: ServiceManager,
}

impl Daemon {
    fn serve(&mut self, config: &Path, requests: &Requests) -> Result<StopReason, DaemonError> {
        self.manager.ready("waiting for the first frame");
        loop {
            if requests.stop_requested() {
                log::info!("asked to stop");
                return Ok(StopReason::Signal);
            }
            if requests.take_reload() {
                self.reload(config)?;
            }
            match self.capture.slots.take(TICK, self.pipeline.max_batch()) {
                CaptureUpdate::Frames(frames) => {
                    self.pipeline.process(&frames)?;
                    self.feed_watchdog();
                }
                CaptureUpdate::Fault { camera, message } => {
                    self.pipeline.fault(camera, &message)?;
                    // A camera that is known to be away is no reason for a restart.
                    self.feed_watchdog();
                }
                CaptureUpdate::Timeout => {}
                CaptureUpdate::Ended => {
                    log::info!("every source has come to its end");
                    return Ok(StopReason::SourcesEnded);
                }
            }
            self.pipeline.run_commands(&self.settings.classes.prompts)?;
            let pipeline = &mut self.pipeline;
            self.manager.status(|| pipeline.describe());
        }
    }

    /// Feeds the watchdog, unless a capture thread hangs in its driver.
    fn feed_watchdog(&mut self) {
        let watchdog = self.manager.watchdog();
        if watchdog.is_none_or(|limit| self.capture.slots.all_alive(limit)) {
            self.manager.feed();
        }
    }

    /// Adopts the new configuration if all of it loads, and keeps the old one otherwise.
    fn reload(&mut self, config: &Path) -> Result<(), DaemonError> {
        ServiceManager::reloading();
        match self.load(config) {
            Ok((settings, recognizer, sink)) => self.adopt(settings, recognizer, sink)?,
            // The loop ends next.
            Err(DaemonError::Recognizer(RecognizerError::Vetting(VettingError::Stopped))) => {}
            Err(e) => log::error!("the new configuration is refused, the old one stays: {e}"),
        }
        let status = self.pipeline.describe();
        self.manager.ready(&status);
        Ok(())
    }

    /// Loads everything that a new configuration needs before anything of the old one is touched. The sink is `None`
    /// where it does not change, and is not started yet: the old one still holds the queue's file.
    fn load(
        &self,
        config: &Path,
    ) -> Result<(Settings, Recognizer, Option<PreparedSink>), DaemonError> {
        let settings = read_settings(config)?;
        let recognizer = self.manager.while_loading(|| Recognizer::load(&settings))?;
        let sink = if needs_new_sink(&self.settings, &settings) {
            Some(PreparedSink::new(&settings)?)
        } else {
            None
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
        self.pipeline.cancel_commands(&settings.cameras);
        self.pipeline.configure(&settings, recognizer);
        if let Some(sink) = sink {
            let old = std::mem::replace(&mut self.pipeline.sink, Sink::Stdout);
            let sink = sink.replacing(&old);
            report_undelivered(old.close(DRAIN));
            self.pipeline.sink = sink.start(&settings)?;
            self.pipeline.forget_published();
        }
        if settings.cameras != self.settings.cameras {
            let none = CaptureThreads::start(&[])?;
            std::mem::replace(&mut self.capture, none).stop(STOP_FOR_RELOAD);
            self.capture = CaptureThreads::start(&settings.cameras)?;
        }
        self.settings = settings;
        self.open_snapshots()?;
        log::info!("the new configuration is in force");
        Ok(())
    }

    /// Closes the old snapshot folder, if there is one, and opens the configured one.
    fn open_snapshots(&mut self) -> Result<(), DaemonError> {
        if let Some(snapshots) = self.pipeline.snapshots.take() {
            snapshots.close(CLOSE_SNAPSHOTS);
        }
        self.pipeline.snapshots = SnapshotWriter::open(
            &self.settings.snapshots,
            self.pipeline.recognizer.mask_colour(),
        )?;
        Ok(())
    }

    fn shut_down(mut self, at_end: bool) {
        let (close_snapshots, drain) = if at_end {
            (DRAIN_AT_END, DRAIN_AT_END)
        } else {
            (CLOSE_SNAPSHOTS, DRAIN)
        };
        self.capture.stop(STOP_CAPTURE);
        if let Some(snapshots) = self.pipeline.snapshots.take() {
            snapshots.close(close_snapshots);
        }
        report_undelivered(self.pipeline.sink.close(drain));
    }
}

/// Whether the sink's settings differ, including the cameras' names: the broker holds a state of each.
fn needs_new_sink(old: &Settings, new: &Settings) -> bool {
    let names = |s: &Settings| {
        let name = |camera: &CameraSettings| camera.name.clone();
        let published = s.mqtt.broker.is_some();
        published.then(|| s.cameras.iter().map(name).collect::<Vec<_>>())
    };
    old.mqtt != new.mqtt
        || old.queue != new.queue
        || old.device != new.device
        || old.homeassistant != new.homeassistant
        || names(old) != names(new)
}

fn report_undelivered(left: Undelivered) {
    match left {
        Undelivered { messages: 0, .. } => {}
        Undelivered {
            messages,
            on_disk: true,
        } => {
            log::info!("{messages} messages wait on disk and are sent after the next start");
        }
        Undelivered {
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
