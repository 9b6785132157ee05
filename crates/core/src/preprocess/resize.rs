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
        // Rounding must not lead past the edge.
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

/// The whole image's size after resizing and before the crop.
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

/// Resizes what [`crop_box`] shows of `source` into `target`: first across into `across`, then down.
///
/// Pillow's order. It matters where bicubic overshoots, since each pass rounds to bytes; left to itself the
/// library goes down first, and saturated edges differ by up to 25/255.
pub(super) fn resize(
    resizer: &mut Resizer,
    transform: &Transform,
    source: &RgbImage,
    across: &mut RgbImage,
    target: &mut RgbImage,
) -> Result<(), DecodeError> {
    let size = transform.size;
    let area = crop_box(transform, source.width, source.height);
    let (first, rows) = rows_needed(transform, area, source.height);
    across.reshape(size, rows);
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
    convolve(resizer, transform.filter, source, whole_rows, across)
        .and_then(|()| convolve(resizer, transform.filter, across, down, target))
        .map_err(|reason| DecodeError::Resize {
            width: source.width,
            height: source.height,
            reason,
        })
}

/// The first of the source's rows that `area` depends on, and how many.
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

/// One call of the library: `area` of `source` fills `target`.
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
