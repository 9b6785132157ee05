//! Where frames come from: a V4L2 camera, a child process, files, or a renderer.
//!
//! A source only fetches. What to do when one fails, stalls or ends is decided in one place,
//! [`crate::daemon`]'s camera thread, which opens it again.

mod mjpeg;
mod pace;
mod pipe;
mod replay;
mod synthetic;
pub(crate) mod v4l;

use crate::config::{CameraSettings, SourceSettings};
use constancy_core::frame::Frame;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

pub(crate) use replay::list_images;

/// Why a source gives no frames.
#[derive(Debug, Error)]
pub enum CaptureError {
    #[error("{device} cannot be opened: {source}; {hint}")]
    Open {
        device: PathBuf,
        source: std::io::Error,
        hint: &'static str,
    },
    #[error("{device} is no camera: {reason}; `constancy camera list` shows those there are")]
    NotACamera {
        device: PathBuf,
        reason: &'static str,
    },
    #[error("{device} is busy: another program uses it")]
    Busy { device: PathBuf },
    #[error("{device}: {action} failed: {source}")]
    Device {
        device: PathBuf,
        action: &'static str,
        source: std::io::Error,
    },
    #[error("{device} offers no format that can be read (it has {available}); wanted {wanted}")]
    Format {
        device: PathBuf,
        available: String,
        wanted: String,
    },
    #[error("{device}: control `{control}` {problem}")]
    Control {
        device: PathBuf,
        control: String,
        problem: String,
    },
    #[error("`{program}` cannot be started: {source}; is it installed?")]
    Spawn {
        program: String,
        source: std::io::Error,
    },
    #[error("`{program}` ended ({status}){last_words}")]
    Ended {
        program: String,
        status: String,
        last_words: String,
    },
    #[error("`{program}` sends no yuv4mpeg that can be read: {reason}")]
    Y4m { program: String, reason: String },
    #[error("{path} cannot be read: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} holds no JPEG, PNG or WebP image")]
    Empty { path: PathBuf },
    #[error("no frame for {seconds:.1} s")]
    Stalled { seconds: f64 },
    #[error("the same picture, bit for bit, for {seconds:.0} s")]
    Frozen { seconds: f64 },
}

/// What a source had within the time it was given.
#[derive(Debug)]
pub(crate) enum Next {
    Frame(Frame),
    /// Data came that was no whole frame; it is skipped and counted.
    Damaged,
    /// Nothing yet.
    Nothing,
    /// There will be nothing more.
    End,
}

/// Something that gives frames.
pub(crate) trait Source {
    /// Waits for the next frame, about `wait` at most.
    fn next(&mut self, wait: Duration) -> Result<Next, CaptureError>;

    /// Frames that were taken and never came here, since this was last asked.
    fn lost(&mut self) -> u64 {
        0
    }

    /// Whether silence is a fault, as it is of a camera.
    fn is_live(&self) -> bool {
        true
    }

    /// Whether every frame is to be looked at, so that capture waits where a camera would drop.
    fn waits_for_reader(&self) -> bool {
        false
    }

    /// What was opened, for the log.
    fn describe(&self) -> String;
}

/// Opens the source that a camera's settings name.
pub(crate) fn open(settings: &CameraSettings) -> Result<Box<dyn Source>, CaptureError> {
    let stall = Duration::from_secs_f64(settings.stall_s);
    Ok(match &settings.source {
        SourceSettings::V4l(v4l) => Box::new(v4l::V4lSource::open(v4l, stall)?),
        SourceSettings::Pipe(pipe) => Box::new(pipe::PipeSource::open(pipe)?),
        SourceSettings::Replay(replay) => Box::new(replay::ReplaySource::open(replay)?),
        SourceSettings::Synthetic(synthetic) => {
            Box::new(synthetic::SyntheticSource::open(synthetic))
        }
    })
}
