//! The pure part of constancy: from a frame's pixels to a decision, without I/O, clocks, threads or logs.
//!
//! # Modules, in reading order
//!
//! - [`frame`]: a camera's frame as it arrives, still compressed.
//! - [`preprocess`]: decode, crop, resize and normalise a frame to the tensor `[3, H, W]` that an encoder takes.
//! - [`intervene`]: change an image on purpose in what does not make a thing what it is.
//! - [`icm`]: fit, choose, evaluate and apply invariant projections.
//! - [`classify`]: class banks, tokenizer, scores, rejection, and a state that does not flicker.
//! - [`workshop`]: a rendered camera whose causes are all known.
//! - [`tensor_file`], [`stats`], [`numeric`], [`jpeg`]: what these share.
//!
//! # Units
//!
//! Times are nanoseconds (`_ns`), milliseconds (`_ms`) or seconds (`_s`), as the name says. Scores and margins lie in
//! `0..=1`. Pixel sizes are width × height; tensors are written `[N, C, H, W]`.

pub mod classify;
pub mod frame;
pub mod icm;
pub mod intervene;
pub mod jpeg;
pub mod numeric;
pub mod preprocess;
pub mod stats;
pub mod tensor_file;
pub mod workshop;
