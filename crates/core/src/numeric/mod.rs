//! Arithmetic that several modules share: vectors, seeded random numbers, elementary functions.
//!
//! Everything here is bit-identical on every machine, except sums of f32 whose order the compiler may choose.

mod elementary;
mod rng;
mod vector;

pub use elementary::{exp, exp2, pow, sine};
pub use rng::Rng;
pub use vector::{dot, unit, unit_mean};
