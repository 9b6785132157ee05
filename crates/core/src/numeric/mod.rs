//! Arithmetic that several modules share: vectors, seeded random numbers, elementary functions.
//!
//! Results are bit-identical on every machine: only IEEE 754's `+ - * /` and square roots compute them, in a fixed order.

mod elementary;
mod rng;
mod vector;

pub use elementary::{exp, exp2, pow, sine};
pub use rng::Rng;
pub use vector::{dot, unit, unit_mean};
