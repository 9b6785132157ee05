//! Encodes images as JPEGs for snapshots.

use super::rgb::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

/// Qualities to try, best first.
const QUALITIES: [u8; 4] = [85, 70, 50, 30];

/// Encodes the image as a JPEG of at most `limit` bytes, at the best quality that fits; `None` if even the lowest quality
/// does not fit.
///
/// ```
/// use constancy_core::preprocess::{RgbImage, jpeg_within};
///
/// let image = RgbImage { width: 8, height: 8, data: vec![128; 8 * 8 * 3] };
/// let jpeg = jpeg_within(&image, 2_000).expect("a grey image is small");
/// assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.len() <= 2_000);
/// assert_eq!(jpeg_within(&image, 10), None);
/// ```
#[must_use]
pub fn jpeg_within(image: &RgbImage, limit: usize) -> Option<Vec<u8>> {
    QUALITIES.iter().find_map(|&quality| {
        let mut bytes = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
        encoder
            .write_image(
                &image.data,
                image.width,
                image.height,
                ExtendedColorType::Rgb8,
            )
            .ok()?;
        (bytes.len() <= limit).then_some(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_quality_that_fits_is_used() {
        let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0];
        let image = RgbImage {
            width: 64,
            height: 64,
            data: (0..64 * 64 * 3).map(noise).collect(),
        };
        let best = jpeg_within(&image, usize::MAX).expect("it fits");
        let smaller = jpeg_within(&image, best.len() - 1).expect("it fits");
        assert!(
            smaller.len() < best.len()
                && smaller.starts_with(&[0xff, 0xd8])
                && smaller.ends_with(&[0xff, 0xd9])
        );
        assert_eq!(jpeg_within(&image, 100), None);
    }
}
