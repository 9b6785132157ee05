//! The person who looks after the daemon: when the light becomes one that it has never seen, they have it calibrate.

use crate::config::{CommandName, Settings};
use crate::publish::{CALIBRATE_FRAMES, CalibrateCommand, send_command};
use constancy_core::workshop::Environment;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The camera that the daemon looks at.
pub(super) const CAMERA: &str = "workshop";
/// How long a calibration may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What the daemon did, or why it could not.
type Outcome = Result<String, String>;

pub(super) struct Operator {
    settings: Settings,
    /// Frames for a calibration.
    frames: usize,
    environment: &'static str,
    calibration: Option<JoinHandle<Outcome>>,
}

impl Operator {
    pub(super) fn new(settings: Settings, frames: usize) -> Self {
        Self {
            settings,
            frames,
            environment: "",
            calibration: None,
        }
    }

    /// Takes the environment and the drift of the newest event. Returns what there is to say.
    pub(super) fn watch(&mut self, environment: &'static str, drift: Option<f32>) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(done) = self.calibration.take_if(|c| c.is_finished()) {
            said.push(match done.join() {
                Ok(Ok(detail)) => format!("-- calibrated: {detail}"),
                Ok(Err(reason)) => format!("-- not calibrated: {reason}"),
                Err(_) => "-- not calibrated: an internal error".to_owned(),
            });
        }
        if self.environment == environment {
            return said;
        }
        self.environment = environment;
        let level = drift.map_or_else(String::new, |d| format!(", drift {d:.1}"));
        said.push(format!("-- the light changes to {environment}{level}"));
        let new = Environment::named(environment).is_some_and(|e| !e.daylight_like);
        let enough = CALIBRATE_FRAMES.contains(&self.frames);
        if new && enough && self.calibration.is_none() {
            said.push(format!(
                "-- calibrating on its first {} frames",
                self.frames
            ));
            self.calibrate();
        }
        said
    }

    fn calibrate(&mut self) {
        let (settings, frames) = (self.settings.clone(), self.frames);
        self.calibration = Some(thread::spawn(move || {
            let payload = CalibrateCommand::Frames(frames).payload();
            send_command(&settings, CAMERA, CommandName::Calibrate, &payload, LIMIT)
                .unwrap_or_else(|e| Err(e.to_string()))
        }));
    }
}
