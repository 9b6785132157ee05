//! A frame's path from the slot to the sink.

mod commands;

use super::policy::Policy;
use super::slot::Waiting;
use super::snapshots::SnapshotWriter;
use crate::clock;
use crate::config::CameraSettings;
use crate::publish::{CameraState, Event, LatencyMs, PublishError, Sink, rfc3339};
use crate::recognizer::{FrameInput, Recognizer, StageLatency};
use commands::PendingCommands;
use constancy_core::classify::{Classifier, Decision, Steady};
use constancy_core::frame::Frame;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Frames are looked at together for this long at most, so that the daemon can always leave in time.
const MAX_TOGETHER: Duration = Duration::from_millis(300);
/// Nothing is gained by more: the weights are read once for all of them as it is.
const MAX_BATCH: usize = 8;

/// How many frames fit into the time, when one takes `each`.
fn max_batch(each: Duration) -> usize {
    let fitting = MAX_TOGETHER.as_nanos() / each.as_nanos().max(1);
    usize::try_from(fitting)
        .unwrap_or(MAX_BATCH)
        .clamp(1, MAX_BATCH)
}

/// What is remembered of a camera from frame to frame, and over reloads.
#[derive(Debug, Default)]
struct CameraMemory {
    next_seq: u64,
    dropped: u64,
    damaged: u64,
    steady: Steady,
    policy: Policy,
    /// What the retained state says.
    published: Option<Published>,
    /// Frames since the status line was last written.
    recent: u64,
    /// A command has switched it off.
    is_off: bool,
    /// Classes or threshold that were commanded.
    classifier: Option<Classifier>,
}

#[derive(Debug, PartialEq)]
enum Published {
    /// `None`: unknown.
    Class(Option<String>),
    Fault(String),
}

/// Looks at frames and publishes what it sees.
pub(super) struct Pipeline {
    pub(super) device: String,
    pub(super) recognizer: Recognizer,
    pub(super) sink: Sink,
    /// Where the frames of events are kept.
    pub(super) snapshots: Option<SnapshotWriter>,
    pending: PendingCommands,
    boot_id: String,
    cameras: BTreeMap<String, CameraMemory>,
    since_status: Instant,
    max_batch: usize,
}

impl Pipeline {
    pub(super) fn new(device: String, recognizer: Recognizer, sink: Sink) -> Self {
        Self {
            device,
            recognizer,
            sink,
            snapshots: None,
            pending: PendingCommands::default(),
            boot_id: boot_id(),
            cameras: BTreeMap::new(),
            since_status: Instant::now(),
            max_batch: 1,
        }
    }

    /// Frames of several cameras, each with its camera's name: decode, embed together, project, classify, publish. A
    /// frame that cannot be decoded is counted and skipped.
    pub(super) fn frames<'w>(
        &mut self,
        waiting: &'w [(&str, Waiting)],
        settings: &[CameraSettings],
    ) -> Result<(), super::DaemonError> {
        for (camera, frame) in waiting {
            self.count_lost(camera, frame);
        }
        let is_off = |camera: &str| self.cameras.get(camera).is_some_and(|m| m.is_off);
        let (off, waiting): (Vec<_>, Vec<_>) =
            waiting.iter().partition(|(camera, _)| is_off(camera));
        off.iter()
            .try_for_each(|(camera, _)| self.say_off(camera))?;
        if waiting.is_empty() {
            return Ok(());
        }
        let looked_at_ns = clock::monotonic_ns();
        let look = |(camera, w): &&'w (&str, Waiting)| {
            let classifier = self
                .cameras
                .get(*camera)
                .and_then(|m| m.classifier.as_ref());
            FrameInput {
                frame: &w.frame,
                view: &settings[w.camera].view,
                classifier,
            }
        };
        let looks: Vec<FrameInput<'_>> = waiting.iter().map(look).collect();
        let start = Instant::now();
        let results = self.recognizer.recognize_all(&looks)?;
        self.max_batch =
            max_batch(start.elapsed() / u32::try_from(looks.len()).unwrap_or(u32::MAX));
        for (
            (
                camera,
                Waiting {
                    camera: index,
                    frame,
                    ..
                },
            ),
            result,
        ) in waiting.into_iter().zip(results)
        {
            let Some(memory) = self.cameras.get_mut(*camera) else {
                continue;
            };
            match result {
                Ok((decision, stages)) => {
                    memory.recent += 1;
                    let waited =
                        Duration::from_nanos(looked_at_ns.saturating_sub(frame.taken.monotonic_ns));
                    self.publish(&settings[*index], frame, &decision, stages, waited)?;
                }
                Err(e) => {
                    memory.damaged += 1;
                    log::warn!(
                        "camera {camera}: {}{e}; frame skipped ({} so far)",
                        file_of(frame),
                        memory.damaged
                    );
                }
            }
            self.picture_if_asked(camera, frame, &settings[*index].view);
        }
        Ok(())
    }

    /// Counts what was lost before this frame, whether the camera is on or off.
    fn count_lost(&mut self, camera: &str, waiting: &Waiting) {
        let memory = self.cameras.entry(camera.to_owned()).or_default();
        memory.dropped += waiting.dropped;
        memory.damaged += waiting.damaged;
    }

    /// How many frames may be looked at together.
    pub(super) fn max_batch(&self) -> usize {
        self.max_batch
    }

    /// Publishes what the camera's rules make of a decision: an event, another state, both or nothing.
    fn publish(
        &mut self,
        settings: &CameraSettings,
        frame: &Frame,
        decision: &Decision,
        stages: StageLatency,
        waited: Duration,
    ) -> Result<(), PublishError> {
        let (camera, rules) = (settings.name.as_str(), &settings.publish);
        let Some(memory) = self.cameras.get_mut(camera) else {
            return Ok(());
        };
        let (taken_ns, seq) = (frame.taken.monotonic_ns, memory.next_seq);
        let changed = memory.steady.see(decision, taken_ns, &rules.steadiness());
        if memory.policy.is_due(changed, taken_ns, rules) {
            self.event(camera, frame, decision, stages, waited)?;
            if let Some(snapshots) = &mut self.snapshots {
                snapshots.keep(camera, &self.boot_id, seq, frame, &settings.view);
            }
        }
        self.state(camera, frame, decision)
    }

    fn event(
        &mut self,
        camera: &str,
        frame: &Frame,
        decision: &Decision,
        stages: StageLatency,
        waited: Duration,
    ) -> Result<(), PublishError> {
        let Some(memory) = self.cameras.get_mut(camera) else {
            return Ok(());
        };
        let best = &decision.top[0];
        let latency = LatencyMs {
            capture: waited.as_secs_f64() * 1e3,
            preprocess: stages.preprocess_ms,
            embed: stages.embed_ms,
            classify: stages.classify_ms,
        };
        let seq = memory.next_seq;
        self.sink.event(&Event {
            schema: 1,
            device: &self.device,
            camera,
            boot_id: &self.boot_id,
            seq,
            id: format!("{}/{}/{camera}/{seq}", self.device, self.boot_id),
            ts: rfc3339(frame.taken.unix_ns),
            monotonic_ns: frame.taken.monotonic_ns,
            clock_synced: frame.taken.clock_synced,
            class: &best.class,
            score: best.score,
            margin: decision.margin,
            known: decision.known,
            in_support: decision.in_support,
            shift: decision.shift,
            top: &decision.top,
            latency_ms: latency.rounded(),
            model: &self.recognizer.model_digest,
            projection: &self.recognizer.projection_digest,
            dropped_frames: memory.dropped,
            damaged_frames: memory.damaged,
            file: frame.file.as_deref().map(std::path::PathBuf::as_path),
            truth: frame.truth.as_deref(),
        })?;
        memory.next_seq += 1;
        Ok(())
    }

    /// Publishes the camera's present answer if it is another than before.
    fn state(
        &mut self,
        camera: &str,
        frame: &Frame,
        decision: &Decision,
    ) -> Result<(), PublishError> {
        let Some(memory) = self.cameras.get_mut(camera) else {
            return Ok(());
        };
        let Some(class) = memory.steady.present() else {
            return Ok(());
        };
        let present = Published::Class(class.map(str::to_owned));
        if memory.published.as_ref() == Some(&present) {
            return Ok(());
        }
        // While it is unknown the state names the likeliest all the same.
        let named = class.unwrap_or(&decision.top[0].class);
        self.sink.state(&CameraState {
            schema: 1,
            device: &self.device,
            camera,
            class: Some(named),
            score: decision
                .top
                .iter()
                .find(|c| c.class == named)
                .map(|c| c.score),
            known: class.is_some(),
            ts: rfc3339(frame.taken.unix_ns),
            fault: None,
        })?;
        memory.published = Some(present);
        Ok(())
    }

    /// A camera that does not work: its retained state must not go on naming what was last seen.
    pub(super) fn fault(&mut self, camera: &str, message: &str) -> Result<(), PublishError> {
        let memory = self.cameras.entry(camera.to_owned()).or_default();
        // What was there before says nothing about what will be there after.
        memory.steady = Steady::default();
        let present = Published::Fault(message.to_owned());
        if memory.published.as_ref() != Some(&present) {
            self.sink.state(&CameraState {
                schema: 1,
                device: &self.device,
                camera,
                class: None,
                score: None,
                known: false,
                ts: rfc3339(clock::now().unix_ns),
                fault: Some(message),
            })?;
            memory.published = Some(present);
        }
        self.end_picture(camera, &Err(message.to_owned()));
        Ok(())
    }

    /// A reload may have changed device or broker: say everything again.
    pub(super) fn forget_published(&mut self) {
        self.cameras.values_mut().for_each(|m| m.published = None);
    }

    /// One line on how things are.
    pub(super) fn describe(&mut self) -> String {
        let seconds = self.since_status.elapsed().as_secs_f64().max(1e-3);
        self.since_status = Instant::now();
        let cameras = self.cameras.iter_mut().map(|(name, memory)| {
            #[expect(clippy::cast_precision_loss, reason = "frames of a few seconds")]
            let rate = std::mem::take(&mut memory.recent) as f64 / seconds;
            match &memory.published {
                Some(Published::Class(Some(class))) => {
                    format!("{name}: {class}, {rate:.1} frames/s")
                }
                Some(Published::Class(None)) => format!("{name}: unknown, {rate:.1} frames/s"),
                Some(Published::Fault(fault)) => format!("{name}: {fault}"),
                None => format!("{name}: no frame yet"),
            }
        });
        let mut parts: Vec<String> = cameras.collect();
        parts.push(self.sink.describe());
        parts.join("; ")
    }
}

fn file_of(frame: &Frame) -> String {
    frame
        .file
        .as_ref()
        .map_or_else(String::new, |f| format!("{}: ", f.display()))
}

/// A random UUID from the kernel: the machine's own boot id would repeat `seq` after a restart of the daemon.
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
mod tests {
    use super::*;
    use crate::config::Settings;
    use constancy_core::frame::{PixelFormat, Timestamp};
    use std::path::Path;

    fn pipeline() -> (Pipeline, Settings) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder");
        let text = "device = \"bench\"\n[model]\nmanifest = \"vision-fp32.toml\"\n[classes]\nlabels = [\"a gear\"]\n\
                    [[camera]]\nname = \"belt\"\n[camera.v4l]\ndevice = \"/dev/null\"\n";
        let settings = Settings::parse(text, &fixtures.join("constancy.toml")).expect("settings");
        let recognizer = Recognizer::load(&settings).expect("model");
        (
            Pipeline::new("bench".into(), recognizer, Sink::Stdout),
            settings,
        )
    }

    #[test]
    fn what_is_lost_while_a_camera_is_off_is_counted() {
        let (mut pipeline, settings) = pipeline();
        let look = |pipeline: &mut Pipeline| {
            let taken = Timestamp {
                monotonic_ns: 1,
                unix_ns: 1,
                clock_synced: true,
            };
            let frame = Frame::compressed(PixelFormat::Jpeg, b"no JPEG".into(), taken);
            let waiting = Waiting {
                camera: 0,
                frame,
                dropped: 3,
                damaged: 2,
            };
            pipeline
                .frames(&[("belt", waiting)], &settings.cameras)
                .expect("frames");
            let memory = &pipeline.cameras["belt"];
            (memory.dropped, memory.damaged)
        };
        assert_eq!(look(&mut pipeline), (3, 3), "it could not be decoded");
        pipeline.enable("belt", false).expect("off");
        assert_eq!(look(&mut pipeline), (6, 5), "nobody looked at it");
        pipeline.enable("belt", true).expect("on");
        assert_eq!(look(&mut pipeline), (9, 8));
    }
}
