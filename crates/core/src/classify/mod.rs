//! From an embedding to a class with a score, or to "unknown".
//!
//! - [`ClassBank`]: class embeddings, from example images or from prompts ([`class_embeddings`]).
//! - [`Classifier`]: cosines or a [`Probe`]'s logits, softmax, top-k, and rejection by threshold and [`Support`].
//! - [`Confidence`]: how probable it is that an answer is right, and thresholds for a [`Target`]; [`calibrate`] fits it.
//! - [`condition`]: offsets for other light than that of the calibration.
//! - [`DriftMeter`], [`Light`]: how far a camera's light is from that of the calibration, over many frames.
//! - [`Debouncer`]: turns the decisions of single frames into a state that does not flicker.

mod bank;
pub mod calibrate;
mod classifier;
pub mod condition;
mod confidence;
mod copies;
mod debounce;
mod label;
mod light;
mod probe;
mod space;
mod support;
mod text;

pub use bank::{BankError, BankOrigin, BankWhitening, ClassBank, class_means};
pub use classifier::{
    Classifier, DEFAULT_CONFIDENCE, DEFAULT_THRESHOLD, DEFAULT_TOP_K, Decision, Scored,
};
pub use confidence::{
    Basis, ChangedLight, Confidence, ConfidenceModel, Cost, DEFAULT_TARGET_LEVEL, Drift, Evidence,
    Feature, Geometry, LowRank, MAX_DRIFT_RANK, MAX_RANK, OpenSet, Outcome, Place, Reason,
    Resolved, Share, Sum, Tails, Target, Term, Threshold, balanced_weights, upper_bound,
};
pub use copies::{CopyOf, contradiction, copies};
pub use debounce::{DebounceRules, Debouncer};
pub use label::{MAX_LABEL_CHARS, check_label};
pub use light::{DriftMeter, Light, LightLimits};
pub use probe::{Probe, ProbeError};
pub use space::Space;
pub use support::Support;
pub use text::{
    AddedTokens, DEFAULT_PROMPT, TextError, Tokenizer, check_templates, class_embeddings,
};
