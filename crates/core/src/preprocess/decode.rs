//! Decodes every pixel format of cameras and files to 8-bit RGB, within fixed limits.

use super::error::DecodeError;
use super::raw::raw;
use super::rgb::RgbImage;
use super::{jpeg_picture, picture_file};
use crate::frame::{Frame, PixelFormat};
use crate::jpeg;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
    guard(rgb, |rgb| match frame.format {
        PixelFormat::Jpeg => jpeg_picture::decode(&frame.data, rgb).map(|_| ()),
        PixelFormat::ImageFile => picture_file::decode(&frame.data, rgb),
        _ => raw(frame, rgb),
    })
}

/// Runs a decoder. If it panics, that is an error of this picture, and `rgb` is empty.
fn guard(
    rgb: &mut RgbImage,
    decode: impl FnOnce(&mut RgbImage) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    catch_unwind(AssertUnwindSafe(|| decode(rgb))).unwrap_or_else(|panic| {
        *rgb = RgbImage::default();
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(DecodeError::Panic {
            message: message.unwrap_or_else(|| "no message".into()),
        })
    })
}

/// Whether a frame's bytes are one JPEG file, Huffman tables included, that any program can show.
#[must_use]
pub fn is_whole_jpeg(frame: &Frame) -> bool {
    frame.format == PixelFormat::Jpeg && jpeg::is_plain(&frame.data)
}

/// Whether `data`, a JPEG that another interrupted, holds a whole picture all the same: some cameras send no end marker.
/// Takes about as long as decoding.
#[must_use]
pub fn is_complete_jpeg(data: &[u8]) -> bool {
    jpeg::is_complete(data, |picture| jpeg_picture::check_limits(picture).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_decoder_is_the_pictures_error() {
        let mut rgb = RgbImage {
            width: 3,
            height: 1,
            data: vec![0; 4],
        };
        let index = rgb.data.len();
        let error = guard(&mut rgb, |rgb| {
            rgb.data[index] = 1;
            Ok(())
        })
        .expect_err("out of range");
        assert!(
            matches!(&error, DecodeError::Panic { message } if message.contains("index is 4")),
            "{error}"
        );
        assert_eq!(rgb, RgbImage::default(), "no half-written picture is left");
    }
}
