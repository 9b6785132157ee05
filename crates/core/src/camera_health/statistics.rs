//! Statistics of a picture that people can read.

use serde::Serialize;

/// Statistics of one picture, without what a view hides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ImageStatistics {
    /// Mean luma, `0..=1`.
    pub brightness: f32,
    /// The share of pixels with a channel at its upper limit, `0..=1`.
    pub clipped: f32,
    /// The shares of red, green and blue in the mean; ⅓ each is grey.
    pub colour: [f32; 3],
    /// How much of the differences between pixels 1/40 of the picture apart is already between pixels 1/160 apart, as a
    /// ratio of root mean squares. About 0.25 in a blurred picture, 1 in a crisp one; `None` if noise or darkness hide it.
    pub sharpness: Option<f32>,
    /// The standard deviation of noise, in levels of 255. Fine texture counts in part.
    pub noise: f32,
}
