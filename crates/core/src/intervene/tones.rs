//! Changes of grey levels, as torchvision defines them for `uint8` tensors
//! (`torchvision.transforms.functional`), with the same results.

use super::srgb::{per_channel, with_pixels};
use crate::preprocess::RgbImage;

/// The negative: 255 − v (`invert`).
#[must_use]
pub fn invert(image: &RgbImage) -> RgbImage {
    with_pixels(image, image.data.iter().map(|v| 255 - v).collect())
}

/// Keeps the upper `bits` `0..=8` of every value (`posterize`).
#[must_use]
pub fn posterise(image: &RgbImage, bits: u32) -> RgbImage {
    let mask = 0xffu8.checked_shl(8 - bits.min(8)).unwrap_or(0);
    with_pixels(image, image.data.iter().map(|v| v & mask).collect())
}

/// Inverts every value of `threshold` or more; none at 256 (`solarize`).
#[must_use]
pub fn solarise(image: &RgbImage, threshold: u16) -> RgbImage {
    let changed = |&v: &u8| {
        if u16::from(v) >= threshold {
            255 - v
        } else {
            v
        }
    };
    with_pixels(image, image.data.iter().map(changed).collect())
}

/// Equalises the histogram of each channel (`equalize`).
#[must_use]
pub fn equalise(image: &RgbImage) -> RgbImage {
    let mut counts = [[0u64; 256]; 3];
    for pixel in image.data.as_chunks::<3>().0 {
        for (count, &v) in counts.iter_mut().zip(pixel) {
            count[usize::from(v)] += 1;
        }
    }
    let [red, green, blue] = counts.map(|count| spread(&count));
    per_channel(image, [&red, &green, &blue])
}

/// The new value of each value: the share of values below it, in steps of 1/255. The count of the
/// brightest value is left out of the step size, so that the brightest becomes 255.
#[expect(clippy::cast_possible_truncation, reason = "values are 255 at most")]
fn spread(counts: &[u64; 256]) -> [u8; 256] {
    let brightest = counts.iter().rev().find(|&&c| c > 0).copied().unwrap_or(0);
    let step = (counts.iter().sum::<u64>() - brightest) / 255;
    if step == 0 {
        return std::array::from_fn(|v| v as u8);
    }
    let mut below = step / 2;
    counts.map(|count| {
        let value = (below / step).min(255) as u8;
        below += count;
        value
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> RgbImage {
        let data = (0..=255u8).flat_map(|v| [v, 255 - v, v / 2]).collect();
        RgbImage {
            width: 16,
            height: 16,
            data,
        }
    }

    #[test]
    fn the_negative_of_the_negative_is_the_image() {
        assert_eq!(invert(&invert(&ramp())), ramp());
        assert_eq!(invert(&ramp()).data[..3], [255, 0, 255]);
    }

    #[test]
    fn posterising_leaves_two_to_the_bits_values() {
        for bits in 0..=8 {
            let values: std::collections::BTreeSet<u8> = posterise(&ramp(), bits)
                .data
                .iter()
                .step_by(3)
                .copied()
                .collect();
            assert_eq!(values.len(), 1 << bits);
        }
        assert_eq!(posterise(&ramp(), 9), ramp());
    }

    #[test]
    fn solarising_inverts_bright_values() {
        let solarised = solarise(&ramp(), 192);
        for (v, pixel) in (0..=255u8).zip(solarised.data.as_chunks::<3>().0) {
            assert_eq!(pixel[0], if v < 192 { v } else { 255 - v });
        }
        assert_eq!(
            (solarise(&ramp(), 256), solarise(&ramp(), 0)),
            (ramp(), invert(&ramp()))
        );
    }

    #[test]
    fn equalising_uses_the_whole_range() {
        let narrow: Vec<u8> = (0..20)
            .map(|i| 100 + i * 7 % 20)
            .cycle()
            .take(3 * 64 * 64)
            .collect();
        let equalised = equalise(&RgbImage {
            width: 64,
            height: 64,
            data: narrow,
        });
        let (least, most) = (equalised.data.iter().min(), equalised.data.iter().max());
        assert_eq!((least, most), (Some(&0), Some(&255)));
    }
}
