//! What one camera knows of other lights than that of the calibration: its condition profiles, which of them is used, and
//! a calibration that is under way.

use super::super::profile_files::{self, MAX_PROFILES, describe, make_profile};
use crate::config::Adapt;
use crate::publish::Proposal;
use constancy_core::classify::condition::{Binding, Chooser, Profile, Refusal, RunningOffset};
use constancy_core::classify::{Classifier, Light};
use constancy_core::numeric::unit;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What was done, or why it was not.
type Outcome = Result<String, String>;

/// The frames that a proposal rests on.
const RECENT: usize = 40;
/// Drift must last so long before a calibration is proposed, and a proposal is renewed as often.
const PROPOSE_AFTER: Duration = Duration::from_secs(30);
/// How long a calibration waits for the next frame.
const FRAME_LIMIT: Duration = Duration::from_secs(60);
/// The name of the offset that follows the light.
const AUTO: &str = "auto";

/// Frames that a command asked to calibrate on.
#[derive(Debug)]
struct Collecting {
    wanted: usize,
    frames: Vec<Vec<f32>>,
    last: Instant,
}

/// One camera's lights.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    camera: String,
    adapt: Adapt,
    /// The folder that outlives restarts.
    folder: Option<PathBuf>,
    /// What profiles must belong to; `None` before the first configuration.
    binding: Option<Binding>,
    /// The newest last.
    profiles: Vec<Profile>,
    /// Where each light lies, the calibration's first; empty if that cannot be measured.
    places: Vec<Vec<f32>>,
    chooser: Chooser,
    running: Option<RunningOffset>,
    /// What the running offset is at present.
    following: Vec<f32>,
    recent: VecDeque<Vec<f32>>,
    collecting: Option<Collecting>,
    /// Changes the files: frames do not wait for a slow disk.
    work: Option<JoinHandle<Outcome>>,
    /// Since when the light is another, by `CLOCK_MONOTONIC` of its frames.
    other_since_ns: Option<u64>,
    proposal: Option<Proposal>,
}

impl Conditions {
    /// Takes a new configuration. Profiles that do not belong to it are dropped by name.
    pub(super) fn configure(
        &mut self,
        binding: Binding,
        folder: Option<&Path>,
        adapt: Adapt,
        classifier: &Classifier,
    ) {
        self.camera.clone_from(&binding.camera);
        self.adapt = adapt;
        self.forget_light();
        let used = self.profile().map(|p| p.id.clone());
        if let (Some(folder), Some(reference)) = (folder, classifier.reference()) {
            let (profiles, refused) = profile_files::load(folder, &binding, reference.mean.len());
            for reason in refused {
                log::warn!("camera {}: {reason}", self.camera);
            }
            // A file may still be on its way to the disk.
            if self.work.is_none() || self.binding.as_ref() != Some(&binding) {
                self.profiles = profiles;
            }
        } else if self.binding.as_ref() != Some(&binding) || classifier.reference().is_none() {
            for profile in self.profiles.drain(..) {
                log::warn!(
                    "camera {}: condition profile {} belongs to another model, projection or class bank, and is dropped",
                    self.camera,
                    profile.id
                );
            }
        }
        self.folder = folder.map(Path::to_owned);
        self.binding = Some(binding);
        self.running = (adapt == Adapt::Auto)
            .then(|| classifier.reference().map(RunningOffset::new))
            .flatten();
        self.following.clear();
        self.place_profiles(classifier);
        let still = used.and_then(|id| self.profiles.iter().position(|p| p.id == id));
        self.chooser = still
            .and_then(|i| Some(Chooser::at(i + 1, self.places.get(i + 1)?)))
            .unwrap_or_default();
        if !self.profiles.is_empty() {
            log::info!(
                "camera {}: {} known lights",
                self.camera,
                self.profiles.len()
            );
        }
    }

    fn place_profiles(&mut self, classifier: &Classifier) {
        self.places.clear();
        if let Some((center, _)) = classifier.calibration_place() {
            self.places.push(center.to_vec());
            self.places
                .extend(self.profiles.iter().map(|p| p.place.clone()));
        }
    }

    /// Measures anew: other classes, or another configuration.
    pub(super) fn forget_light(&mut self) {
        self.recent.clear();
        self.other_since_ns = None;
        self.proposal = None;
    }

    fn profile(&self) -> Option<&Profile> {
        self.profiles.get(self.chooser.present().checked_sub(1)?)
    }

    /// The name and the vector of the offset that is used for answers of `classifier`, which must know its light.
    pub(super) fn applied(&self, classifier: &Classifier) -> Option<(&str, &[f32])> {
        classifier.reference()?;
        if let Some(profile) = self.profile() {
            return Some((&profile.id, &profile.offset.vector));
        }
        (!self.following.is_empty()).then_some((AUTO, &self.following))
    }

    pub(super) fn proposal(&self) -> Option<&Proposal> {
        self.proposal.as_ref()
    }

    /// Takes the embedding of a frame captured at `captured_ns`, in a light like that. Returns the answer to a calibration
    /// that has come to its end.
    pub(super) fn update(
        &mut self,
        embedding: &[f32],
        classifier: &Classifier,
        captured_ns: u64,
        light: Option<Light>,
    ) -> Option<Outcome> {
        let reference = classifier.reference()?;
        if embedding.len() != reference.mean.len() || embedding.iter().any(|v| !v.is_finite()) {
            return None;
        }
        self.choose(embedding, classifier);
        if let Some(running) = &mut self.running {
            running.push(reference, &unit(embedding));
            self.following = running.offset(reference);
        }
        self.recent.push_back(embedding.to_vec());
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.propose(classifier, captured_ns, light);
        let collecting = self.collecting.as_mut()?;
        collecting.frames.push(embedding.to_vec());
        collecting.last = Instant::now();
        if collecting.frames.len() < collecting.wanted {
            return None;
        }
        let frames = self.collecting.take()?.frames;
        self.calibrate(&frames, classifier)
    }

    fn choose(&mut self, embedding: &[f32], classifier: &Classifier) {
        if self.profiles.is_empty() || self.places.len() != self.profiles.len() + 1 {
            return;
        }
        let (Some(place), Some((_, weights))) = (
            classifier.variant_place(embedding),
            classifier.calibration_place(),
        ) else {
            return;
        };
        let before = self.chooser.present();
        if self.chooser.update(&place, &self.places, weights) != before {
            let now = self.profile().map_or("that of the calibration", |p| &p.id);
            log::info!("camera {}: the light is {now} again", self.camera);
        }
    }

    /// Says what a calibration would change when the light has been another for a while, and no profile fits it.
    fn propose(&mut self, classifier: &Classifier, captured_ns: u64, light: Option<Light>) {
        let other = light.is_some_and(|l| l != Light::AsCalibrated) && self.profile().is_none();
        if self.adapt != Adapt::Propose || !other {
            self.other_since_ns = None;
            self.proposal = None;
            return;
        }
        let since = *self.other_since_ns.get_or_insert(captured_ns);
        let lasted = Duration::from_nanos(captured_ns.saturating_sub(since));
        if lasted < PROPOSE_AFTER || self.recent.len() < RECENT {
            return;
        }
        self.other_since_ns = Some(captured_ns);
        let frames: Vec<Vec<f32>> = self.recent.iter().cloned().collect();
        let offset = classifier.estimate(&frames);
        let shown = offset
            .as_ref()
            .ok()
            .map(|offset| classifier.compare(&frames, None, Some(&offset.vector)));
        let first = self.proposal.is_none();
        self.proposal = Some(Proposal::new(frames.len(), &offset, shown.as_ref()));
        if first {
            log::info!(
                "camera {}: the light has been another for a while; {}",
                self.camera,
                self.proposal
                    .as_ref()
                    .map_or_else(String::new, |p| p.detail.clone())
            );
        }
    }

    /// Begins to collect frames.
    pub(super) fn collect(&mut self, frames: usize, classifier: &Classifier) -> Result<(), String> {
        self.check_idle()?;
        if classifier.reference().is_none() {
            return Err(Refusal::NoReference.to_string());
        }
        self.collecting = Some(Collecting {
            wanted: frames,
            frames: Vec::with_capacity(frames),
            last: Instant::now(),
        });
        Ok(())
    }

    /// Whether frames are being collected for a calibration.
    pub(super) fn is_collecting(&self) -> bool {
        self.collecting.is_some()
    }

    fn check_idle(&self) -> Result<(), String> {
        if self.collecting.is_some() || self.work.is_some() {
            return Err("a calibration of this camera is under way; send it again later".into());
        }
        Ok(())
    }

    /// Makes a profile, and uses it. `None` while its file is being written.
    fn calibrate(&mut self, frames: &[Vec<f32>], classifier: &Classifier) -> Option<Outcome> {
        let binding = self.binding.clone()?;
        let before = self.applied(classifier).map(|(_, offset)| offset.to_vec());
        let ids = self.profiles.iter().map(|p| p.id.as_str());
        let id = profile_files::next_id(ids);
        let made = make_profile(id, frames, before.as_deref(), classifier);
        let profile = match made {
            Ok(profile) => profile,
            Err(refusal) => return Some(Err(refusal.to_string())),
        };
        let detail = describe(&profile);
        self.profiles.push(profile.clone());
        let too_many = self.profiles.len().saturating_sub(MAX_PROFILES);
        let gone: Vec<Profile> = self.profiles.drain(..too_many).collect();
        self.place_profiles(classifier);
        self.chooser = Chooser::at(self.profiles.len(), &profile.place);
        self.forget_light();
        let Some(folder) = self.folder.clone() else {
            return Some(Ok(format!(
                "{detail}; there is no `queue.folder`, so it is forgotten at a restart"
            )));
        };
        let camera = self.camera.clone();
        self.start_work(move || {
            for old in gone {
                let _ = profile_files::remove(&folder, &camera, &old.id);
            }
            Ok(match profile_files::save(&folder, &profile, &binding) {
                Ok(()) => detail,
                Err(reason) => format!("{detail}; it is forgotten at a restart: {reason}"),
            })
        })
    }

    /// Forgets the newest profile. `None` while its file is being removed.
    pub(super) fn undo(&mut self, classifier: &Classifier) -> Option<Outcome> {
        if let Err(reason) = self.check_idle() {
            return Some(Err(reason));
        }
        let Some(profile) = self.profiles.pop() else {
            return Some(Err("there is no condition profile to undo".into()));
        };
        self.place_profiles(classifier);
        self.chooser = Chooser::default();
        self.forget_light();
        let detail = format!(
            "condition profile {} is removed; {} left",
            profile.id,
            self.profiles.len()
        );
        let Some(folder) = self.folder.clone() else {
            return Some(Ok(detail));
        };
        let camera = self.camera.clone();
        self.start_work(
            move || match profile_files::remove(&folder, &camera, &profile.id) {
                Ok(()) => Ok(detail),
                Err(e) => Err(format!(
                    "condition profile {} is not used any more, but returns at a restart: {e}",
                    profile.id
                )),
            },
        )
    }

    /// The profiles, one a line, the newest last.
    pub(super) fn list(&self) -> String {
        if self.profiles.is_empty() {
            return "no condition profile".into();
        }
        let used = self.chooser.present();
        let line = |(i, p): (usize, &Profile)| {
            let mark = if i + 1 == used { "; in use" } else { "" };
            format!("{}, {}{mark}", describe(p), p.created)
        };
        let lines: Vec<String> = self.profiles.iter().enumerate().map(line).collect();
        lines.join("\n")
    }

    fn start_work(&mut self, work: impl FnOnce() -> Outcome + Send + 'static) -> Option<Outcome> {
        match thread::Builder::new().name("conditions".into()).spawn(work) {
            Ok(work) => {
                self.work = Some(work);
                None
            }
            Err(e) => Some(Err(format!(
                "it is in use, but forgotten at a restart: the system refuses a thread: {e}"
            ))),
        }
    }

    /// The answer to a command that has come to its end, or that waited too long for a frame.
    pub(super) fn finished(&mut self) -> Option<Outcome> {
        if let Some(work) = self.work.take_if(|w| w.is_finished()) {
            let failed = |_| Err("its thread failed unexpectedly".to_owned());
            return Some(work.join().unwrap_or_else(failed));
        }
        let late = |c: &mut Collecting| c.last.elapsed() > FRAME_LIMIT;
        let waited = self.collecting.take_if(late)?;
        let seconds = FRAME_LIMIT.as_secs();
        Some(Err(format!(
            "the camera gave {} of {} frames, and none for {seconds} s",
            waited.frames.len(),
            waited.wanted
        )))
    }

    /// Gives up a calibration that is under way; returns whether there was one.
    pub(super) fn cancel(&mut self) -> bool {
        self.collecting.take().is_some()
    }
}

#[cfg(test)]
mod tests;
