//! A camera's picture as it is saved: region and masks applied, as PNG.

use super::super::CliError;
use crate::recognizer::FrameError;
use constancy_core::frame::Frame;
use constancy_core::preprocess::{RgbImage, View, ViewMasker};
use std::io::Cursor;
use std::path::Path;

/// Fills masked areas of a saved frame. The daemon fills them with the model's mean, which is also a grey.
const MASK_COLOUR: [u8; 3] = [128; 3];

/// A picture as a PNG file; `output` names it in an error.
pub(super) fn png(rgb: &RgbImage, output: &Path) -> Result<Vec<u8>, CliError> {
    let mut png = Cursor::new(Vec::new());
    image::write_buffer_with_format(
        &mut png,
        &rgb.data,
        rgb.width,
        rgb.height,
        image::ColorType::Rgb8,
        image::ImageFormat::Png,
    )
    .map_err(|e| CliError::Write {
        path: output.into(),
        source: std::io::Error::other(e),
    })?;
    Ok(png.into_inner())
}

/// The visible part of a frame.
pub(super) fn visible(frame: &Frame, view: &View) -> Result<RgbImage, CliError> {
    let mut rgb = RgbImage::default();
    ViewMasker::new(MASK_COLOUR)
        .decode(frame, view, &mut rgb)
        .map_err(FrameError::Decode)?;
    Ok(rgb)
}
