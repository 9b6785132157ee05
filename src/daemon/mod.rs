//! The daemon: it turns frames into events until it is asked to stop or every source has ended.
//!
//! [`run`] is its whole life. The capture threads put frames into one slot per camera; the loop here takes them out and
//! processes them on the calling thread; the MQTT thread sends what the loop publishes.

mod capture_threads;
pub(crate) mod control_journal;
mod error;
mod freshness;
mod frozen;
mod loading;
mod pipeline;
pub(crate) mod profile_files;
mod publish_policy;
pub(crate) mod reference_file;
mod service;
mod slot;
mod snapshots;

pub(crate) use error::DaemonError;

use crate::config::Settings;
use crate::publish::{Sink, StdoutPrinter, Undelivered};
use crate::recognizer::Recognizer;
use crate::text::joined;
use crate::threads::share_one_heap;
use capture_threads::CaptureThreads;
use loading::{Loaded, Loading};
use pipeline::Pipeline;
use service::{Requests, ServiceManager};
use slot::CaptureUpdate;
use snapshots::SnapshotWriter;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the loop waits for a frame before it checks signals, commands and the status line.
const TICK: Duration = Duration::from_millis(100);
/// The daemon leaves within 2 s of a signal: capture stops first, then the queue drains, until [`Requests::deadline`].
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
    share_one_heap();
    let requests = Requests::listen()?;
    let manager = ServiceManager::new();
    let loading = Loading::start(config, None, &manager)?;
    let loaded = loop {
        if requests.stop_requested() {
            log::info!("asked to stop while the configuration was loading");
            ServiceManager::stopping();
            return Ok(());
        }
        if let Some(loaded) = loading.wait(TICK) {
            match loaded {
                // The process that tried the model was stopped.
                Err(_) if requests.stop_requested() => {}
                loaded => break loaded?,
            }
        }
    };
    let mut daemon = Daemon::start(loaded, manager)?;
    let result = daemon.serve(config, &requests);
    ServiceManager::stopping();
    daemon.shut_down(matches!(result, Ok(StopReason::SourcesEnded)), &requests);
    result.map(drop)
}

struct Daemon {
    settings: Settings,
    pipeline: Pipeline,
    capture: CaptureThreads,
    manager: ServiceManager,
    /// A new configuration that is being loaded.
    loading: Option<Loading>,
}

impl Daemon {
    fn start(loaded: Loaded, manager: ServiceManager) -> Result<Self, DaemonError> {
        let Loaded {
            settings,
            recognizer,
            sink,
        } = loaded;
        log_loaded(&recognizer);
        let sink = match sink {
            Some(prepared) => prepared.start(&settings)?,
            None => Sink::open(&settings)?,
        };
        let mut daemon = Self {
            pipeline: Pipeline::new(&settings, recognizer, sink),
            capture: CaptureThreads::start(&settings.cameras, settings.queue.folder.as_deref())?,
            settings,
            manager,
            loading: None,
        };
        daemon.open_snapshots()?;
        Ok(daemon)
    }

    fn serve(&mut self, config: &Path, requests: &Requests) -> Result<StopReason, DaemonError> {
        self.manager.ready("waiting for the first frame");
        loop {
            if requests.stop_requested() {
                log::info!("asked to stop");
                return Ok(StopReason::Signal);
            }
            self.reload(config, requests)?;
            // Frames wait in their slots, where newer ones replace them, while nobody reads stdout.
            if self.pipeline.sink.wait_for_room(TICK)?
                && let Some(reason) = self.take_frames()?
            {
                return Ok(reason);
            }
            self.pipeline.run_commands(&self.settings.classes.prompts)?;
            self.pipeline.notice_removed_references();
            self.feed_watchdog();
            let pipeline = &mut self.pipeline;
            self.manager.status(|| pipeline.describe());
        }
    }

    /// Processes what the cameras have, and waits a little if they have nothing.
    fn take_frames(&mut self) -> Result<Option<StopReason>, DaemonError> {
        match self.capture.slots.take(TICK, self.pipeline.max_batch()) {
            CaptureUpdate::Frames(frames) => {
                for frame in self.pipeline.process(&frames)? {
                    let slots = &self.capture.slots;
                    slots.settle(frame.camera, frame.captured_ns, frame.result);
                }
            }
            CaptureUpdate::Fault { camera, message } => self.pipeline.fault(camera, &message)?,
            CaptureUpdate::Ended if self.pipeline.sink.wait_printed(TICK)? => {
                log::info!("every source has come to its end");
                return Ok(Some(StopReason::SourcesEnded));
            }
            CaptureUpdate::Timeout | CaptureUpdate::Ended => {}
        }
        Ok(None)
    }

    /// Feeds the watchdog: this loop runs. Not while a capture thread hangs in its driver: a camera that is away, silent or
    /// sends nothing that can be decoded is a fault, which is known and told; a thread that does not return is not.
    fn feed_watchdog(&mut self) {
        let watchdog = self.manager.watchdog();
        if watchdog.is_none_or(|limit| self.capture.slots.all_alive(limit)) {
            self.manager.feed();
        }
    }

    /// Starts to load a new configuration if that was requested, and adopts it once all of it is loaded. The old one is
    /// in force meanwhile, and stays if the new one cannot be loaded.
    fn reload(&mut self, config: &Path, requests: &Requests) -> Result<(), DaemonError> {
        if self.loading.is_none() && requests.take_reload() {
            ServiceManager::reloading();
            let loading = Loading::start(config, Some(&self.settings), &self.manager)?;
            self.loading = Some(loading);
        }
        let loading = self.loading.as_ref();
        let Some(loaded) = loading.and_then(|loading| loading.wait(Duration::ZERO)) else {
            return Ok(());
        };
        self.loading = None;
        match loaded {
            Ok(loaded) => self.adopt(loaded)?,
            Err(e) => {
                let reason = joined(&e.to_string());
                log::error!("the new configuration is refused, the old one stays: {reason}");
            }
        }
        let status = self.pipeline.describe();
        self.manager.ready(&status);
        Ok(())
    }

    fn adopt(&mut self, loaded: Loaded) -> Result<(), DaemonError> {
        let Loaded {
            settings,
            recognizer,
            sink,
        } = loaded;
        log_loaded(&recognizer);
        self.pipeline.cancel_commands(&settings.cameras);
        self.pipeline.configure(&settings, recognizer);
        if let Some(sink) = sink {
            // The old one closes the queue's file before the new one opens it.
            let none = Sink::Stdout(StdoutPrinter::default());
            let old = std::mem::replace(&mut self.pipeline.sink, none);
            let sink = sink.replacing(&old);
            let leftover = old.replace(DRAIN);
            self.pipeline.sink = sink.start(&settings)?;
            self.pipeline.sink.adopt(leftover)?;
            self.pipeline.forget_published();
        }
        if settings.cameras != self.settings.cameras {
            let none = CaptureThreads::start(&[], None)?;
            std::mem::replace(&mut self.capture, none).stop(STOP_FOR_RELOAD);
            self.capture =
                CaptureThreads::start(&settings.cameras, settings.queue.folder.as_deref())?;
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

    fn shut_down(mut self, at_end: bool, requests: &Requests) {
        let (close_snapshots, drain) = if at_end {
            (DRAIN_AT_END, DRAIN_AT_END)
        } else {
            (CLOSE_SNAPSHOTS, DRAIN)
        };
        self.capture.stop(STOP_CAPTURE);
        if let Some(snapshots) = self.pipeline.snapshots.take() {
            snapshots.close(close_snapshots);
        }
        let left = requests.deadline().map_or(drain, |deadline| {
            drain.min(deadline.saturating_duration_since(Instant::now()))
        });
        report_undelivered(self.pipeline.sink.close(left));
    }
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
