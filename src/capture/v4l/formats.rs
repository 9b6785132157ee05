//! The pixel formats that this program reads from V4L2 cameras.

use crate::config::V4lFormat;
use constancy_core::frame::PixelFormat;
use v4l::FourCC;

/// The readable formats; `format = "auto"` takes the first that the camera offers. MJPEG allows the highest rates over
/// USB.
pub(super) const FORMATS: [(V4lFormat, &[u8; 4], PixelFormat); 6] = [
    (V4lFormat::Mjpeg, b"MJPG", PixelFormat::Jpeg),
    (V4lFormat::Mjpeg, b"JPEG", PixelFormat::Jpeg),
    (V4lFormat::Yuyv, b"YUYV", PixelFormat::Yuyv),
    (V4lFormat::Nv12, b"NV12", PixelFormat::Nv12),
    (V4lFormat::Uyvy, b"UYVY", PixelFormat::Uyvy),
    (V4lFormat::Grey, b"GREY", PixelFormat::Grey),
];

/// A format's four letters. Big-endian formats have the last letter's high bit set, which the v4l crate does not print.
pub(super) fn fourcc_name(fourcc: FourCC) -> String {
    let mut letters = fourcc.repr;
    let big_endian = letters[3] & 0x80 != 0;
    letters[3] &= 0x7f;
    let name = String::from_utf8_lossy(&letters).trim_end().to_owned();
    if big_endian {
        format!("{name}-BE")
    } else {
        name
    }
}
