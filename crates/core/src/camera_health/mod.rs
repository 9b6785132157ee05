//! Whether a camera still sees what it should: covered, blinded, moved, out of focus, dirty, a colour lost.
//!
//! Light is no fault: night falls, lamps are switched on. So what is compared with the camera's [`Reference`] is structure,
//! by the logarithms of luma, which light only shifts. Things pass before a camera: so what counts is what stays, over some
//! seconds. Where nothing ever stays, a move cannot be told, and the reference says so.
//!
//! - [`Glance`]: what is measured of one picture, [`ImageStatistics`] among it.
//! - [`Reference`]: what the camera usually shows, learnt from its first minute.
//! - [`HealthMonitor`]: from glances to a [`CameraHealth`] that does not flicker.

mod background;
mod dirt;
mod glance;
mod health;
mod latch;
mod monitor;
mod reference;
mod reference_file;
mod statistics;
#[cfg(test)]
mod tests;

pub use glance::Glance;
pub use health::CameraHealth;
pub use monitor::HealthMonitor;
pub use reference::Reference;
pub use reference_file::{ReferenceError, ReferenceOrigin};
pub use statistics::ImageStatistics;
