//! Decodes JPEGs, from whatever source, after their repair.

use super::error::DecodeError;
use super::limits::{MAX_SIDE_PX, TooLarge, check_memory, check_size};
use super::raw::raw;
use super::rgb::RgbImage;
use crate::frame::{ColorEncoding, Frame, PixelFormat, Timestamp};
use crate::jpeg::{JpegError, Plane, Repaired, repair};
use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

/// Decodes the picture of a buffer or file, as it is stored; returns how to turn it.
///
/// Where a buffer begins twice, the first picture that is whole is taken.
pub(super) fn decode(data: &[u8], rgb: &mut RgbImage) -> Result<Orientation, DecodeError> {
    let mut first = None;
    for picture in repair(data) {
        let decoded = picture
            .map_err(DecodeError::from)
            .and_then(|picture| decode_one(&picture, data.len(), rgb));
        match decoded {
            Err(e) => _ = first.get_or_insert(e),
            whole => return whole,
        }
    }
    Err(first.unwrap_or(DecodeError::Truncated { bytes: data.len() }))
}

/// Fails if the picture's size or the memory for decoding it exceed the limits.
pub(super) fn check_limits(picture: &Repaired<'_>) -> Result<(), TooLarge> {
    let (width, height) = picture.size();
    check_size(width, height)?;
    let pixels = u64::from(width) * u64::from(height);
    let bytes = pixels * 3 + picture.work_bytes();
    check_memory(picture.kind(), (width, height), bytes)
}

fn decode_one(
    picture: &Repaired<'_>,
    bytes: usize,
    rgb: &mut RgbImage,
) -> Result<Orientation, DecodeError> {
    check_limits(picture)?;
    let corrupt = |e: DecodeErrors| {
        if picture.has_end() {
            let reason = format!("its image data ends early or is damaged ({e})");
            DecodeError::Jpeg { reason }
        } else {
            DecodeError::Truncated { bytes }
        }
    };
    if let Some(planes) = picture.planes() {
        convert_planes(&planes?, corrupt, rgb)?;
    } else {
        let (width, height) = picture.size();
        rgb.reshape(width, height);
        let whole = &picture.rebuild()?;
        decompress(whole, ColorSpace::RGB, &mut rgb.data).map_err(corrupt)?;
    }
    let orientation = picture.exif().and_then(Orientation::from_exif_chunk);
    Ok(orientation.unwrap_or(Orientation::NoTransforms))
}

/// Decodes the components one by one and converts them like a planar frame. The decoder takes only pictures whose components
/// come together.
fn convert_planes(
    planes: &[Plane; 3],
    corrupt: impl Fn(DecodeErrors) -> DecodeError,
    rgb: &mut RgbImage,
) -> Result<(), DecodeError> {
    let [luma, chroma, red] = planes;
    let (width, height) = (luma.width, luma.height);
    let halves = (width.div_ceil(2), height.div_ceil(2));
    let format = match (chroma.width, chroma.height) {
        _ if (chroma.width, chroma.height) != (red.width, red.height) => None,
        (w, h) if (w, h) == (width, height) => Some(PixelFormat::I444),
        (w, h) if (w, h) == (halves.0, height) => Some(PixelFormat::I422),
        (w, h) if (w, h) == halves => Some(PixelFormat::I420),
        _ => None,
    };
    let format = format.ok_or(JpegError::Kind("unusually subsampled scan-by-scan JPEG"))?;
    let mut data = Vec::new();
    for plane in planes {
        let start = data.len();
        data.resize(start + plane.width as usize * plane.height as usize, 0);
        decompress(&plane.jpeg, ColorSpace::Luma, &mut data[start..]).map_err(&corrupt)?;
    }
    let unknown = Timestamp {
        monotonic_ns: 0,
        unix_ns: 0,
        clock_synced: false,
    };
    let frame = Frame {
        width,
        height,
        stride_bytes: width as usize,
        // JFIF's.
        color: ColorEncoding {
            full_range: true,
            bt709: false,
        },
        ..Frame::compressed(format, data, unknown)
    };
    raw(&frame, rgb)
}

fn decompress(jpeg: &[u8], colors: ColorSpace, out: &mut [u8]) -> Result<(), DecodeErrors> {
    // Strict: else the decoder fills the rest of a picture that ends early, and says nothing.
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(colors)
        .set_max_width(MAX_SIDE_PX as usize)
        .set_max_height(MAX_SIDE_PX as usize)
        .set_strict_mode(true);
    JpegDecoder::new_with_options(ZCursor::new(jpeg), options).decode_into(out)
}
