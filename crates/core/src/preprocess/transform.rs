//! The model's preprocessing parameters.

use serde::{Deserialize, Serialize};

/// How an image is resized to the input's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeMode {
    /// Resizes the shorter edge to [`Transform::resize_to`] and keeps the aspect ratio (CLIP).
    ShortestEdge,
    /// Resizes both edges and changes the aspect ratio (SigLIP).
    Exact,
}

/// The antialiasing filter of the resize, by Pillow's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Cubic convolution with a = −½ (CLIP).
    Bicubic,
    Bilinear,
    Lanczos,
}

/// The crop after the resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// The middle `size` × `size`.
    Center,
    /// No crop; only with [`ResizeMode::Exact`].
    None,
}

/// How to turn an image into the image tower's input.
///
/// ```
/// use constancy_core::preprocess::{Crop, Filter, ResizeMode, Transform};
///
/// let clip = Transform {
///     size: 224,
///     resize: ResizeMode::ShortestEdge,
///     resize_to: 224,
///     filter: Filter::Bicubic,
///     crop: Crop::Center,
///     mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
///     std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
/// };
/// assert_eq!(clip.mean_colour(), [123, 117, 104]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transform {
    /// Edge of the square input, pixels.
    pub size: u32,
    pub resize: ResizeMode,
    /// Edge that [`ResizeMode::ShortestEdge`] resizes to, pixels; at least `size`.
    pub resize_to: u32,
    pub filter: Filter,
    pub crop: Crop,
    /// Subtracted per channel (R, G, B) from values in `0..=1`.
    pub mean: [f32; 3],
    /// Divides the result, per channel.
    pub std: [f32; 3],
}

impl Transform {
    /// The 8-bit colour whose normalised values are nearest to 0.
    #[must_use]
    pub fn mean_colour(&self) -> [u8; 3] {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a byte"
        )]
        self.mean
            .map(|m| (m * 255.0).round().clamp(0.0, 255.0) as u8)
    }
}
