//! Decodes picture files by what they contain, whatever their names say, and turns them upright.

use super::error::DecodeError;
use super::jpeg_picture;
use super::limits::{MAX_BYTES, check_memory, check_size};
use super::rgb::RgbImage;
use crate::jpeg::find_start;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Bytes at the beginning of a JPEG file that may be something else.
const MAX_PREAMBLE: usize = 64;

/// What a decoder keeps per pixel beside its result: WebP's planes, predictors and canvas; TIFF's second copy, up to 16-bit
/// RGBA.
const WEBP_WORK_BYTES: u64 = 4;

pub(super) fn decode(data: &[u8], rgb: &mut RgbImage) -> Result<(), DecodeError> {
    if let Some(error) = foreign(data) {
        return Err(error);
    }
    let reader = ImageReader::new(Cursor::new(data))
        .with_guessed_format()
        .map_err(unreadable)?;
    let format = reader.format();
    if format.is_none_or(|format| format == ImageFormat::Jpeg) && begins_as_jpeg(data) {
        let orientation = jpeg_picture::decode(data, rgb)?;
        return turn_jpeg(orientation, rgb);
    }
    // The buffer of the picture before: no two pictures' memory at once.
    *rgb = RgbImage::default();
    let (decoded, orientation) = decode_other(reader, format)?;
    let mut decoded = DynamicImage::ImageRgb8(decoded.into_rgb8());
    decoded.apply_orientation(orientation);
    take(decoded, rgb);
    Ok(())
}

fn unreadable(reason: impl std::fmt::Display) -> DecodeError {
    DecodeError::Image {
        reason: reason.to_string(),
    }
}

fn begins_as_jpeg(data: &[u8]) -> bool {
    data.starts_with(&[0xff, 0xd8]) || find_start(&data[..data.len().min(MAX_PREAMBLE)]).is_some()
}

fn turn_jpeg(orientation: Orientation, rgb: &mut RgbImage) -> Result<(), DecodeError> {
    if orientation == Orientation::NoTransforms {
        return Ok(());
    }
    let (width, height) = (rgb.width, rgb.height);
    let bytes = u64::from(width) * u64::from(height) * 6;
    check_memory("turned JPEG", (width, height), bytes)?;
    let pixels = std::mem::take(&mut rgb.data);
    let image = image::RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| unreadable("its header and its pixels disagree"))?;
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    take(image, rgb);
    Ok(())
}

fn take(image: DynamicImage, rgb: &mut RgbImage) {
    let image = image.into_rgb8();
    (rgb.width, rgb.height) = image.dimensions();
    rgb.data = image.into_raw();
}

fn decode_other(
    mut reader: ImageReader<Cursor<&[u8]>>,
    format: Option<ImageFormat>,
) -> Result<(DynamicImage, Orientation), DecodeError> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let color = decoder.color_type();
    let orientation = decoder.orientation().map_err(unreadable)?;
    let own = u64::from(color.bytes_per_pixel());
    let (kind, work) = match format {
        Some(ImageFormat::Png) => ("PNG", 0),
        Some(ImageFormat::WebP) => ("WebP picture", WEBP_WORK_BYTES),
        // A second copy, and CMYK as it is stored.
        Some(ImageFormat::Tiff) => ("TIFF picture", own + own / 3),
        _ => ("BMP", 0),
    };
    let converted = if color == ColorType::Rgb8 { 0 } else { 3 };
    let turned = if orientation == Orientation::NoTransforms {
        0
    } else {
        6
    };
    let per_pixel = (own + work.max(converted)).max(turned);
    let pixels = u64::from(width) * u64::from(height);
    check_memory(kind, (width, height), pixels * per_pixel)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    Ok((decoded, orientation))
}

/// Names pictures of formats that are not read, and what they can be converted to.
fn foreign(data: &[u8]) -> Option<DecodeError> {
    const FORMATS: [(usize, &[u8], &str); 16] = [
        (0, b"GIF8", "GIF"),
        (4, b"ftypavif", "AVIF"),
        (4, b"ftypavis", "AVIF"),
        (4, b"ftyphei", "HEIC"),
        (4, b"ftyphev", "HEIC"),
        (4, b"ftypmif1", "HEIC"),
        (4, b"ftypmsf1", "HEIC"),
        (0, b"\xff\x0a", "JPEG XL"),
        (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
        (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
        (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
        (0, b"II\xbc\x01", "JPEG XR"),
        (0, b"8BPS", "Photoshop"),
        (0, b"qoif", "QOI"),
        (0, b"\x76\x2f\x31\x01", "OpenEXR"),
        (0, b"%PDF", "PDF"),
    ];
    let is = |(at, magic, _): &(usize, &[u8], &str)| {
        data.get(*at..).is_some_and(|rest| rest.starts_with(magic))
    };
    let (.., kind) = FORMATS.iter().find(|format| is(format))?;
    Some(DecodeError::Kind {
        kind,
        way_out: "convert it to JPEG or PNG",
    })
}
