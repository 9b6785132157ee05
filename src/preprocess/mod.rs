//! From a camera's frame to the image tower's input, exactly as the model was trained with.
//!
//! A wrong filter or a crop off by a pixel costs accuracy without a word, so the steps follow CLIP's own
//! transform (torchvision's `Resize` and `CenterCrop` on a Pillow image): golden tensors made by
//! Pillow hold them to it. Resizing and cropping are one step: only the pixels inside the crop are computed.

mod decode;
mod resize;

pub use decode::{DecodeError, RgbImage, decode};
pub use resize::{CropBox, crop_box};

use crate::frame::Frame;
use serde::{Deserialize, Serialize};

/// How an image is brought to the input's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeMode {
    /// The shorter edge becomes `size`, the aspect ratio stays (CLIP).
    ShortestEdge,
    /// Both edges become `size`, the aspect ratio changes (SigLIP).
    Exact,
}

/// The antialiased filter that resizing uses, by Pillow's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Cubic convolution with a = −½ (CLIP).
    Bicubic,
    Bilinear,
    Lanczos,
}

/// What is cut out after resizing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// The middle `size` × `size`.
    Center,
    /// Nothing; only with [`ResizeMode::Exact`].
    None,
}

/// What the image tower expects at its input.
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
    /// Divided by, per channel.
    pub std: [f32; 3],
}

/// Decodes, resizes, crops and normalises; keeps its buffers from frame to frame.
pub struct Preprocessor {
    transform: Transform,
    /// Normalised value of every byte, per channel.
    tables: [[f32; 256]; 3],
    resizer: fast_image_resize::Resizer,
    decoded: RgbImage,
    across: RgbImage,
    cropped: RgbImage,
}

impl Preprocessor {
    #[must_use]
    pub fn new(transform: Transform) -> Self {
        let table = |c: usize| {
            std::array::from_fn(|value| {
                #[expect(clippy::cast_precision_loss, reason = "a byte fits an f32 exactly")]
                let unit = value as f32 / 255.0;
                (unit - transform.mean[c]) / transform.std[c]
            })
        };
        let tables = [table(0), table(1), table(2)];
        Self {
            transform,
            tables,
            resizer: fast_image_resize::Resizer::new(),
            decoded: RgbImage::default(),
            across: RgbImage::default(),
            cropped: RgbImage::default(),
        }
    }

    /// The image tower's input, `[1, 3, size, size]` in row-major order.
    pub fn tensor(&mut self, frame: &Frame) -> Result<Vec<f32>, DecodeError> {
        self.crop(frame)?;
        Ok(self.normalise(&self.cropped))
    }

    /// The image tower's input of what [`Self::crop`] gave, or of what was made of it.
    #[must_use]
    pub fn normalise(&self, cropped: &RgbImage) -> Vec<f32> {
        let mut tensor = Vec::with_capacity(cropped.data.len());
        for (channel, table) in self.tables.iter().enumerate() {
            let bytes = cropped.data.iter().skip(channel).step_by(3);
            tensor.extend(bytes.map(|&byte| table[usize::from(byte)]));
        }
        tensor
    }

    /// What the tower will look at, as 8-bit RGB of `size` × `size` pixels.
    pub fn crop(&mut self, frame: &Frame) -> Result<&RgbImage, DecodeError> {
        decode(frame, &mut self.decoded)?;
        let Self { resizer, transform, decoded, across, cropped, .. } = self;
        resize::resize(resizer, transform, decoded, across, cropped)?;
        Ok(cropped)
    }
}
