//! How well one camera sees: the drift of its light, and its health. Keeps the reference picture on disk.

use super::super::reference_file::{self, Known};
use crate::config::CameraSettings;
use crate::publish::{CameraReference, Drift, Sight, rfc3339};
use crate::recognizer::Recognition;
use constancy_core::camera_health::{Glance, HealthMonitor, ImageStatistics, ReferenceOrigin};
use constancy_core::classify::{Classifier, DriftMeter, Light};
use constancy_core::frame::Timestamp;
use constancy_core::preprocess::View;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often it is looked whether the reference's file is still there.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// One camera's drift and health.
#[derive(Debug)]
pub(super) struct Watch {
    camera: String,
    view: View,
    /// The folder that outlives restarts.
    folder: Option<PathBuf>,
    health: HealthMonitor,
    reference: Option<CameraReference>,
    /// When the reference's file was last seen; `None` if it is not on disk.
    file_seen: Option<Instant>,
    /// Writes the file: frames do not wait for a slow disk.
    writer: Option<JoinHandle<bool>>,
    meter: DriftMeter,
    light: Light,
    image: Option<ImageStatistics>,
}

impl Watch {
    /// Takes the camera's reference from `folder`, or learns it.
    pub(super) fn new(camera: &CameraSettings, folder: Option<&Path>) -> Self {
        let mut watch = Self {
            camera: camera.name.clone(),
            view: camera.view.clone(),
            folder: folder.map(Path::to_owned),
            health: HealthMonitor::new(None),
            reference: None,
            file_seen: None,
            writer: None,
            meter: DriftMeter::default(),
            light: Light::default(),
            image: None,
        };
        let known = folder.and_then(|f| reference_file::load(f, &watch.camera, &watch.view));
        if let Some(Known { reference, learnt }) = known {
            watch.reference = Some(CameraReference {
                ts: learnt,
                background: reference.has_background(),
            });
            watch.health = HealthMonitor::new(Some(reference));
            watch.file_seen = Some(Instant::now());
        }
        watch
    }

    /// Whether this is the watch of a camera with these settings.
    pub(super) fn fits(&self, camera: &CameraSettings, folder: Option<&Path>) -> bool {
        self.camera == camera.name && self.view == camera.view && self.folder.as_deref() == folder
    }

    /// Measures drift anew: another class bank has other directions.
    pub(super) fn forget_light(&mut self) {
        self.meter = DriftMeter::default();
        self.light = Light::default();
    }

    /// Learns a new reference.
    pub(super) fn renew(&mut self) {
        self.writer = None;
        self.health = HealthMonitor::new(None);
        self.reference = None;
        self.file_seen = None;
    }

    /// Learns a new reference if somebody has removed the file of the present one.
    pub(super) fn notice_removal(&mut self) {
        let Some(folder) = &self.folder else { return };
        if let Some(writer) = self.writer.take_if(|w| w.is_finished()) {
            self.file_seen = writer
                .join()
                .is_ok_and(|written| written)
                .then(Instant::now);
        }
        if self.file_seen.is_none_or(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        if reference_file::is_gone(folder, &self.camera) {
            log::info!(
                "camera {}: its reference picture was removed; a new one is being learnt",
                self.camera
            );
            self.renew();
        } else {
            self.file_seen = Some(Instant::now());
        }
    }

    /// Takes a recognised frame.
    pub(super) fn update(
        &mut self,
        recognition: &Recognition,
        classifier: &Classifier,
        captured_at: Timestamp,
    ) {
        self.image = Some(recognition.glance.statistics);
        let fresh = recognition.reused_ns.is_none();
        if let Some(distance) = recognition.decision.drift.filter(|_| fresh) {
            self.meter.update(distance, captured_at.monotonic_ns);
        }
        if let Some((level, limits)) = self.meter.level().zip(classifier.light_limits()) {
            self.light = self.light.next(level, &limits);
        }
        self.update_health(&recognition.glance, captured_at);
    }

    fn update_health(&mut self, glance: &Glance, captured_at: Timestamp) {
        let before = self.health.health();
        let learnt = self.health.update(glance, captured_at.monotonic_ns);
        let health = self.health.health();
        if learnt {
            self.keep_reference(rfc3339(captured_at.unix_ns));
        } else if health != before {
            let name = &self.camera;
            if health.is_fault() {
                log::warn!("camera {name}: {health}");
            } else {
                log::info!("camera {name}: {health}");
            }
        }
    }

    fn keep_reference(&mut self, learnt: String) {
        let Some(reference) = self.health.reference() else {
            return;
        };
        let background = reference.has_background();
        let note = if background {
            ""
        } else {
            "; nothing in it always stays in its place, so a moved camera cannot be told"
        };
        log::info!(
            "camera {}: its reference picture is learnt from {} frames{note}",
            self.camera,
            reference.frames
        );
        if let Some(folder) = &self.folder {
            let origin = ReferenceOrigin {
                camera: self.camera.clone(),
                view: reference_file::view_text(&self.view),
                learnt: learnt.clone(),
            };
            let (folder, reference) = (folder.clone(), reference.clone());
            let write = move || reference_file::save(&folder, &reference, &origin);
            let writer = thread::Builder::new().name("reference".into()).spawn(write);
            self.writer = writer.ok();
        }
        self.reference = Some(CameraReference {
            ts: learnt,
            background,
        });
    }

    /// The light beside that of the calibration; `None` if drift is not measured.
    pub(super) fn light(&self, classifier: &Classifier) -> Option<Light> {
        let measured = self.meter.level().zip(classifier.light_limits());
        measured.map(|_| self.light)
    }

    /// What events and states say.
    pub(super) fn sight(&self, classifier: &Classifier) -> Sight {
        let drift = self.meter.level().and_then(|level| {
            let quantile = classifier.drift_quantile(level)?;
            Some(Drift {
                level: rounded(level),
                quantile: rounded(quantile),
            })
        });
        Sight {
            light: drift.map(|_| self.light),
            drift,
            camera_health: Some(self.health.health()),
            image: self.image.map(rounded_statistics),
        }
    }

    pub(super) fn reference(&self) -> Option<&CameraReference> {
        self.reference.as_ref()
    }
}

/// Rounded to four digits after the point: more are noise.
fn rounded(value: f32) -> f32 {
    (value * 1e4).round() / 1e4
}

fn rounded_statistics(image: ImageStatistics) -> ImageStatistics {
    ImageStatistics {
        brightness: rounded(image.brightness),
        clipped: rounded(image.clipped),
        colour: image.colour.map(rounded),
        sharpness: image.sharpness.map(rounded),
        noise: rounded(image.noise),
    }
}
