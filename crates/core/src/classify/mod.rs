//! From an embedding to a class with a score, and to an honest "unknown".

mod bank;
mod classifier;
mod probe;
mod reject;
mod steady;
mod text;

pub use bank::{BankError, BankOrigin, ClassBank, class_means};
pub use classifier::{Classifier, DEFAULT_THRESHOLD, DEFAULT_TOP_K, Decision, Scored};
pub use probe::{Probe, ProbeError};
pub use reject::Support;
pub use steady::{Steadiness, Steady};
pub use text::{TextError, Tokenizer, check_templates, class_embeddings};
