//! What is wrong with a camera.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What is wrong with a camera, if anything.
///
/// ```
/// use constancy_core::camera_health::CameraHealth;
///
/// assert_eq!(CameraHealth::OutOfFocus.to_string(), "out of focus");
/// assert!(CameraHealth::Moved.is_fault());
/// // At night there is nothing to see, and nothing to mend.
/// assert!(!CameraHealth::Dark.is_fault());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraHealth {
    /// Nothing is known to be wrong.
    Good,
    /// There is no reference picture yet to compare with.
    Learning,
    /// There is no light, or something black covers the camera: a picture cannot tell.
    Dark,
    /// The picture shows none of the detail that it should.
    Covered,
    /// Most of the picture is white.
    Blinded,
    /// One of red, green and blue shows nothing.
    #[serde(rename = "colour lost")]
    ColourLost,
    /// What was always there is not in its place.
    Moved,
    /// Fine detail is lost all over the picture.
    #[serde(rename = "out of focus")]
    OutOfFocus,
    /// Detail is lost in patches without an outline.
    Dirty,
}

impl CameraHealth {
    /// Whether somebody has to look after the camera.
    #[must_use]
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::Good | Self::Learning | Self::Dark)
    }

    /// As in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Learning => "learning",
            Self::Dark => "dark",
            Self::Covered => "covered",
            Self::Blinded => "blinded",
            Self::ColourLost => "colour lost",
            Self::Moved => "moved",
            Self::OutOfFocus => "out of focus",
            Self::Dirty => "dirty",
        }
    }
}

impl fmt::Display for CameraHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
