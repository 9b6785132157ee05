//! How probable it is that an answer is right, as a class bank carries it and the daemon applies it.
//!
//! The score of a class is a softmax over the classes that there are. It says nothing of images unlike all of them, and
//! too much of images in a light that was never seen. [`Confidence`] says how often answers like this one were right on
//! calibration images, clean ones and ones changed by interventions.
//!
//! - [`Evidence`]: eight numbers of one answer. [`Geometry`] gives those of its place among calibration images.
//! - [`ConfidenceModel`]: from evidence to a probability.
//! - [`Outcome`]: what calibration answered, kept in the bank, so that a [`Target`] gives its thresholds and
//!   [`OpenSet`] its rate wherever the bank is.
//! - [`Reason`]: why an answer is not called known.
//!
//! Fitting all this is left to [`super::calibrate`].

mod evidence;
mod geometry;
mod judge;
mod model;
mod next_class;
mod open_set;
mod outcome;
mod reason;
mod share;
mod storage;
mod threshold;

pub use evidence::{Evidence, Feature, Place};
pub use geometry::{Drift, Geometry, LowRank, MAX_DRIFT_RANK, MAX_RANK, Tails};
pub(super) use judge::{Judge, Locator, Verdict};
pub use model::{ChangedLight, ConfidenceModel, Sum, Term};
pub(super) use model::{blend, sigmoid};
pub use open_set::OpenSet;
pub use outcome::{Outcome, balanced_weights};
pub use reason::Reason;
pub use share::{Share, upper_bound};
pub use storage::{Basis, Confidence};
pub(super) use storage::{Stored, read};
pub use threshold::{Cost, DEFAULT_TARGET_LEVEL, Resolved, Target, Threshold};

/// Rounds a number that is kept or compared as f32.
#[expect(
    clippy::cast_possible_truncation,
    reason = "files and decisions are in f32"
)]
pub(super) fn narrow(value: f64) -> f32 {
    value as f32
}
