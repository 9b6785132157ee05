//! Resizes and crops with antialiasing, one convolution per axis.

use super::error::DecodeError;
use super::rgb::RgbImage;
use super::transform::{Crop, Filter, ResizeMode, Transform};
use fast_image_resize::images::{ImageRef, TypedImage};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, pixels::U8x3};

/// A part of the source image, in source pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CropBox {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// The part of a `width` × `height` image that becomes the input.
///
/// Follows torchvision: the longer edge becomes `⌊resize_to · long / short⌋`, and the crop starts at half of the excess,
/// rounded half to even. Because of the floor, the two axes have slightly different scales.
///
/// ```
/// use constancy_core::preprocess::{Crop, Filter, ResizeMode, Transform, crop_box};
///
/// let clip = Transform {
///     size: 224,
///     resize: ResizeMode::ShortestEdge,
///     resize_to: 224,
///     filter: Filter::Bicubic,
///     crop: Crop::Center,
///     mean: [0.5; 3],
///     std: [0.5; 3],
/// };
/// // The middle 224 × 224 pixels of 448 × 224.
/// let shown = crop_box(&clip, 448, 224);
/// assert_eq!((shown.left, shown.top), (112.0, 0.0));
/// assert_eq!((shown.width, shown.height), (224.0, 224.0));
/// ```
#[must_use]
pub fn crop_box(transform: &Transform, width: u32, height: u32) -> CropBox {
    let (w, h) = (f64::from(width), f64::from(height));
    if transform.resize == ResizeMode::Exact && transform.crop == Crop::None {
        return CropBox {
            left: 0.0,
            top: 0.0,
            width: w,
            height: h,
        };
    }
    let (resized_w, resized_h) = resized(transform, width, height);
    let axis = |source: f64, resized: u32| {
        let scale = source / f64::from(resized);
        let start = (f64::from(resized - transform.size) / 2.0).round_ties_even();
        let from = start * scale;
        // Rounding must not exceed the edge.
        (from, (f64::from(transform.size) * scale).min(source - from))
    };
    let (left, box_width) = axis(w, resized_w);
    let (top, box_height) = axis(h, resized_h);
    CropBox {
        left,
        top,
        width: box_width,
        height: box_height,
    }
}

/// The image's size after the resize and before the crop.
fn resized(transform: &Transform, width: u32, height: u32) -> (u32, u32) {
    let to = transform.resize_to;
    if transform.resize == ResizeMode::Exact {
        return (to, to);
    }
    let (short, long) = (width.min(height), width.max(height));
    let longer = u64::from(to) * u64::from(long) / u64::from(short);
    let longer = u32::try_from(longer).unwrap_or(u32::MAX);
    if width <= height {
        (to, longer)
    } else {
        (longer, to)
    }
}

/// Resizes the part of `source` inside [`crop_box`] into `target`: first horizontally into `horizontal`, then vertically.
///
/// This is Pillow's order. It matters where bicubic overshoots, since each pass rounds to bytes: the library's own order,
/// vertical first, changes saturated edges by up to 25/255.
pub(super) fn resize(
    resizer: &mut Resizer,
    transform: &Transform,
    source: &RgbImage,
    horizontal: &mut RgbImage,
    target: &mut RgbImage,
) -> Result<(), DecodeError> {
    let size = transform.size;
    let area = crop_box(transform, source.width, source.height);
    let (first, rows) = rows_needed(transform, area, source.height);
    horizontal.reshape(size, rows);
    target.reshape(size, size);
    let whole_rows = CropBox {
        top: f64::from(first),
        height: f64::from(rows),
        ..area
    };
    let down = CropBox {
        left: 0.0,
        top: area.top - f64::from(first),
        width: f64::from(size),
        height: area.height,
    };
    convolve(resizer, transform.filter, source, whole_rows, horizontal)
        .and_then(|()| convolve(resizer, transform.filter, horizontal, down, target))
        .map_err(|reason| DecodeError::Resize {
            width: source.width,
            height: source.height,
            reason,
        })
}

/// The first source row that `area` depends on, and the number of rows.
fn rows_needed(transform: &Transform, area: CropBox, height: u32) -> (u32, u32) {
    let support = match transform.filter {
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
    };
    let reach = support * (area.height / f64::from(transform.size)).max(1.0);
    let first = (area.top - reach).floor().max(0.0);
    let last = (area.top + area.height + reach)
        .ceil()
        .min(f64::from(height));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both lie in 0..=height"
    )]
    (first as u32, (last - first) as u32)
}

/// Resizes `area` of `source` to fill `target`.
fn convolve(
    resizer: &mut Resizer,
    filter: Filter,
    source: &RgbImage,
    area: CropBox,
    target: &mut RgbImage,
) -> Result<(), String> {
    let filter = match filter {
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Lanczos => FilterType::Lanczos3,
    };
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(filter))
        .crop(area.left, area.top, area.width, area.height);
    let from = ImageRef::new(source.width, source.height, &source.data, PixelType::U8x3)
        .map_err(|e| e.to_string())?;
    let from = from.typed_image::<U8x3>().ok_or("pixel type")?;
    let (width, height) = (target.width, target.height);
    let mut to = TypedImage::<U8x3>::from_buffer(width, height, &mut target.data)
        .map_err(|e| e.to_string())?;
    resizer
        .resize_typed(&from, &mut to, &options)
        .map_err(|e| e.to_string())
}
