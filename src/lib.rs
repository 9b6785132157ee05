//! **constancy** looks through a camera, recognises what it sees with a CLIP vision tower, keeps being right
//! when light, weather or sensor change, and publishes its answer over MQTT.
//!
//! # One frame, from the camera to the broker
//!
//! ```text
//! capture::Source::next ── newest wins ──> daemon::slot ──> preprocess ──> engine::Encoder::embed
//!    (still compressed)                                                            │
//!        MQTT <── publish::MqttPublisher <── publish::Event <── classify <── icm::Projection::apply
//! ```
//!
//! 1. A camera thread ([`daemon`]) asks its [`capture::Source`] for the next [`frame::Frame`]. The frame
//!    stays as the camera sent it.
//! 2. The slot keeps only the newest; a frame that is replaced is counted and was never decoded.
//! 3. [`preprocess::Preprocessor`] decodes, resizes, crops and normalises: `[1, 3, H, W]`, f32.
//! 4. [`engine::Encoder`] turns that into an embedding `[D]`.
//! 5. [`icm::Projection`] keeps the invariant part `[k]` and normalises it; without one the embedding stays whole.
//! 6. [`classify::Classifier`] compares with every class: cosine × logit scale, softmax, top-k, and whether it is
//!    known at all.
//! 7. [`publish::Event`] is the answer; a queue, on disk where there is a folder for it, holds it until the broker has
//!    acknowledged it.
//!
//! # Modules, in reading order
//!
//! [`frame`] · [`preprocess`] · [`icm`] · [`classify`] · [`engine`] · [`bundle`] · [`gather`] · [`capture`] ·
//! [`publish`] · [`config`] · [`daemon`] · [`cli`]. `frame`, `preprocess`, `icm`, `classify`, `tensor_file`, `stats` and
//! [`workshop`] are pure: no files, clocks, threads or logs. V4L2, rumqttc and tract appear only in the module named for
//! them. A test holds these rules.
//!
//! # Units
//!
//! Times are nanoseconds (`_ns`), milliseconds (`_ms`) or seconds (`_s`), as the name says. Scores and
//! margins lie in `0..=1`. Pixel sizes are width × height; tensors are written `[N, C, H, W]`.

pub mod bundle;
pub mod capture;
pub mod classify;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod frame;
pub mod gather;
pub mod icm;
pub mod preprocess;
pub mod publish;
pub mod stats;
pub mod tensor_file;
mod threads;
pub mod workshop;
