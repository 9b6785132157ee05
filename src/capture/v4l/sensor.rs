//! A V4L2 camera's controls, beside its stream: controls need no stream, and are not the stream's.

use super::super::error::CaptureError;
use super::super::sensor::{Sensor, SensorControl, Setting};
use super::controls::ControlDescription;
use super::device::Camera;
use std::path::Path;

/// The controls of an open camera.
pub(crate) struct V4lSensor(Camera);

impl V4lSensor {
    pub(crate) fn open(path: &Path) -> Result<Self, CaptureError> {
        Ok(Self(Camera::open(path)?))
    }
}

impl Sensor for V4lSensor {
    fn identity(&self) -> String {
        self.0.path.display().to_string()
    }

    fn controls(&self) -> Result<Vec<SensorControl>, CaptureError> {
        let all = self.0.controls()?.into_iter();
        Ok(all
            .filter(ControlDescription::is_settable)
            .map(|control| SensorControl {
                id: control.id,
                name: control.name,
                minimum: control.minimum,
                maximum: control.maximum,
                step: i64::try_from(control.step).unwrap_or(i64::MAX).max(1),
            })
            .collect())
    }

    fn value(&self, control: &Setting) -> Result<i64, CaptureError> {
        self.0.named_value(control.id, &control.name)
    }

    fn set(&mut self, control: &Setting, value: i64) -> Result<i64, CaptureError> {
        self.0.put(control.id, &control.name, value)
    }
}
