//! Resizing and cropping in one antialiased convolution.

use super::{Crop, DecodeError, Filter, ResizeMode, RgbImage, Transform};
use fast_image_resize::images::{ImageRef, TypedImage};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, pixels::U8x3};

/// The part of the source image that the crop shows, in source pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CropBox {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// Which part of a `width` × `height` image ends up in the input.
///
/// As torchvision has it: the longer edge becomes `⌊resize_to · long / short⌋`, the crop starts at the half of
/// what is over, rounded half to even. Each axis keeps its own scale, since that floor makes them differ.
#[must_use]
pub fn crop_box(transform: &Transform, width: u32, height: u32) -> CropBox {
    let (w, h) = (f64::from(width), f64::from(height));
    if transform.resize == ResizeMode::Exact && transform.crop == Crop::None {
        return CropBox { left: 0.0, top: 0.0, width: w, height: h };
    }
    let (resized_w, resized_h) = resized(transform, width, height);
    let axis = |source: f64, resized: u32| {
        let scale = source / f64::from(resized);
        let start = (f64::from(resized - transform.size) / 2.0).round_ties_even();
        (start * scale, f64::from(transform.size) * scale)
    };
    let (left, box_width) = axis(w, resized_w);
    let (top, box_height) = axis(h, resized_h);
    CropBox { left, top, width: box_width, height: box_height }
}

/// The whole image's size after resizing and before the crop.
fn resized(transform: &Transform, width: u32, height: u32) -> (u32, u32) {
    let to = transform.resize_to;
    if transform.resize == ResizeMode::Exact {
        return (to, to);
    }
    let (short, long) = (width.min(height), width.max(height));
    let longer = u64::from(to) * u64::from(long) / u64::from(short);
    let longer = u32::try_from(longer).unwrap_or(u32::MAX);
    if width <= height { (to, longer) } else { (longer, to) }
}

/// Resizes what [`crop_box`] shows of `source` into `target`.
pub(super) fn resize(
    resizer: &mut Resizer,
    transform: &Transform,
    source: &RgbImage,
    target: &mut RgbImage,
) -> Result<(), DecodeError> {
    let size = transform.size;
    target.reshape(size, size);
    let area = crop_box(transform, source.width, source.height);
    let filter = match transform.filter {
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Lanczos => FilterType::Lanczos3,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(
        area.left,
        area.top,
        area.width,
        area.height,
    );
    let resized = |reason: &dyn std::fmt::Display| DecodeError::Resize {
        width: source.width,
        height: source.height,
        reason: reason.to_string(),
    };
    let from = ImageRef::new(source.width, source.height, &source.data, PixelType::U8x3).map_err(|e| resized(&e))?;
    let mut to = TypedImage::<U8x3>::from_buffer(size, size, &mut target.data).map_err(|e| resized(&e))?;
    let from = from.typed_image::<U8x3>().ok_or_else(|| resized(&"pixel type"))?;
    resizer.resize_typed(&from, &mut to, &options).map_err(|e| resized(&e))
}
