//! From an embedding to a class with a score, or to "unknown".
//!
//! - [`ClassBank`]: class embeddings, from example images or from prompts ([`class_embeddings`]).
//! - [`Classifier`]: cosines or a [`Probe`]'s logits, softmax, top-k, and rejection by threshold and [`Support`].
//! - [`Debouncer`]: turns the decisions of single frames into a state that does not flicker.

mod bank;
mod classifier;
mod debounce;
mod label;
mod probe;
mod space;
mod support;
mod text;

pub use bank::{BankError, BankOrigin, BankWhitening, ClassBank, class_means};
pub use classifier::{Classifier, DEFAULT_THRESHOLD, DEFAULT_TOP_K, Decision, Scored};
pub use debounce::{DebounceRules, Debouncer};
pub use label::{MAX_LABEL_CHARS, check_label};
pub use probe::{Probe, ProbeError};
pub use space::Space;
pub use support::Support;
pub use text::{AddedTokens, TextError, Tokenizer, check_templates, class_embeddings};
