//! Sensor and electronics: noise, flicker bands, infrared, compression.

#![expect(
    clippy::cast_possible_truncation,
    reason = "random bits are masked to the wanted width"
)]

use super::srgb::{per_light, srgb, with_pixels};
use crate::jpeg;
use crate::numeric::{Rng, exp2, sine};
use crate::preprocess::RgbImage;

/// Full-well capacity of a pixel of a small sensor (1.1 to 1.4 µm, as on phones and camera boards),
/// electrons.
const FULL_WELL: f32 = 5000.0;

/// Standard deviation of such a sensor's read noise, electrons.
const READ_NOISE: f32 = 3.0;

/// Poisson–Gaussian noise of a sensor that compensates `gain_ev` stops of missing light by gain
/// (6.02 dB each), so that the brightness stays: photons are counted (Poisson), and read noise is
/// added (Gaussian). Model: Foi et al., *Practical Poissonian-Gaussian noise modeling and fitting
/// for single-image raw-data*, IEEE TIP 2008, with the constants of a small sensor: a full well of
/// 5000 electrons, a read noise of 3. The noise of each value is independent.
#[must_use]
pub fn gain_noise(image: &RgbImage, gain_ev: f32, seed: u64) -> RgbImage {
    noisy(image, FULL_WELL * exp2(-gain_ev), 1.0, seed)
}

/// A scene in `ev` stops (`0.0..`) less light. The camera compensates `gain_ev` of them by gain, so
/// the image is dark and has the noise of few photons, modelled as in [`gain_noise`].
#[must_use]
pub fn low_light(image: &RgbImage, ev: f32, gain_ev: f32, seed: u64) -> RgbImage {
    noisy(image, FULL_WELL * exp2(-ev), exp2(gain_ev - ev), seed)
}

/// The number of values that the sum of four 5-bit numbers takes.
const SUMS: usize = 4 * 31 + 1;

/// Counts `image` in electrons, where full light gives `white`, and scales the result by
/// `brightness`.
///
/// The number of electrons is λ + σ (z + (z² − 1) γ / 6): z is standard normal, and the last term
/// corrects for the skewness γ of the Poisson part (Cornish and Fisher 1938). z is approximated by
/// a sum of four uniform numbers, so that each grey level has a table of 125 outcomes.
fn noisy(image: &RgbImage, white: f32, brightness: f32, seed: u64) -> RgbImage {
    /// Mean and standard deviation of a sum of four uniform numbers of `0..=31`.
    const MIDDLE: f32 = 62.0;
    const SPREAD: f32 = 18.466;
    let srgb = srgb();
    let outcomes: Vec<[u8; SUMS]> = srgb
        .light
        .map(|light| {
            let mean = light * white;
            let sigma = (mean + READ_NOISE * READ_NOISE).sqrt();
            let skewness = mean / (sigma * sigma * sigma);
            std::array::from_fn(|sum| {
                let z = (sum as f32 - MIDDLE) / SPREAD;
                let electrons = mean + sigma * (z + (z * z - 1.0) * skewness / 6.0);
                srgb.level(electrons / white * brightness)
            })
        })
        .to_vec();
    let mut rng = Rng::new(seed);
    let (pixels, _) = image.data.as_chunks::<3>();
    let mut data = Vec::with_capacity(image.data.len());
    for pixel in pixels {
        let mut bits = rng.next_u64();
        data.extend(pixel.map(|v| {
            let sum = (bits & 31) + (bits >> 5 & 31) + (bits >> 10 & 31) + (bits >> 15 & 31);
            bits >>= 20;
            outcomes[usize::from(v)][sum as usize]
        }));
    }
    with_pixels(image, data)
}

/// Bands of a rolling shutter under flickering light: rows are read one after another while a
/// lamp's light oscillates by `depth` (`0..=1`) about its mean, `bands` times per image, starting
/// at `phase` (turns). Model: Sheinin et al., *Rolling shutter imaging on the electric grid*, ICCP
/// 2018, with a sine for the lamp.
#[must_use]
pub fn banding(image: &RgbImage, depth: f32, bands: f32, phase: f32) -> RgbImage {
    let height = image.height.max(1) as f32;
    let gains: Vec<f32> = (0..image.height)
        .map(|y| 1.0 + depth * sine(bands * y as f32 / height + phase))
        .collect();
    per_light(image, |_, y, light| light.map(|l| l * gains[y]))
}

/// A camera at night without its infrared filter, lit by lamps around the lens. The result has one
/// channel, because infrared passes all three colour filters of a sensor equally. `weights` (R, G,
/// B; their sum is 1) stand for a surface's infrared reflectance, which an RGB image does not show.
/// Light falls as `1 / (1 + falloff r²)`, with r in halves of the shorter side from `centre`
/// (shares of width and height).
#[must_use]
pub fn infrared(image: &RgbImage, weights: [f32; 3], falloff: f32, centre: [f32; 2]) -> RgbImage {
    let (width, height) = (image.width as f32, image.height as f32);
    let (cx, cy) = (centre[0] * width - 0.5, centre[1] * height - 0.5);
    let half = width.min(height).max(1.0) / 2.0;
    per_light(image, |x, y, light| {
        let (dx, dy) = ((x as f32 - cx) / half, (y as f32 - cy) / half);
        let lamp = 1.0 / (1.0 + falloff * (dx * dx + dy * dy));
        let reflected = weights[0] * light[0] + weights[1] * light[1] + weights[2] * light[2];
        [reflected * lamp; 3]
    })
}

/// The loss of saving as JPEG at `quality` (`1..=100`, libjpeg's scale) and reading it again:
/// chroma at half resolution, 8 × 8 cosine transform, quantisation. Computed by [`crate::jpeg`], so
/// that every machine gets the same bytes; 100 changes nothing.
#[must_use]
pub fn jpeg(image: &RgbImage, quality: u8) -> RgbImage {
    let mut result = image.clone();
    if !image.data.is_empty() {
        jpeg::round_trip(
            &mut result.data,
            image.width as usize,
            image.height as usize,
            quality.max(1),
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: u32 = 128;

    fn flat(value: u8) -> RgbImage {
        RgbImage {
            width: SIDE,
            height: SIDE,
            data: vec![value; (SIDE * SIDE * 3) as usize],
        }
    }

    /// Mean and variance of the linear light.
    fn moments(image: &RgbImage) -> (f64, f64) {
        let light: Vec<f64> = image
            .data
            .iter()
            .map(|&v| f64::from(srgb().light[usize::from(v)]))
            .collect();
        let mean = light.iter().sum::<f64>() / light.len() as f64;
        (
            mean,
            light.iter().map(|l| (l - mean) * (l - mean)).sum::<f64>() / light.len() as f64,
        )
    }

    #[test]
    fn noise_keeps_the_mean_and_has_poisson_and_read_noise_variance() {
        for gain_ev in [2.0, 4.0, 5.0] {
            for value in [90, 128, 170] {
                let white = f64::from(FULL_WELL * exp2(-gain_ev));
                let level = f64::from(srgb().light[usize::from(value)]);
                let (mean, variance) = moments(&gain_noise(&flat(value), gain_ev, 11));
                let expected =
                    (level * white + f64::from(READ_NOISE * READ_NOISE)) / (white * white);
                assert!(
                    (mean / level - 1.0).abs() < 0.02,
                    "{value}, {gain_ev} EV: mean {mean} for {level}"
                );
                assert!(
                    (variance / expected - 1.0).abs() < 0.1,
                    "{value}, {gain_ev} EV: {variance} for {expected}"
                );
            }
        }
    }

    #[test]
    fn noise_depends_on_the_seed_and_is_independent_per_value() {
        let noisy = gain_noise(&flat(128), 4.0, 1);
        assert_eq!(noisy, gain_noise(&flat(128), 4.0, 1));
        assert_ne!(noisy, gain_noise(&flat(128), 4.0, 2));
        let equal = noisy
            .data
            .as_chunks::<3>()
            .0
            .iter()
            .filter(|[r, g, b]| r == g && g == b)
            .count();
        assert!(equal < (SIDE * SIDE / 50) as usize, "{equal}");
    }

    #[test]
    fn low_light_is_dark_by_what_gain_does_not_compensate() {
        let (mean, variance) = moments(&low_light(&flat(200), 5.0, 3.0, 4));
        let level = f64::from(srgb().light[200]);
        assert!((mean / (level / 4.0) - 1.0).abs() < 0.03, "{mean}");
        let (_, of_gain) = moments(&gain_noise(&flat(200), 5.0, 4));
        assert!(
            (variance * 16.0 / of_gain - 1.0).abs() < 0.1,
            "the noise is that of its few photons"
        );
    }

    #[test]
    fn bands_have_the_requested_number_and_keep_the_mean() {
        let banded = banding(&flat(128), 0.6, 4.0, 0.1);
        let rows: Vec<u8> = banded
            .data
            .chunks_exact(3 * SIDE as usize)
            .map(|row| row[0])
            .collect();
        assert!(
            banded
                .data
                .chunks_exact(3 * SIDE as usize)
                .all(|row| row.iter().all(|v| v == &row[0]))
        );
        let crossings = rows
            .windows(2)
            .filter(|w| (w[0] < 128) != (w[1] < 128))
            .count();
        assert!((7..=8).contains(&crossings), "{crossings}");
        let (mean, _) = moments(&banded);
        assert!((mean / f64::from(srgb().light[128]) - 1.0).abs() < 0.01);
    }

    #[test]
    fn infrared_has_one_channel_and_a_pool_of_light() {
        let seen = infrared(&flat(180), [0.5, 0.3, 0.2], 1.0, [0.5, 0.5]).data;
        assert!(
            seen.as_chunks::<3>()
                .0
                .iter()
                .all(|[r, g, b]| r == g && g == b)
        );
        let middle = seen[3 * (SIDE * SIDE / 2 + SIDE / 2) as usize];
        assert!(middle == 180 && seen[0] < 120, "{middle}, {}", seen[0]);
    }

    #[test]
    fn jpeg_changes_bytes_and_the_more_the_lower_its_quality() {
        let data = (0..SIDE * SIDE * 3).map(|i| (i * 37 % 251) as u8).collect();
        let image = RgbImage {
            width: SIDE,
            height: SIDE,
            data,
        };
        let off = |quality| {
            let pairs = jpeg(&image, quality).data.into_iter().zip(&image.data);
            pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>()
        };
        assert_eq!(off(100), 0);
        assert!(off(80) > 0 && off(10) > off(80));
    }
}
