//! The sources of frames: a V4L2 camera, a child process, image files, or a renderer.
//!
//! A source only delivers frames. The daemon's capture thread alone decides what happens when a source fails, stalls or
//! ends.

mod arrived;
mod error;
#[cfg(fuzzing)]
pub mod fuzz;
mod mjpeg;
mod pace;
mod pipe;
mod printable;
mod replay;
mod sensor;
mod sniff;
mod source;
mod synthetic;
mod synthetic_controls;
pub(crate) mod v4l;
mod yuv4mpeg;

use crate::config::{CameraSettings, SourceSettings};
use std::time::Duration;

pub(crate) use error::CaptureError;
pub(crate) use pipe::run_guard;
pub(crate) use sensor::{Effect, Sensor, SensorControl, Setting, restore};
pub(crate) use source::{Next, Source};

/// Opens the source that a camera's settings name.
pub(crate) fn open(settings: &CameraSettings) -> Result<Box<dyn Source>, CaptureError> {
    let stall = Duration::from_secs_f64(settings.stall_s);
    Ok(match &settings.source {
        SourceSettings::V4l(v4l) => Box::new(v4l::V4lSource::open(v4l, stall)?),
        SourceSettings::Pipe(pipe) => Box::new(pipe::PipeSource::open(pipe)?),
        SourceSettings::Replay(replay) => Box::new(replay::ReplaySource::open(replay)?),
        SourceSettings::Synthetic(synthetic) => {
            Box::new(synthetic::SyntheticSource::open(synthetic)?)
        }
    })
}

/// The controls of a camera's sensor, without its frames; `None` if it has none that outlive a program.
pub(crate) fn sensor(settings: &CameraSettings) -> Result<Option<Box<dyn Sensor>>, CaptureError> {
    Ok(match &settings.source {
        SourceSettings::V4l(v4l) => Some(Box::new(v4l::V4lSensor::open(&v4l.device)?)),
        SourceSettings::Synthetic(synthetic) if synthetic.controls_file.is_some() => {
            Some(Box::new(synthetic_controls::SyntheticSensor::of(synthetic)))
        }
        _ => None,
    })
}
