//! A picture as a JPEG, for people to look at.

use super::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

/// Qualities that are tried until a picture fits.
const QUALITIES: [u8; 4] = [85, 70, 50, 30];

/// The picture as a JPEG of at most `limit` bytes, as good as fits; `None` where it does not fit at all.
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
    fn a_picture_gets_as_good_as_fits() {
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
