//! Commands that came over MQTT, carried out. What they change holds until the daemon is started or reloaded: the
//! configuration stays the truth.

use super::{Pipeline, Published};
use crate::config::{CommandName, Settings};
use crate::publish::{Command, MAX_PICTURE_BYTES, PublishError, Request};
use crate::recognizer::{PromptEncoder, RecognizerError};
use constancy_core::classify::{ClassBank, Steady};
use constancy_core::frame::Frame;
use constancy_core::preprocess::{View, jpeg_within};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long the next frame may take until a picture of it is given up.
const PICTURE_LIMIT: Duration = Duration::from_secs(10);
/// What the state of a camera says that is switched off.
const SWITCHED_OFF: &str = "switched off over MQTT";

/// What takes longer than until the next look.
#[derive(Default)]
pub(super) struct PendingCommands {
    /// Cameras of which a picture was asked for, and until when.
    pictures: BTreeMap<String, Instant>,
    labels: Option<Relabelling>,
}

/// Labels that a thread makes classes of.
struct Relabelling {
    camera: String,
    bank: Receiver<Result<ClassBank, RecognizerError>>,
}

impl Pipeline {
    /// Carries out what was commanded since this was last called, and answers what is done.
    pub(in super::super) fn run_commands(
        &mut self,
        settings: &Settings,
    ) -> Result<(), PublishError> {
        for Request { camera, command } in self.sink.requests() {
            let name = command.name();
            let outcome = match command {
                Command::Enabled(on) => Some(Ok(self.enable(&camera, on)?)),
                Command::Threshold(least) => Some(Ok(self.set_threshold(&camera, least))),
                Command::Labels(labels) => {
                    self.begin_labels(&camera, labels, settings).err().map(Err)
                }
                Command::Snapshot => self.begin_picture(&camera).err().map(Err),
            };
            if let Some(outcome) = outcome {
                self.tell(&camera, name, &outcome);
            }
        }
        self.end_labels();
        let now = Instant::now();
        let late: Vec<String> = self
            .pending
            .pictures
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(c, _)| c.clone())
            .collect();
        for camera in late {
            let seconds = PICTURE_LIMIT.as_secs();
            self.end_picture(
                &camera,
                &Err(format!("the camera gave no frame within {seconds} s")),
            );
        }
        Ok(())
    }

    fn tell(&self, camera: &str, command: CommandName, outcome: &Result<String, String>) {
        let (Ok(detail) | Err(detail)) = outcome;
        log::info!("command {} for camera {camera}: {detail}", command.as_str());
        self.sink.answer(camera, command, outcome);
    }

    pub(super) fn enable(&mut self, camera: &str, on: bool) -> Result<String, PublishError> {
        let memory = self.cameras.entry(camera.to_owned()).or_default();
        memory.is_off = !on;
        if !on {
            self.say_off(camera)?;
        }
        Ok(if on {
            "the camera is on"
        } else {
            "the camera is off"
        }
        .to_owned())
    }

    /// The state of a camera that is off says so, also after it was away.
    pub(super) fn say_off(&mut self, camera: &str) -> Result<(), PublishError> {
        self.fault(camera, SWITCHED_OFF)
    }

    fn set_threshold(&mut self, camera: &str, least: f32) -> String {
        let memory = self.cameras.entry(camera.to_owned()).or_default();
        let classifier = memory
            .classifier
            .take()
            .unwrap_or_else(|| self.recognizer.classifier().clone());
        memory.classifier = Some(classifier.with_threshold(least));
        format!("known from a score of {least} on")
    }

    /// Begins to make classes of labels: the text tower takes its time, and frames go on meanwhile.
    fn begin_labels(
        &mut self,
        camera: &str,
        labels: Vec<String>,
        settings: &Settings,
    ) -> Result<(), String> {
        if self.pending.labels.is_some() {
            return Err("other labels are being worked on; send it again later".into());
        }
        let (manifest, engine) = (
            self.recognizer.encoder().manifest().clone(),
            self.recognizer.engine().clone(),
        );
        manifest.text().map_err(|e| e.to_string())?;
        let prompts = settings.classes.prompts.clone();
        let (sender, bank) = sync_channel(1);
        let make = move || {
            let made = PromptEncoder::load(&manifest, &engine)
                .and_then(|prompt_encoder| prompt_encoder.bank(&labels, &prompts));
            // Nobody waits any more when the daemon was reloaded meanwhile.
            let _ = sender.send(made);
        };
        let thread = thread::Builder::new().name("labels".into()).spawn(make);
        thread.map_err(|e| format!("the system refuses a thread: {e}"))?;
        self.pending.labels = Some(Relabelling {
            camera: camera.to_owned(),
            bank,
        });
        Ok(())
    }

    /// Takes new classes if they are ready.
    fn end_labels(&mut self) {
        let Some(Relabelling { camera, bank }) = &self.pending.labels else {
            return;
        };
        let outcome = match bank.try_recv() {
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => Err("the text tower failed unexpectedly".to_owned()),
            Ok(Err(e)) => Err(e.to_string()),
            Ok(Ok(bank)) => {
                let detail = format!("the answer is one of {}", bank.labels.join(", "));
                let memory = self.cameras.entry(camera.clone()).or_default();
                let classifier = memory
                    .classifier
                    .as_ref()
                    .unwrap_or_else(|| self.recognizer.classifier());
                memory.classifier =
                    Some(classifier.with_bank(bank, &self.recognizer.projection_digest));
                memory.steady = Steady::default();
                Ok(detail)
            }
        };
        let camera = camera.clone();
        self.pending.labels = None;
        self.tell(&camera, CommandName::Labels, &outcome);
    }

    fn begin_picture(&mut self, camera: &str) -> Result<(), String> {
        if self.cameras.get(camera).is_some_and(|m| m.is_off) {
            return Err("the camera is switched off".into());
        }
        self.pending
            .pictures
            .insert(camera.to_owned(), Instant::now() + PICTURE_LIMIT);
        Ok(())
    }

    /// Publishes what is to be seen of a frame, if that was asked for.
    pub(super) fn picture_if_asked(&mut self, camera: &str, frame: &Frame, view: &View) {
        if !self.pending.pictures.contains_key(camera) {
            return;
        }
        let outcome = match self.recognizer.picture(frame, view) {
            Err(e) => Err(format!("the frame cannot be decoded: {e}")),
            Ok(image) => match jpeg_within(image, MAX_PICTURE_BYTES) {
                None => Err(format!(
                    "{}×{} pixels do not fit into a message; lower the camera's resolution",
                    image.width, image.height
                )),
                Some(jpeg) => {
                    let detail = format!(
                        "{}×{} pixels, {} bytes",
                        image.width,
                        image.height,
                        jpeg.len()
                    );
                    self.sink.picture(camera, jpeg);
                    Ok(detail)
                }
            },
        };
        self.end_picture(camera, &outcome);
    }

    /// Answers for a picture that was asked for.
    pub(super) fn end_picture(&mut self, camera: &str, outcome: &Result<String, String>) {
        if self.pending.pictures.remove(camera).is_some() {
            self.tell(camera, CommandName::Snapshot, outcome);
        }
    }

    /// A new configuration is in force: what was commanded before holds no more.
    pub(in super::super) fn forget_commands(&mut self) {
        if let Some(Relabelling { camera, .. }) = self.pending.labels.take() {
            self.tell(
                &camera,
                CommandName::Labels,
                &Err("a new configuration came into force meanwhile".into()),
            );
        }
        for memory in self.cameras.values_mut() {
            memory.classifier = None;
            if std::mem::take(&mut memory.is_off)
                && memory.published == Some(Published::Fault(SWITCHED_OFF.into()))
            {
                memory.published = None;
            }
        }
    }
}
