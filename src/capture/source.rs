//! The interface of a source.

use super::arrived::Instead;
use super::error::CaptureError;
use super::sensor::Sensor;
use constancy_core::frame::Frame;
use std::time::Duration;

/// What a source delivered within the time limit.
#[derive(Debug)]
pub(crate) enum Next {
    Frame(Frame),
    /// An incomplete frame, which is skipped and counted.
    Damaged,
    /// No frame yet.
    Nothing,
    /// The source has ended.
    End,
}

/// A source of frames.
pub(crate) trait Source {
    /// Waits for the next frame, up to about `timeout`.
    fn next(&mut self, timeout: Duration) -> Result<Next, CaptureError>;

    /// The number of frames that were captured but lost since the last call.
    fn lost(&mut self) -> u64 {
        0
    }

    /// Whether silence is a fault, as with a camera.
    fn is_live(&self) -> bool {
        true
    }

    /// Whether every frame must be processed: capture then waits where it would drop a camera's frame.
    fn waits_for_reader(&self) -> bool {
        false
    }

    /// What came since the last frame, for the fault of a source that is silent.
    fn came_instead(&self) -> Option<Instead> {
        None
    }

    /// The controls of its sensor; `None` if there are none that this program can reach.
    fn sensor(&self) -> Result<Option<Box<dyn Sensor>>, CaptureError> {
        Ok(None)
    }

    /// The opened source, for the log.
    fn describe(&self) -> String;
}
