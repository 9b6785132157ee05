//! `[light]`: what is done when the light is another than that of the calibration.

use serde::Deserialize;

/// `[light]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LightSettings {
    pub adapt: Adapt,
}

/// `light.adapt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adapt {
    /// Nothing.
    Off,
    /// When drift stays high, the state says what a calibration would change.
    #[default]
    Propose,
    /// An offset follows the light, within the few directions that light moves most.
    Auto,
}
