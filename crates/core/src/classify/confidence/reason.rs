//! Why an answer is not called known.

use serde::{Deserialize, Serialize};

/// Why an answer is not called known.
///
/// ```
/// use constancy_core::classify::Reason;
///
/// assert_eq!(Reason::Ambiguous.to_string(), "ambiguous");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The image is unlike everything in the bank.
    Unfamiliar,
    /// The answer is not sure enough, and the light is unlike that of the calibration.
    Drift,
    /// The answer is not sure enough: classes are too close to call.
    Ambiguous,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unfamiliar => "unfamiliar",
            Self::Drift => "drift",
            Self::Ambiguous => "ambiguous",
        })
    }
}
