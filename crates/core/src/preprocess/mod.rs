//! From a camera's frame to the image tower's input, exactly as the model was trained with.
//!
//! A wrong filter or a crop off by a pixel costs accuracy without a word, so the steps follow CLIP's own
//! transform (torchvision's `Resize` and `CenterCrop` on a Pillow image): golden tensors made by
//! Pillow hold them to it. Resizing and cropping are one step: only the pixels inside the crop are computed.

mod decode;
mod encode;
mod resize;
mod view;

pub use decode::{DecodeError, RgbImage, decode, is_whole_jpeg};
pub use encode::jpeg_within;
pub use resize::{CropBox, crop_box};
pub use view::{Area, View, Viewer};

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

impl Transform {
    /// The colour that normalising turns into the value nearest to 0.
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

/// Decodes, resizes, crops and normalises; keeps its buffers from frame to frame.
pub struct Preprocessor {
    transform: Transform,
    /// Normalised value of every byte, per channel.
    tables: [[f32; 256]; 3],
    resizer: fast_image_resize::Resizer,
    viewer: Viewer,
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
        let viewer = Viewer::new(transform.mean_colour());
        Self {
            transform,
            tables,
            resizer: fast_image_resize::Resizer::new(),
            viewer,
            decoded: RgbImage::default(),
            across: RgbImage::default(),
            cropped: RgbImage::default(),
        }
    }

    /// The image tower's input, `[1, 3, size, size]` in row-major order.
    pub fn tensor(&mut self, frame: &Frame) -> Result<Vec<f32>, DecodeError> {
        self.tensor_of(frame, &View::WHOLE)
    }

    /// The same of a part of the frame.
    pub fn tensor_of(&mut self, frame: &Frame, view: &View) -> Result<Vec<f32>, DecodeError> {
        self.crop_of(frame, view)?;
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
        self.crop_of(frame, &View::WHOLE)
    }

    /// What of the frame is looked at, in the camera's own resolution.
    pub fn picture(&mut self, frame: &Frame, view: &View) -> Result<&RgbImage, DecodeError> {
        self.viewer.see(frame, view, &mut self.decoded)?;
        Ok(&self.decoded)
    }

    fn crop_of(&mut self, frame: &Frame, view: &View) -> Result<&RgbImage, DecodeError> {
        self.picture(frame, view)?;
        let Self {
            resizer,
            transform,
            decoded,
            across,
            cropped,
            ..
        } = self;
        resize::resize(resizer, transform, decoded, across, cropped)?;
        Ok(cropped)
    }
}
