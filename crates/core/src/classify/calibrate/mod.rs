//! Calibration: what a bank's [`Confidence`](super::Confidence) is fitted from.
//!
//! [`Calibration::run`] takes embeddings of images, as they are and changed by interventions, and answers each with a
//! classifier that was made without it ([`Fold`]). From right and wrong answers it fits the [`temperature()`], then the
//! regression ([`regress`]), measures how far images lie from each other, and leaves out each class in turn.

mod answers;
mod column;
mod condition;
mod folds;
mod geometry;
mod input;
mod light;
mod mix;
mod open_set;
mod regression;
mod run;
mod streams;
mod temperature;

pub use column::Case;
pub use folds::Fold;
pub use input::{Calibration, CalibrationError, CalibrationImage, Truth};
pub use regression::{Regression, regress, regress_at};
pub use temperature::{Labelled, temperature};
