//! A frame's path from its camera's slot to the sink.
//!
//! [`Pipeline::process`] is that path, top to bottom. Each configured camera is one [`camera::Camera`], which
//! every frame, fault and command reaches by the camera's index in the configuration.

mod camera;
mod commands;
mod conditions;
mod relabelling;
mod state;
mod watch;

use super::error::DaemonError;
use super::slot::CameraFrame;
use super::snapshots::SnapshotWriter;
use crate::clock;
use crate::config::Settings;
use crate::publish::{Event, LatencyMs, PublishError, Sink, rfc3339};
use crate::recognizer::{FrameError, FrameInput, PerFrame, Recognition, Recognizer, StageLatency};
use camera::{Cameras, SWITCHED_OFF};
use constancy_core::classify::Classifier;
use constancy_core::frame::Frame;
use constancy_core::still::StillScene;
use relabelling::Relabelling;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A batch may take this long, so that the daemon can always stop in time.
const MAX_BATCH_TIME: Duration = Duration::from_millis(300);
/// A larger batch gains nothing: the weights are read once per batch already.
const MAX_BATCH: usize = 8;

/// How many files of a recording are named in the log that cannot be decoded; of further ones, fewer and fewer.
const MAX_NAMED_FILES: usize = 1000;
/// After this many panics of the model in a row the program is not trusted any more: systemd starts it anew.
const MAX_MODEL_PANICS: u32 = 5;

/// Whether a camera's frame could be decoded and recognised, or why not.
pub(super) struct Settled {
    /// The camera's index.
    pub(super) camera: usize,
    /// When the frame was captured, nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) captured_ns: u64,
    pub(super) result: Result<(), String>,
}

impl Settled {
    fn new(frame: &CameraFrame, result: Result<(), String>) -> Self {
        Self {
            camera: frame.camera,
            captured_ns: frame.frame.captured_at.monotonic_ns,
            result,
        }
    }
}

/// How many frames fit into [`MAX_BATCH_TIME`] when one takes `per_frame`.
fn batch_that_fits(per_frame: Duration) -> usize {
    let fitting = MAX_BATCH_TIME.as_nanos() / per_frame.as_nanos().max(1);
    usize::try_from(fitting)
        .unwrap_or(MAX_BATCH)
        .clamp(1, MAX_BATCH)
}

/// Recognises frames and publishes the decisions.
pub(super) struct Pipeline {
    pub(super) recognizer: Recognizer,
    pub(super) sink: Sink,
    /// Keeps the frames of events, if a folder is configured.
    pub(super) snapshots: Option<SnapshotWriter>,
    cameras: Cameras,
    device: String,
    boot_id: String,
    /// Labels that are being embedded.
    relabelling: Option<Relabelling>,
    since_status: Instant,
    max_batch: usize,
    /// Panics of the model since it last embedded a frame.
    model_panics: u32,
}

impl Pipeline {
    pub(super) fn new(settings: &Settings, recognizer: Recognizer, sink: Sink) -> Self {
        let mut cameras = Cameras::default();
        cameras.configure(&settings.cameras, settings.queue.folder.as_deref());
        let mut pipeline = Self {
            recognizer,
            sink,
            snapshots: None,
            cameras,
            device: settings.device.clone(),
            boot_id: boot_id(),
            relabelling: None,
            since_status: Instant::now(),
            max_batch: 1,
            model_panics: 0,
        };
        pipeline.configure_conditions(settings);
        pipeline
    }

    fn configure_conditions(&mut self, settings: &Settings) {
        let folder = settings.queue.folder.as_deref();
        for camera in self.cameras.configured_mut() {
            let binding = self.recognizer.binding(camera.name());
            let classifier = self.recognizer.classifier();
            let adapt = settings.light.adapt;
            camera
                .conditions
                .configure(binding, folder, adapt, classifier);
        }
    }

    /// How many frames [`Self::process`] can take without exceeding its time limit.
    pub(super) fn max_batch(&self) -> usize {
        self.max_batch
    }

    /// One batch, at most one frame per camera: decode, embed together, project, classify, publish. A frame that fails
    /// is logged, counted as damaged and skipped. An error of the sink ends the daemon, and so does a model that does
    /// nothing but panic. Returns what became of each frame.
    pub(super) fn process(&mut self, batch: &[CameraFrame]) -> Result<Vec<Settled>, DaemonError> {
        for frame in batch {
            self.cameras[frame.camera].count_lost(frame);
        }
        let is_off = |frame: &&CameraFrame| self.cameras[frame.camera].is_off;
        let (off, on): (Vec<&CameraFrame>, Vec<_>) = batch.iter().partition(is_off);
        let mut settled = Vec::with_capacity(batch.len());
        for frame in off {
            self.fault(frame.camera, SWITCHED_OFF)?;
            settled.push(Settled::new(frame, Ok(())));
        }
        let started_ns = clock::monotonic_ns();
        for (frame, result) in on.iter().zip(self.recognize(&on)) {
            let result = match result {
                Ok((recognition, stages)) => {
                    self.model_panics = 0;
                    let latency = latency_ms(&frame.frame, started_ns, stages);
                    self.publish_or_skip(frame, &recognition, latency)?;
                    Ok(())
                }
                Err(error) => {
                    self.skip(frame, &error);
                    self.count_model_panic(frame.camera, &error)?;
                    Err(error.to_string())
                }
            };
            settled.push(Settled::new(frame, result));
            self.send_picture_if_requested(frame);
        }
        Ok(settled)
    }

    /// One result per frame, in order, each by its camera's view and classifier.
    fn recognize(&mut self, batch: &[&CameraFrame]) -> Vec<PerFrame<Recognition>> {
        if batch.is_empty() {
            return Vec::new();
        }
        // A batch has at most one frame of each camera.
        let take = |frame: &&CameraFrame| std::mem::take(&mut self.cameras[frame.camera].still);
        let mut scenes: Vec<StillScene> = batch.iter().map(take).collect();
        let mut inputs = Vec::with_capacity(batch.len());
        for (CameraFrame { camera, frame, .. }, scene) in batch.iter().zip(&mut scenes) {
            let camera = &self.cameras[*camera];
            inputs.push(FrameInput {
                frame,
                view: &camera.settings.view,
                classifier: camera.classifier.as_ref(),
                condition: camera
                    .conditions
                    .applied(classifier_of(camera.classifier.as_ref(), &self.recognizer)),
                still: camera.keep_ns().map(|keep_ns| (scene, keep_ns)),
            });
        }
        let start = Instant::now();
        let results = self.recognizer.recognize_all(&mut inputs);
        drop(inputs);
        for (frame, scene) in batch.iter().zip(scenes) {
            self.cameras[frame.camera].still = scene;
        }
        let reused = |r: &PerFrame<Recognition>| matches!(r, Ok((r, _)) if r.reused_ns.is_some());
        if !results.iter().any(reused) {
            let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            self.max_batch = batch_that_fits(start.elapsed() / count);
        }
        results
    }

    /// Ends the daemon after too many panics of the model in a row, and says so in the camera's state first.
    fn count_model_panic(&mut self, camera: usize, error: &FrameError) -> Result<(), DaemonError> {
        let FrameError::ModelPanic(message) = error else {
            return Ok(());
        };
        self.model_panics += 1;
        if self.model_panics < MAX_MODEL_PANICS {
            return Ok(());
        }
        let error = DaemonError::ModelPanics {
            frames: self.model_panics,
            message: message.clone(),
        };
        self.fault(camera, &error.to_string())?;
        Err(error)
    }

    /// Publishes a decision. One that cannot be written as a message is skipped; those after it are published.
    fn publish_or_skip(
        &mut self,
        frame: &CameraFrame,
        recognition: &Recognition,
        latency: LatencyMs,
    ) -> Result<(), PublishError> {
        match self.publish(frame, recognition, latency) {
            Err(PublishError::Json(e)) => {
                let reason = format!("its event cannot be written as JSON: {e}");
                self.skip(frame, &FrameError::Internal(reason));
                Ok(())
            }
            published => published,
        }
    }

    /// Publishes an event, a new state, both or neither, by the camera's rules.
    fn publish(
        &mut self,
        frame: &CameraFrame,
        recognition: &Recognition,
        latency: LatencyMs,
    ) -> Result<(), PublishError> {
        let decision = &recognition.decision;
        let camera = &mut self.cameras[frame.camera];
        camera.recent_frames += 1;
        let captured_at = frame.frame.captured_at;
        let captured_ns = captured_at.monotonic_ns;
        let classifier = classifier_of(camera.classifier.as_ref(), &self.recognizer);
        camera.watch.update(recognition, classifier, captured_at);
        let light = camera.watch.light(classifier);
        // The embedding of an earlier frame says nothing new of the light.
        let embedding = Some(&recognition.embedding).filter(|_| recognition.reused_ns.is_none());
        let calibrated = embedding.and_then(|embedding| {
            camera
                .conditions
                .update(embedding, classifier, captured_ns, light)
        });
        let rules = &camera.settings.publish;
        let changed = camera
            .debouncer
            .update(decision, captured_ns, &rules.steadiness());
        if camera.policy.is_due(changed, captured_ns, rules) {
            self.publish_event(frame, recognition, latency)?;
        }
        self.publish_state(frame, recognition)?;
        if let Some(outcome) = calibrated {
            self.answer_calibrate(frame.camera, &outcome);
        }
        Ok(())
    }

    fn publish_event(
        &mut self,
        CameraFrame { camera, frame, .. }: &CameraFrame,
        Recognition {
            decision,
            condition,
            reused_ns,
            ..
        }: &Recognition,
        latency_ms: LatencyMs,
    ) -> Result<(), PublishError> {
        let camera = &mut self.cameras[*camera];
        let (name, seq) = (camera.settings.name.as_str(), camera.next_seq);
        let best = &decision.top[0];
        self.sink.event(&Event {
            schema: 1,
            device: &self.device,
            camera: name,
            boot_id: &self.boot_id,
            seq,
            id: format!("{}/{}/{name}/{seq}", self.device, self.boot_id),
            ts: rfc3339(frame.captured_at.unix_ns),
            monotonic_ns: frame.captured_at.monotonic_ns,
            clock_synced: frame.captured_at.clock_synced,
            class: &best.class,
            score: best.score,
            confidence: decision.confidence,
            margin: decision.margin,
            known: decision.known,
            reason: decision.reason,
            in_support: decision.in_support,
            shift: decision.shift,
            sight: camera
                .watch
                .sight(classifier_of(camera.classifier.as_ref(), &self.recognizer)),
            condition: condition.as_deref(),
            top: &decision.top,
            reused: reused_ns.is_some(),
            age_ms: reused_ns.map(|ns| (ns as f64 / 1e6).round()),
            latency_ms,
            model: &self.recognizer.model_digest,
            projection: &self.recognizer.projection_digest,
            dropped_frames: camera.dropped,
            damaged_frames: camera.damaged,
            file: frame.file.as_deref().map(|f| f.to_string_lossy()),
            truth: frame.truth.as_deref(),
        })?;
        camera.next_seq += 1;
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.keep(name, &self.boot_id, seq, frame, &camera.settings.view);
        }
        Ok(())
    }

    /// Counts a frame that could not be recognised, and logs it if it says something new: a camera that sends nothing but
    /// damaged frames must not fill the journal, and its state will say so. A recording's files are each named once, up to
    /// a number.
    fn skip(&mut self, frame: &CameraFrame, error: &FrameError) {
        let camera = &mut self.cameras[frame.camera];
        camera.damaged += 1;
        let named = frame.frame.file.as_ref().is_some_and(|file| {
            camera.named_files.len() < MAX_NAMED_FILES
                && camera.named_files.insert(Arc::clone(file))
        });
        let level = if named || camera.damaged.is_power_of_two() {
            log::Level::Warn
        } else {
            log::Level::Debug
        };
        log::log!(
            level,
            "camera {}: {}{error}; frame skipped ({} so far)",
            camera.name(),
            file_prefix(&frame.frame),
            camera.damaged
        );
    }

    /// Takes a new configuration, except for the sink. Cameras that keep their name keep their memory.
    pub(super) fn configure(&mut self, settings: &Settings, recognizer: Recognizer) {
        self.recognizer = recognizer;
        self.device.clone_from(&settings.device);
        let folder = settings.queue.folder.as_deref();
        self.cameras.configure(&settings.cameras, folder);
        self.configure_conditions(settings);
    }

    /// Publishes every camera's state again: the broker or the topics may be new.
    pub(super) fn forget_published(&mut self) {
        self.cameras.forget_published();
    }

    /// The status line: each camera's answer and frame rate since the last call, then the sink.
    pub(super) fn describe(&mut self) -> String {
        let seconds = self.since_status.elapsed().as_secs_f64().max(1e-3);
        self.since_status = Instant::now();
        let cameras = self.cameras.configured_mut().map(|c| c.describe(seconds));
        let mut parts: Vec<String> = cameras.collect();
        parts.push(self.sink.describe());
        parts.join("; ")
    }
}

/// A camera's own classifier, if a command gave it one, or everybody's.
fn classifier_of<'a>(own: Option<&'a Classifier>, recognizer: &'a Recognizer) -> &'a Classifier {
    own.unwrap_or_else(|| recognizer.classifier())
}

/// The latency of a frame whose recognition began at `started_ns` of `CLOCK_MONOTONIC`.
fn latency_ms(frame: &Frame, started_ns: u64, stages: StageLatency) -> LatencyMs {
    let waited = Duration::from_nanos(started_ns.saturating_sub(frame.captured_at.monotonic_ns));
    LatencyMs {
        capture: waited.as_secs_f64() * 1e3,
        preprocess: stages.preprocess_ms,
        embed: stages.embed_ms,
        classify: stages.classify_ms,
    }
    .rounded()
}

/// The file of a replayed frame, as the beginning of a log message.
fn file_prefix(frame: &Frame) -> String {
    frame
        .file
        .as_ref()
        .map_or_else(String::new, |f| format!("{}: ", f.display()))
}

/// A random UUID from the kernel. The machine's own boot id would not do: it stays the same when the daemon restarts,
/// and `seq` begins again.
fn boot_id() -> String {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let uuid = uuid.trim();
    if uuid.is_empty() {
        format!("{:032x}", fastrand::u128(..))
    } else {
        uuid.to_owned()
    }
}

#[cfg(test)]
mod tests;
