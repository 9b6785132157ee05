//! **constancy** looks through a camera, recognises what it sees with a CLIP vision tower, keeps being right when light,
//! weather or sensor change, and publishes its answer over MQTT.
//!
//! # One frame, from the camera to the broker
//!
//! ```text
//! capture::Source::next ── newest wins ──> daemon::slot ──> preprocess ──> Encoder::embed
//!    (still compressed)                                                         │
//!        MQTT <── publish::MqttPublisher <── publish::Event <── classify <── Projection::apply
//! ```
//!
//! 1. A camera thread (`daemon`) asks its `capture::Source` for the next [`constancy_core::frame::Frame`]. The frame
//!    stays as the camera sent it.
//! 2. The slot keeps only the newest frame; a frame that is replaced is counted and was never decoded.
//! 3. [`constancy_core::preprocess::Preprocessor`] decodes, resizes, crops and normalises: `[1, 3, H, W]`, f32.
//! 4. [`constancy_engine::Encoder`] turns that into an embedding `[D]`.
//! 5. [`constancy_core::icm::Projection`] keeps the invariant part `[k]` and normalises it; without a projection the
//!    embedding stays whole.
//! 6. [`constancy_core::classify::Classifier`] compares it with every class: cosine × logit scale, softmax, top-k, and
//!    whether it is known at all.
//! 7. [`publish::Event`] is the answer; a queue, on disk where there is a folder for it, holds it until the broker has
//!    acknowledged it.
//!
//! # Modules
//!
//! The program's own modules, each of which may use those before it: `clock`, `threads`, [`config`], [`recognizer`],
//! `capture`, `embedding_cache`, [`publish`], `daemon`, [`cli`]. They are private but for what tests and benches reach.
//! `tests/it/architecture.rs` holds that order; the crates `constancy-core`, `constancy-engine` and `constancy-kernels`
//! hold the rest.

mod capture;
pub mod cli;
mod clock;
pub mod config;
mod daemon;
mod embedding_cache;
pub mod publish;
pub mod recognizer;
mod threads;
