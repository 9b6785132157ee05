//! Frames to tensors.

use super::error::DecodeError;
use super::resize::resize;
use super::rgb::RgbImage;
use super::transform::Transform;
use super::view::{View, ViewMasker};
use crate::frame::Frame;

/// Decodes, resizes, crops and normalises frames. Reuses its buffers from frame to frame.
///
/// ```
/// use constancy_core::frame::{Frame, Timestamp};
/// use constancy_core::preprocess::{Crop, Filter, Preprocessor, ResizeMode, Transform};
///
/// let mut preprocessor = Preprocessor::new(Transform {
///     size: 2,
///     resize: ResizeMode::ShortestEdge,
///     resize_to: 2,
///     filter: Filter::Bicubic,
///     crop: Crop::Center,
///     mean: [0.5, 0.5, 0.5],
///     std: [0.5, 0.5, 0.5],
/// });
/// let captured_at = Timestamp { monotonic_ns: 0, unix_ns: 0, clock_synced: false };
/// // 4 × 2 pixels of pure red.
/// let frame = Frame::rgb([255, 0, 0].repeat(8), 4, 2, captured_at);
/// let tensor = preprocessor.tensor(&frame)?;
/// assert_eq!(tensor, [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]);
/// # Ok::<(), constancy_core::preprocess::DecodeError>(())
/// ```
pub struct Preprocessor {
    transform: Transform,
    /// Normalised value of every byte value, per channel.
    tables: [[f32; 256]; 3],
    resizer: fast_image_resize::Resizer,
    masker: ViewMasker,
    decoded: RgbImage,
    /// The image after the horizontal pass of the resize.
    horizontal: RgbImage,
    cropped: RgbImage,
}

impl Preprocessor {
    /// A preprocessor for a model with this transform.
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
        let masker = ViewMasker::new(transform.mean_colour());
        Self {
            transform,
            tables,
            resizer: fast_image_resize::Resizer::new(),
            masker,
            decoded: RgbImage::default(),
            horizontal: RgbImage::default(),
            cropped: RgbImage::default(),
        }
    }

    /// The image tower's input, `[1, 3, size, size]` in row-major order.
    pub fn tensor(&mut self, frame: &Frame) -> Result<Vec<f32>, DecodeError> {
        self.crop(frame)?;
        Ok(self.normalise(&self.cropped))
    }

    /// The image tower's input for an image of [`Self::crop`], possibly changed since.
    #[must_use]
    pub fn normalise(&self, cropped: &RgbImage) -> Vec<f32> {
        let mut tensor = Vec::with_capacity(cropped.data.len());
        for (channel, table) in self.tables.iter().enumerate() {
            let bytes = cropped.data.iter().skip(channel).step_by(3);
            tensor.extend(bytes.map(|&byte| table[usize::from(byte)]));
        }
        tensor
    }

    /// The tower's input before normalisation, as 8-bit RGB of `size` × `size` pixels.
    pub fn crop(&mut self, frame: &Frame) -> Result<&RgbImage, DecodeError> {
        self.crop_view(frame, &View::WHOLE)
    }

    /// The part of the frame that `view` shows, in the camera's own resolution.
    pub fn decode_view(&mut self, frame: &Frame, view: &View) -> Result<&RgbImage, DecodeError> {
        self.masker.decode(frame, view, &mut self.decoded)?;
        Ok(&self.decoded)
    }

    /// The visible part of the frame that was last decoded, in the camera's own resolution.
    #[must_use]
    pub fn decoded(&self) -> &RgbImage {
        &self.decoded
    }

    /// What the image tower sees of the frame that was last prepared, before normalisation: 8-bit RGB of `size` × `size`
    /// pixels.
    #[must_use]
    pub fn cropped(&self) -> &RgbImage {
        &self.cropped
    }

    /// [`Self::crop`] for the part of the frame that `view` shows.
    pub fn crop_view(&mut self, frame: &Frame, view: &View) -> Result<&RgbImage, DecodeError> {
        self.decode_view(frame, view)?;
        let Self {
            resizer,
            transform,
            decoded,
            horizontal,
            cropped,
            ..
        } = self;
        resize(resizer, transform, decoded, horizontal, cropped)?;
        Ok(cropped)
    }
}
