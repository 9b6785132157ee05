//! The pure part of constancy: from a frame's pixels to a decision, without I/O, clocks, threads or logs.
//!
//! # Modules, in reading order
//!
//! - [`frame`]: a camera's frame as it arrives, still compressed.
//! - [`preprocess`]: decodes, crops, resizes and normalises a frame to an encoder's input tensor `[1, 3, H, W]`.
//! - [`intervene`]: changes an image in ways that leave its class unchanged.
//! - [`icm`]: fits, selects, evaluates and applies invariant projections.
//! - [`classify`]: class banks, tokenizer, scores, rejection, and a state that does not flicker.
//! - [`camera_health`]: whether a camera still sees what it should.
//! - [`still`]: whether a picture stays the same, so that its embedding may be reused.
//! - [`workshop`]: a rendered camera whose causes are all known.
//! - [`reliability`]: whether a confidence is true, and how well a score ranks answers.
//! - [`tensor_file`], [`foreign_file`], [`stats`], [`numeric`], [`jpeg`]: shared by the others.
//!
//! # Units
//!
//! Times are nanoseconds (`_ns`), milliseconds (`_ms`) or seconds (`_s`), as the name says. Scores and margins lie in
//! `0..=1`. Image sizes are width × height in pixels; tensor shapes are written `[N, C, H, W]`.

pub mod camera_health;
pub mod classify;
pub mod foreign_file;
pub mod frame;
pub mod icm;
pub mod intervene;
pub mod jpeg;
pub mod numeric;
pub mod preprocess;
pub mod reliability;
pub mod stats;
pub mod still;
pub mod tensor_file;
pub mod workshop;
