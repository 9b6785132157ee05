//! Decodes every pixel format of cameras and files to 8-bit RGB.

use super::rgb::RgbImage;
use crate::frame::{ColorEncoding, Frame, PixelFormat};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use std::io::Cursor;
use thiserror::Error;
use yuv::{
    YuvBiPlanarImage, YuvError, YuvGrayImage, YuvPackedImage, YuvPlanarImage, YuvRange,
    YuvStandardMatrix,
};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

/// Larger images are refused before memory is allocated for them, since a corrupt header may claim any size. No camera
/// has more pixels per side.
const MAX_SIDE_PX: u32 = 16_384;
const MAX_PIXELS: u64 = 64 << 20;

/// Why a frame could not be decoded.
#[derive(Debug, Error)]
pub enum DecodeError {
    #[error("the JPEG is cut short (no end-of-image marker after {bytes} bytes)")]
    Truncated { bytes: usize },
    #[error("the JPEG is corrupt: {reason}")]
    Jpeg { reason: String },
    #[error("not a readable JPEG, PNG or WebP image: {reason}")]
    Image { reason: String },
    #[error(
        "an image of {width}×{height} pixels is not accepted (1 to {MAX_SIDE_PX} a side, at most 64 megapixels)"
    )]
    Size { width: u32, height: u32 },
    #[error("a {format:?} frame of {width}×{height} holds {bytes} bytes and needs {needed}")]
    Short {
        format: PixelFormat,
        width: u32,
        height: u32,
        bytes: usize,
        needed: usize,
    },
    #[error("a {format:?} frame of {width}×{height} could not be converted: {reason}")]
    Convert {
        format: PixelFormat,
        width: u32,
        height: u32,
        reason: String,
    },
    #[error("an image of {width}×{height} could not be resized: {reason}")]
    Resize {
        width: u32,
        height: u32,
        reason: String,
    },
}

/// Decodes `frame` into `rgb`, reusing its buffer.
///
/// ```
/// use constancy_core::frame::{Frame, PixelFormat, Timestamp};
/// use constancy_core::preprocess::{RgbImage, decode};
///
/// let captured_at = Timestamp { monotonic_ns: 0, unix_ns: 0, clock_synced: false };
/// let mut rgb = RgbImage::default();
/// decode(&Frame::rgb(vec![1, 2, 3, 4, 5, 6], 2, 1, captured_at), &mut rgb)?;
/// assert_eq!((rgb.width, rgb.height), (2, 1));
/// assert_eq!(rgb.data, [1, 2, 3, 4, 5, 6]);
///
/// let cut_short = Frame::compressed(PixelFormat::Jpeg, vec![0xff, 0xd8, 0xff], captured_at);
/// let error = decode(&cut_short, &mut rgb).unwrap_err();
/// assert!(error.to_string().contains("cut short"));
/// # Ok::<(), constancy_core::preprocess::DecodeError>(())
/// ```
pub fn decode(frame: &Frame, rgb: &mut RgbImage) -> Result<(), DecodeError> {
    match frame.format {
        PixelFormat::Jpeg => jpeg(&frame.data, rgb),
        PixelFormat::ImageFile => image_file(&frame.data, rgb),
        _ => raw(frame, rgb),
    }
}

/// Whether a frame's bytes are a complete JPEG file, Huffman tables included, that any program can show.
#[must_use]
pub fn is_whole_jpeg(frame: &Frame) -> bool {
    frame.format == PixelFormat::Jpeg
        && frame.data.ends_with(&[0xff, 0xd9])
        && !lacks_huffman_tables(&frame.data)
}

fn check_size(width: u32, height: u32) -> Result<(), DecodeError> {
    let sides = 1..=MAX_SIDE_PX;
    let fits = sides.contains(&width) && sides.contains(&height);
    if fits && u64::from(width) * u64::from(height) <= MAX_PIXELS {
        Ok(())
    } else {
        Err(DecodeError::Size { width, height })
    }
}

fn jpeg(data: &[u8], rgb: &mut RgbImage) -> Result<(), DecodeError> {
    // Some cameras pad the buffer behind the image with zeros.
    let end = data
        .iter()
        .rposition(|&b| b != 0)
        .map_or(0, |last| last + 1);
    if !data[..end].ends_with(&[0xff, 0xd9]) {
        return Err(DecodeError::Truncated { bytes: data.len() });
    }
    if lacks_huffman_tables(data) {
        return decode_jpeg(&with_standard_tables(&data[..end]), rgb);
    }
    decode_jpeg(&data[..end], rgb)
}

fn decode_jpeg(data: &[u8], rgb: &mut RgbImage) -> Result<(), DecodeError> {
    let corrupt = |e: zune_jpeg::errors::DecodeErrors| DecodeError::Jpeg {
        reason: e.to_string(),
    };
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(MAX_SIDE_PX as usize)
        .set_max_height(MAX_SIDE_PX as usize)
        .set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
    decoder.decode_headers().map_err(corrupt)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| DecodeError::Jpeg {
        reason: "no frame header".into(),
    })?;
    #[expect(clippy::cast_possible_truncation, reason = "JPEG stores 16-bit sides")]
    let (width, height) = (width as u32, height as u32);
    check_size(width, height)?;
    rgb.reshape(width, height);
    decoder.decode_into(&mut rgb.data).map_err(corrupt)
}

/// Whether an MJPEG frame omits its Huffman tables, as AVI allows.
fn lacks_huffman_tables(data: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = data.get(at..at + 4) {
        match marker {
            0xc4 => return false,
            0xda => return true,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    false
}

/// Inserts the `AVI1` segment, which makes the decoder use the standard's tables.
fn with_standard_tables(data: &[u8]) -> Vec<u8> {
    const AVI1: &[u8] = b"\xff\xd8\xff\xe0\x00\x10AVI1\0\0\0\0\0\0\0\0\0\0";
    [AVI1, &data[2..]].concat()
}

fn image_file(data: &[u8], rgb: &mut RgbImage) -> Result<(), DecodeError> {
    let unreadable = |e: &dyn std::fmt::Display| DecodeError::Image {
        reason: e.to_string(),
    };
    let reader = ImageReader::new(Cursor::new(data))
        .with_guessed_format()
        .map_err(|e| unreadable(&e))?;
    let is_jpeg = reader.format() == Some(ImageFormat::Jpeg);
    let mut decoder = reader.into_decoder().map_err(|e| unreadable(&e))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let orientation = decoder.orientation().map_err(|e| unreadable(&e))?;
    if is_jpeg && orientation == Orientation::NoTransforms {
        return decode_jpeg(data, rgb);
    }
    let mut decoded = if is_jpeg {
        // `image` accepts a truncated JPEG and fills the rest with grey, so the pixels come from `decode_jpeg`.
        decode_jpeg(data, rgb)?;
        let pixels = std::mem::take(&mut rgb.data);
        image::RgbImage::from_raw(width, height, pixels)
            .map(DynamicImage::ImageRgb8)
            .ok_or_else(|| unreadable(&"its header and its pixels disagree"))?
    } else {
        DynamicImage::from_decoder(decoder).map_err(|e| unreadable(&e))?
    };
    decoded.apply_orientation(orientation);
    let decoded = decoded.into_rgb8();
    (rgb.width, rgb.height) = decoded.dimensions();
    rgb.data = decoded.into_raw();
    Ok(())
}

/// Where one plane lies in the frame's bytes.
struct Plane {
    offset: usize,
    /// Bytes from row to row.
    stride: usize,
    len: usize,
}

fn raw(frame: &Frame, rgb: &mut RgbImage) -> Result<(), DecodeError> {
    check_size(frame.width, frame.height)?;
    let planes = planes(frame);
    let needed = planes.iter().map(|p| p.offset + p.len).max().unwrap_or(0);
    if frame.data.len() < needed {
        return Err(DecodeError::Short {
            format: frame.format,
            width: frame.width,
            height: frame.height,
            bytes: frame.data.len(),
            needed,
        });
    }
    rgb.reshape(frame.width, frame.height);
    convert(frame, &planes, rgb).map_err(|e| DecodeError::Convert {
        format: frame.format,
        width: frame.width,
        height: frame.height,
        reason: e.to_string(),
    })
}

/// The planes of an uncompressed frame. The last row may lack its padding.
fn planes(frame: &Frame) -> Vec<Plane> {
    let (w, h) = (frame.width as usize, frame.height as usize);
    let (half_w, half_h) = (w.div_ceil(2), h.div_ceil(2));
    let row = match frame.format {
        PixelFormat::Yuyv | PixelFormat::Uyvy => half_w * 4,
        PixelFormat::Rgb24 => w * 3,
        _ => w,
    };
    let stride = frame.stride_bytes.max(row);
    let plane = |offset, stride, row, rows: usize| Plane {
        offset,
        stride,
        len: (rows - 1) * stride + row,
    };
    let first = plane(0, stride, row, h);
    let chroma = match frame.format {
        PixelFormat::I420 => (stride.div_ceil(2), half_w, half_h),
        PixelFormat::I422 => (stride.div_ceil(2), half_w, h),
        PixelFormat::I444 => (stride, w, h),
        PixelFormat::Nv12 => return vec![first, plane(stride * h, stride, half_w * 2, half_h)],
        _ => return vec![first],
    };
    let (c_stride, c_row, c_rows) = chroma;
    let u = plane(stride * h, c_stride, c_row, c_rows);
    let v = plane(stride * h + c_stride * c_rows, c_stride, c_row, c_rows);
    vec![first, u, v]
}

/// Converts the frame's planes to `rgb`, which has the frame's size.
#[expect(
    clippy::cast_possible_truncation,
    reason = "strides of images within MAX_SIDE_PX fit a u32"
)]
fn convert(frame: &Frame, planes: &[Plane], rgb: &mut RgbImage) -> Result<(), YuvError> {
    let (width, height) = (frame.width, frame.height);
    let rgb_stride = width * 3;
    let (range, matrix) = yuv_encoding(frame.color);
    let bytes = |i: usize| &frame.data[planes[i].offset..planes[i].offset + planes[i].len];
    let stride = |i: usize| planes[i].stride as u32;
    let planar = || YuvPlanarImage {
        y_plane: bytes(0),
        y_stride: stride(0),
        u_plane: bytes(1),
        u_stride: stride(1),
        v_plane: bytes(2),
        v_stride: stride(2),
        width,
        height,
    };
    let bi_planar = || YuvBiPlanarImage {
        y_plane: bytes(0),
        y_stride: stride(0),
        uv_plane: bytes(1),
        uv_stride: stride(1),
        width,
        height,
    };
    let packed = || YuvPackedImage {
        yuy: bytes(0),
        yuy_stride: stride(0),
        width,
        height,
    };
    let grey = || YuvGrayImage {
        y_plane: bytes(0),
        y_stride: stride(0),
        width,
        height,
    };
    let out = &mut rgb.data;
    match frame.format {
        PixelFormat::Yuyv => yuv::yuyv422_to_rgb(&packed(), out, rgb_stride, range, matrix),
        PixelFormat::Uyvy => yuv::uyvy422_to_rgb(&packed(), out, rgb_stride, range, matrix),
        PixelFormat::I420 => yuv::yuv420_to_rgb(&planar(), out, rgb_stride, range, matrix),
        PixelFormat::I422 => yuv::yuv422_to_rgb(&planar(), out, rgb_stride, range, matrix),
        PixelFormat::I444 => yuv::yuv444_to_rgb(&planar(), out, rgb_stride, range, matrix),
        PixelFormat::Nv12 => {
            let mode = yuv::YuvConversionMode::Balanced;
            yuv::yuv_nv12_to_rgb(&bi_planar(), out, rgb_stride, range, matrix, mode)
        }
        PixelFormat::Grey => yuv::yuv400_to_rgb(&grey(), out, rgb_stride, range, matrix),
        PixelFormat::Rgb24 => {
            copy_rows(bytes(0), planes[0].stride, out, rgb_stride as usize);
            Ok(())
        }
        PixelFormat::Jpeg | PixelFormat::ImageFile => {
            unreachable!("decoded by their own functions")
        }
    }
}

fn yuv_encoding(color: ColorEncoding) -> (YuvRange, YuvStandardMatrix) {
    let range = if color.full_range {
        YuvRange::Full
    } else {
        YuvRange::Limited
    };
    let matrix = if color.bt709 {
        YuvStandardMatrix::Bt709
    } else {
        YuvStandardMatrix::Bt601
    };
    (range, matrix)
}

/// Copies rows of `row` bytes, which lie `stride` bytes apart in `from`.
fn copy_rows(from: &[u8], stride: usize, to: &mut [u8], row: usize) {
    for (target, source) in to.chunks_exact_mut(row).zip(from.chunks(stride)) {
        target.copy_from_slice(&source[..row]);
    }
}
