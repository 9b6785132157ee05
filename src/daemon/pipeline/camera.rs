//! One camera of the pipeline: its settings, its counters, and everything it remembers from frame to frame.

use super::super::publish_policy::PublishPolicy;
use super::super::slot::CameraFrame;
use super::conditions::Conditions;
use super::watch::Watch;
use crate::config::CameraSettings;
use crate::publish::{Proposal, Sight};
use constancy_core::classify::{Classifier, Debouncer};
use constancy_core::still::StillScene;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Index, IndexMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// The fault in the retained state of a camera that a command switched off.
pub(super) const SWITCHED_OFF: &str = "switched off over MQTT";

/// What the camera's retained state says.
#[derive(Debug, PartialEq)]
pub(super) enum Published {
    /// The class, or `None` for unknown.
    Class(Option<String>),
    Fault(String),
}

/// What a camera sees, as its retained state says it: of the frame that began the state.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) class: String,
    pub(super) score: Option<f32>,
    pub(super) confidence: Option<f32>,
    pub(super) known: bool,
    /// RFC 3339.
    pub(super) ts: String,
}

/// What a retained state said beside the answer.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) sight: Sight,
    pub(super) condition: Option<String>,
    pub(super) proposal: Option<Proposal>,
    pub(super) at: Instant,
}

/// A configured camera. It keeps its memory over reloads for as long as the daemon runs.
#[derive(Debug)]
pub(super) struct Camera {
    pub(super) settings: CameraSettings,
    /// `seq` of the next event.
    pub(super) next_seq: u64,
    /// Frames dropped since the daemon started.
    pub(super) dropped: u64,
    /// Damaged frames since the daemon started.
    pub(super) damaged: u64,
    /// Files of a recording that were told to be damaged.
    pub(super) named_files: BTreeSet<Arc<PathBuf>>,
    pub(super) debouncer: Debouncer,
    pub(super) policy: PublishPolicy,
    /// The retained state as last published.
    pub(super) published: Option<Published>,
    /// What it says, while the camera works.
    pub(super) answer: Option<Answer>,
    /// How well the camera sees.
    pub(super) watch: Watch,
    /// The lights that it was calibrated in.
    pub(super) conditions: Conditions,
    /// What it has shown, for reusing embeddings.
    pub(super) still: StillScene,
    /// What the retained state last said of that, and when.
    pub(super) told: Option<Told>,
    /// Recognised frames since the status line was last written.
    pub(super) recent_frames: u64,
    /// A command switched the camera off.
    pub(super) is_off: bool,
    /// The classifier with commanded labels or a commanded threshold.
    pub(super) classifier: Option<Classifier>,
    /// A command asked for a picture of the next frame, which must come before this time.
    pub(super) picture_deadline: Option<Instant>,
}

impl Camera {
    /// `folder` outlives restarts.
    pub(super) fn new(settings: CameraSettings, folder: Option<&Path>) -> Self {
        Self {
            watch: Watch::new(&settings, folder),
            conditions: Conditions::default(),
            still: StillScene::default(),
            settings,
            next_seq: 0,
            dropped: 0,
            damaged: 0,
            named_files: BTreeSet::new(),
            debouncer: Debouncer::default(),
            policy: PublishPolicy::default(),
            published: None,
            answer: None,
            told: None,
            recent_frames: 0,
            is_off: false,
            classifier: None,
            picture_deadline: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Counts the frames that were lost before this one.
    pub(super) fn count_lost(&mut self, frame: &CameraFrame) {
        self.dropped += frame.dropped;
        self.damaged += frame.damaged;
    }

    /// For how many nanoseconds an embedding may be reused; `None` if each frame must be embedded.
    pub(super) fn keep_ns(&self) -> Option<u64> {
        let seconds = self.settings.reuse_s;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 3600 s"
        )]
        let keep = (seconds * 1e9) as u64;
        (keep > 0 && !self.conditions.is_collecting()).then_some(keep)
    }

    /// Takes new settings, and keeps its memory.
    fn configured(self, settings: &CameraSettings, folder: Option<&Path>) -> Self {
        let mut camera = Self {
            settings: settings.clone(),
            ..self
        };
        // Class bank and model may be others.
        camera.watch.forget_light();
        camera.still = StillScene::default();
        if !camera.watch.fits(settings, folder) {
            camera.watch = Watch::new(settings, folder);
        }
        camera
    }

    /// Undoes what commands changed, except for a picture that is still to come.
    fn reset_commands(&mut self) {
        self.classifier = None;
        let was_off = std::mem::take(&mut self.is_off);
        if was_off && self.published == Some(Published::Fault(SWITCHED_OFF.into())) {
            self.published = None;
        }
    }

    /// The camera's part of the status line; starts a new count of frames.
    pub(super) fn describe(&mut self, seconds: f64) -> String {
        let rate = std::mem::take(&mut self.recent_frames) as f64 / seconds;
        let name = &self.settings.name;
        match &self.published {
            Some(Published::Class(Some(class))) => format!("{name}: {class}, {rate:.1} frames/s"),
            Some(Published::Class(None)) => format!("{name}: unknown, {rate:.1} frames/s"),
            Some(Published::Fault(fault)) => format!("{name}: {fault}"),
            None => format!("{name}: no frame yet"),
        }
    }
}

/// The configured cameras, by their index in the configuration, and the cameras that reloads removed.
#[derive(Debug, Default)]
pub(super) struct Cameras {
    configured: Vec<Camera>,
    /// By name. A removed camera that a later reload brings back continues its `seq`: `boot_id` is still the same, and
    /// an event id that came twice would be dropped as a duplicate by receivers.
    removed: BTreeMap<String, Camera>,
}

impl Cameras {
    /// Takes the cameras of a new configuration; a camera that keeps its name keeps its memory.
    pub(super) fn configure(&mut self, settings: &[CameraSettings], folder: Option<&Path>) {
        let mut known = std::mem::take(&mut self.removed);
        for camera in self.configured.drain(..) {
            known.insert(camera.settings.name.clone(), camera);
        }
        self.configured = settings
            .iter()
            .map(|settings| match known.remove(&settings.name) {
                Some(camera) => camera.configured(settings, folder),
                None => Camera::new(settings.clone(), folder),
            })
            .collect();
        self.removed = known;
    }

    /// The index of the camera with this name, or a message that lists the names there are.
    pub(super) fn index_of(&self, name: &str) -> Result<usize, String> {
        let found = self.configured.iter().position(|c| c.name() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.configured.iter().map(Camera::name).collect();
            format!("there is no such camera; there are {}", names.join(", "))
        })
    }

    pub(super) fn indices(&self) -> std::ops::Range<usize> {
        0..self.configured.len()
    }

    pub(super) fn configured_mut(&mut self) -> impl Iterator<Item = &mut Camera> {
        self.configured.iter_mut()
    }

    /// Undoes what commands changed on every camera.
    pub(super) fn reset_commands(&mut self) {
        self.all_mut().for_each(Camera::reset_commands);
    }

    /// Makes every camera publish its state again.
    pub(super) fn forget_published(&mut self) {
        self.all_mut().for_each(|camera| camera.published = None);
    }

    /// Configured and removed.
    fn all_mut(&mut self) -> impl Iterator<Item = &mut Camera> {
        self.configured.iter_mut().chain(self.removed.values_mut())
    }
}

impl Index<usize> for Cameras {
    type Output = Camera;

    fn index(&self, index: usize) -> &Camera {
        &self.configured[index]
    }
}

impl IndexMut<usize> for Cameras {
    fn index_mut(&mut self, index: usize) -> &mut Camera {
        &mut self.configured[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str) -> CameraSettings {
        let text = format!("name = \"{name}\"\n[synthetic]\n");
        toml::from_str(&text).expect("camera")
    }

    #[test]
    fn cameras_keep_their_memory_by_name_over_reloads() {
        let mut cameras = Cameras::default();
        cameras.configure(&[settings("belt"), settings("gate")], None);
        (cameras[0].next_seq, cameras[1].next_seq) = (5, 7);
        cameras.configure(
            &[settings("gate"), settings("dock"), settings("belt")],
            None,
        );
        let seqs = |cameras: &Cameras| {
            cameras
                .configured
                .iter()
                .map(|c| c.next_seq)
                .collect::<Vec<_>>()
        };
        assert_eq!(seqs(&cameras), [7, 0, 5]);
        cameras.configure(&[settings("dock")], None);
        assert_eq!(seqs(&cameras), [0]);
        let error = cameras.index_of("belt").expect_err("it was removed");
        assert!(error.contains("there are dock"), "{error}");
        cameras.configure(&[settings("belt"), settings("dock")], None);
        assert_eq!(seqs(&cameras), [5, 0], "no event id comes twice");
        assert_eq!(cameras.index_of("dock"), Ok(1));
    }

    #[test]
    fn a_reload_undoes_commands_on_every_camera() {
        let mut cameras = Cameras::default();
        cameras.configure(&[settings("belt"), settings("gate")], None);
        for camera in cameras.configured_mut() {
            camera.is_off = true;
            camera.published = Some(Published::Fault(SWITCHED_OFF.into()));
        }
        cameras.configure(&[settings("gate")], None);
        cameras.reset_commands();
        cameras.configure(&[settings("belt")], None);
        assert!(!cameras[0].is_off && cameras[0].published.is_none());
    }
}
