//! Carries out commands that came over MQTT. What they change holds until the next reload or restart: the configuration
//! remains authoritative.

use super::super::slot::CameraFrame;
use super::camera::SWITCHED_OFF;
use super::relabelling::Relabelling;
use super::{Pipeline, classifier_of};
use crate::config::{CameraSettings, CommandName};
use crate::publish::{CalibrateCommand, Command, PublishError, Request};
use constancy_core::classify::{ClassBank, Debouncer};
use constancy_core::preprocess::jpeg_within;
use std::time::{Duration, Instant};

/// How long the next frame may take before a requested picture is given up.
const PICTURE_LIMIT: Duration = Duration::from_secs(10);

/// What was done, or why it was not.
type Outcome = Result<String, String>;

impl Pipeline {
    /// Carries out the commands that came since the last call, and answers those that are done. `prompts` are the
    /// configured templates, which new labels are put into.
    pub(in super::super) fn run_commands(
        &mut self,
        prompts: &[String],
    ) -> Result<(), PublishError> {
        for Request { camera, command } in self.sink.requests() {
            match self.cameras.index_of(&camera) {
                Ok(index) => self.run_command(index, command, prompts)?,
                Err(reason) => self.answer(&camera, command.name(), &Err(reason)),
            }
        }
        self.finish_labels();
        self.expire_pictures();
        self.finish_calibrations();
        Ok(())
    }

    /// Carries out a command and answers it, unless it takes longer.
    pub(super) fn run_command(
        &mut self,
        camera: usize,
        command: Command,
        prompts: &[String],
    ) -> Result<(), PublishError> {
        let name = command.name();
        let outcome = match command {
            Command::Enabled(on) => Some(Ok(self.enable(camera, on)?)),
            Command::Threshold(threshold) => Some(Ok(self.set_threshold(camera, threshold))),
            Command::Labels(labels) => self.start_labels(camera, labels, prompts).err().map(Err),
            Command::Snapshot => self.request_picture(camera).err().map(Err),
            Command::Reference => Some(Ok(self.renew_reference(camera))),
            Command::Calibrate(command) => self.calibrate(camera, command),
        };
        if let Some(outcome) = outcome {
            self.answer(self.cameras[camera].name(), name, &outcome);
        }
        Ok(())
    }

    fn answer(&self, camera: &str, command: CommandName, outcome: &Outcome) {
        let (Ok(detail) | Err(detail)) = outcome;
        log::info!("command {} for camera {camera}: {detail}", command.as_str());
        self.sink.command_result(camera, command, outcome);
    }

    fn enable(&mut self, camera: usize, on: bool) -> Result<String, PublishError> {
        self.cameras[camera].is_off = !on;
        if on {
            return Ok("the camera is on".to_owned());
        }
        self.fault(camera, SWITCHED_OFF)?;
        Ok("the camera is off".to_owned())
    }

    fn set_threshold(&mut self, camera: usize, threshold: f32) -> String {
        let camera = &mut self.cameras[camera];
        let classifier = camera
            .classifier
            .take()
            .unwrap_or_else(|| self.recognizer.classifier().clone());
        let measure = if classifier.has_confidence() {
            "confidence"
        } else {
            "score"
        };
        let classifier = classifier.with_class_thresholds(Vec::new());
        camera.classifier = Some(classifier.with_threshold(threshold));
        format!("known from a {measure} of {threshold} on")
    }

    fn start_labels(
        &mut self,
        camera: usize,
        labels: Vec<String>,
        prompts: &[String],
    ) -> Result<(), String> {
        if self.relabelling.is_some() {
            return Err("other labels are being worked on; send it again later".into());
        }
        let (manifest, engine) = (
            self.recognizer.encoder().manifest(),
            self.recognizer.engine(),
        );
        self.relabelling = Some(Relabelling::start(
            camera,
            labels,
            prompts.to_vec(),
            manifest.clone(),
            engine.clone(),
        )?);
        Ok(())
    }

    /// Installs new classes once they are ready.
    fn finish_labels(&mut self) {
        let Some((camera, made)) = self.relabelling.as_ref().and_then(Relabelling::result) else {
            return;
        };
        self.relabelling = None;
        let outcome = made.map(|bank| self.install_bank(camera, bank));
        let name = self.cameras[camera].name();
        self.answer(name, CommandName::Labels, &outcome);
    }

    fn install_bank(&mut self, camera: usize, bank: ClassBank) -> String {
        let detail = format!("the answer is one of {}", bank.labels.join(", "));
        let camera = &mut self.cameras[camera];
        let classifier = camera
            .classifier
            .as_ref()
            .unwrap_or_else(|| self.recognizer.classifier());
        camera.classifier = Some(classifier.with_bank(bank, &self.recognizer.projection_digest));
        camera.debouncer = Debouncer::default();
        camera.watch.forget_light();
        camera.conditions.forget_light();
        detail
    }

    /// Begins a calibration, or changes what there is.
    fn calibrate(&mut self, camera: usize, command: CalibrateCommand) -> Option<Outcome> {
        let camera = &mut self.cameras[camera];
        let classifier = classifier_of(camera.classifier.as_ref(), &self.recognizer);
        match command {
            CalibrateCommand::Frames(_) if camera.is_off => {
                Some(Err("the camera is switched off".into()))
            }
            CalibrateCommand::Frames(frames) => {
                camera.conditions.collect(frames, classifier).err().map(Err)
            }
            CalibrateCommand::Undo => camera.conditions.undo(classifier),
            CalibrateCommand::List => Some(Ok(camera.conditions.list())),
        }
    }

    pub(super) fn answer_calibrate(&self, camera: usize, outcome: &Outcome) {
        self.answer(self.cameras[camera].name(), CommandName::Calibrate, outcome);
    }

    fn finish_calibrations(&mut self) {
        for index in self.cameras.indices() {
            if let Some(outcome) = self.cameras[index].conditions.finished() {
                self.answer_calibrate(index, &outcome);
            }
        }
    }

    fn renew_reference(&mut self, camera: usize) -> String {
        self.cameras[camera].watch.renew();
        "a new reference picture is learnt from the frames of the next minute".into()
    }

    /// Learns new references for cameras whose reference files somebody has removed.
    pub(in super::super) fn notice_removed_references(&mut self) {
        let cameras = self.cameras.configured_mut();
        cameras.for_each(|camera| camera.watch.notice_removal());
    }

    fn request_picture(&mut self, camera: usize) -> Result<(), String> {
        let camera = &mut self.cameras[camera];
        if camera.is_off {
            return Err("the camera is switched off".into());
        }
        camera.picture_deadline = Some(Instant::now() + PICTURE_LIMIT);
        Ok(())
    }

    /// Publishes the visible part of the frame as a JPEG if a command asked for it.
    pub(super) fn send_picture_if_requested(&mut self, frame: &CameraFrame) {
        let camera = &self.cameras[frame.camera];
        if camera.picture_deadline.is_none() {
            return;
        }
        let image = self.recognizer.picture(&frame.frame, &camera.settings.view);
        let outcome = match image {
            Err(e) => Err(format!("the frame cannot be shown: {e}")),
            Ok(image) => {
                let size = format!("{}×{} pixels", image.width, image.height);
                match jpeg_within(image, self.sink.max_picture_bytes()) {
                    None => Err(format!(
                        "{size} do not fit into a message; lower the camera's resolution"
                    )),
                    Some(jpeg) => {
                        let detail = format!("{size}, {} bytes", jpeg.len());
                        self.sink.picture(camera.name(), jpeg);
                        Ok(detail)
                    }
                }
            }
        };
        self.answer_picture(frame.camera, &outcome);
    }

    /// Answers for a requested picture; does nothing if none was requested.
    pub(super) fn answer_picture(&mut self, camera: usize, outcome: &Outcome) {
        if self.cameras[camera].picture_deadline.take().is_some() {
            self.answer(self.cameras[camera].name(), CommandName::Snapshot, outcome);
        }
    }

    fn expire_pictures(&mut self) {
        let now = Instant::now();
        for index in self.cameras.indices() {
            let deadline = self.cameras[index].picture_deadline;
            if deadline.is_some_and(|deadline| deadline <= now) {
                let seconds = PICTURE_LIMIT.as_secs();
                let reason = format!("the camera gave no frame within {seconds} s");
                self.answer_picture(index, &Err(reason));
            }
        }
    }

    /// Undoes earlier commands, since a new configuration with these cameras comes into force. A requested picture is
    /// still sent if its camera stays.
    pub(in super::super) fn cancel_commands(&mut self, cameras: &[CameraSettings]) {
        let reason = || Err("a new configuration came into force meanwhile".to_owned());
        if let Some(relabelling) = self.relabelling.take() {
            let name = self.cameras[relabelling.camera].name();
            self.answer(name, CommandName::Labels, &reason());
        }
        for index in self.cameras.indices() {
            if self.cameras[index].conditions.cancel() {
                self.answer_calibrate(index, &reason());
            }
            let name = self.cameras[index].name();
            if cameras.iter().all(|camera| camera.name != name) {
                self.answer_picture(index, &reason());
            }
        }
        self.cameras.reset_commands();
    }
}
