//! Feeds mutated input to everything that reads what others have made. `make fuzz` builds and runs it; CONTRIBUTING.md
//! describes it.
//!
//! One program with all targets, so that it is linked once. `CONSTANCY_FUZZ` names the target; the arguments are libFuzzer's.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod driver;
#[cfg(fuzzing)]
mod limit;
#[cfg(fuzzing)]
mod targets;

#[cfg(not(fuzzing))]
fn main() {}
