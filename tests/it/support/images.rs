//! Pictures that tests make.

#![allow(dead_code, reason = "each test program uses its share")]

use image::{ColorType, ImageEncoder, RgbImage, codecs::jpeg::JpegEncoder};

/// A picture that no other `seed` gives: soft blobs of colour, as a camera's picture has few edges.
pub fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    let phase = f64::from(seed) * 0.7;
    RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (
            f64::from(x) / f64::from(width) * 9.0,
            f64::from(y) / f64::from(height) * 7.0,
        );
        let wave = |a: f64| (127.5 + 100.0 * a.sin()) as u8;
        let grain =
            (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503).wrapping_add(seed)) >> 28;
        let pixel = [wave(u + phase), wave(v - phase), wave(u + v + 2.0 * phase)];
        image::Rgb(pixel.map(|c| c.saturating_add(grain as u8)))
    })
}

/// [`picture`] as a JPEG file's bytes.
pub fn jpeg(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let rgb = picture(width, height, seed);
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .write_image(rgb.as_raw(), width, height, ColorType::Rgb8.into())
        .expect("JPEG in memory");
    bytes
}
