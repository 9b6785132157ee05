//! **constancy** recognises what a camera sees with a CLIP vision tower, stays right when light, weather or sensor
//! change, and publishes its answer over MQTT.
//!
//! # One frame, from the camera to the broker
//!
//! ```text
//! capture::Source::next ── newest wins ──> daemon::slot ──> preprocess ──> Encoder::embed
//!    (still compressed)                                                         │
//!        MQTT <── publish::MqttPublisher <── publish::Event <── classify <── Projection::apply
//! ```
//!
//! 1. A capture thread (`daemon`) gets the next [`constancy_core::frame::Frame`] from its `capture::Source`, still in
//!    the camera's own format.
//! 2. The slot keeps only the newest frame; a frame that is replaced is counted, and was never decoded.
//! 3. [`constancy_core::preprocess::Preprocessor`] decodes, resizes, crops and normalises it: `[1, 3, H, W]`, f32.
//! 4. [`constancy_engine::Encoder`] computes the embedding `[D]`.
//! 5. [`constancy_core::icm::Projection`] keeps its invariant part `[k]`, normalised; without a projection the
//!    embedding stays whole.
//! 6. [`constancy_core::classify::Classifier`] compares it with every class: cosine × logit scale, softmax, top-k, and
//!    whether the class is known at all.
//! 7. [`publish::Event`] is the result. A queue, on disk if a folder is configured, holds it until the broker has
//!    acknowledged it.
//!
//! # Modules
//!
//! The program's own modules, each of which may use the modules before it: `text`, `threads`, `clock`, `files`, [`config`],
//! `capture`, [`recognizer`], `embedding_cache`, [`publish`], `daemon`, [`cli`]. Only those that tests and benches
//! use are public. `tests/it/architecture.rs` checks the order; the crates `constancy-core`, `constancy-engine` and
//! `constancy-kernels` contain the rest.

mod capture;
pub mod cli;
mod clock;
pub mod config;
mod daemon;
mod embedding_cache;
mod files;
pub mod publish;
pub mod recognizer;
mod text;
mod threads;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use capture::fuzz as fuzz_capture;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use publish::fuzz as fuzz_publish;
