//! Converts uncompressed frames to 8-bit RGB.

use super::error::DecodeError;
use super::limits::check_size;
use super::rgb::RgbImage;
use crate::frame::{ColorEncoding, Frame, PixelFormat};
use yuv::{
    YuvBiPlanarImage, YuvError, YuvGrayImage, YuvPackedImage, YuvPlanarImage, YuvRange,
    YuvStandardMatrix,
};

/// Where one plane lies in the frame's bytes.
struct Plane {
    offset: usize,
    /// Bytes from row to row.
    stride: usize,
    len: usize,
}

/// Converts an uncompressed frame.
pub(super) fn raw(frame: &Frame, rgb: &mut RgbImage) -> Result<(), DecodeError> {
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
