//! What sensor and electronics do: noise, flicker, infrared, compression.

#![expect(
    clippy::cast_possible_truncation,
    reason = "random bits are cut to the width that is wanted"
)]

use super::srgb::{of_size, per_light, srgb};
use crate::jpeg::compress as jpeg_loss;
use crate::numeric::exp2;
use crate::numeric::{Rng, sine};
use crate::preprocess::RgbImage;

/// Electrons that a pixel of a small sensor (1.1 to 1.4 µm, as phones and boards have) holds.
const FULL_WELL: f32 = 5000.0;

/// Standard deviation of such a sensor's read-out, electrons.
const READ_NOISE: f32 = 3.0;

/// Poisson–Gaussian noise of a sensor that makes up for `gain_ev` stops of missing light by gain (6.02 dB each), so
/// that the brightness stays: photons are counted (Poisson), read-out adds to it (Gaussian). Model: Foi et al.,
/// *Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data*, IEEE TIP 2008; a small
/// sensor's constants: 5000 electrons full well, 3 electrons read-out noise. Each value has noise of its own.
#[must_use]
pub fn gain_noise(image: &RgbImage, gain_ev: f32, seed: u64) -> RgbImage {
    noisy(image, FULL_WELL * exp2(-gain_ev), 1.0, seed)
}

/// A scene in `ev` stops (`0.0..`) less light of which the camera makes up `gain_ev` by gain: dark, and as noisy as few
/// photons are (as [`gain_noise`]).
#[must_use]
pub fn low_light(image: &RgbImage, ev: f32, gain_ev: f32, seed: u64) -> RgbImage {
    noisy(image, FULL_WELL * exp2(-ev), exp2(gain_ev - ev), seed)
}

/// Values that the sum of four numbers of 5 bits takes.
const SUMS: usize = 4 * 31 + 1;

/// `image` counted in electrons, of which full light gives `white`, and shown at `brightness` of itself.
///
/// Electrons are the quantile of a standard normal z, corrected for the Poisson part's skewness (Cornish and Fisher
/// 1938): λ + σ (z + (z² − 1) γ / 6). z is a sum of four uniform numbers, so that each grey level has a table of 125
/// outcomes.
fn noisy(image: &RgbImage, white: f32, brightness: f32, seed: u64) -> RgbImage {
    /// Mean and standard deviation of a sum of four numbers of `0..=31`.
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
    of_size(image, data)
}

/// Bands of a rolling shutter under flickering light: rows are read one after the other while a lamp's light swings by
/// `depth` (`0..=1`) about its mean, `bands` times an image, starting at `phase` (turns). Model: Sheinin et al.,
/// *Rolling shutter imaging on the electric grid*, ICCP 2018, with a sine for the lamp.
#[must_use]
pub fn banding(image: &RgbImage, depth: f32, bands: f32, phase: f32) -> RgbImage {
    let height = image.height.max(1) as f32;
    let gains: Vec<f32> = (0..image.height)
        .map(|y| 1.0 + depth * sine(bands * y as f32 / height + phase))
        .collect();
    per_light(image, |_, y, light| light.map(|l| l * gains[y]))
}

/// A camera at night without its infrared filter: one channel, as all three of a sensor's colours see infrared alike,
/// lit by lamps around the lens. `weights` (R, G, B; they sum to 1) stand for a surface's infrared reflectance, which
/// an RGB image does not tell. Light falls as `1 / (1 + falloff r²)`, r in half shorter sides from `centre` (shares of
/// width and height).
#[must_use]
pub fn infrared(image: &RgbImage, weights: [f32; 3], falloff: f32, centre: [f32; 2]) -> RgbImage {
    let (width, height) = (image.width as f32, image.height as f32);
    let (cx, cy) = (centre[0] * width - 0.5, centre[1] * height - 0.5);
    let half = width.min(height).max(1.0) / 2.0;
    per_light(image, |x, y, light| {
        let (dx, dy) = ((x as f32 - cx) / half, (y as f32 - cy) / half);
        let lamp = 1.0 / (1.0 + falloff * (dx * dx + dy * dy));
        let seen = weights[0] * light[0] + weights[1] * light[1] + weights[2] * light[2];
        [seen * lamp; 3]
    })
}

/// What saving as JPEG at `quality` (`1..=100`, libjpeg's scale) and reading it again does: chroma at half resolution,
/// 8 × 8 cosine transform, quantisation. The workshop's own, so that every machine gets the same bytes; 100 changes
/// nothing.
#[must_use]
pub fn jpeg(image: &RgbImage, quality: u8) -> RgbImage {
    let mut result = image.clone();
    if !image.data.is_empty() {
        jpeg_loss(
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
    fn noise_keeps_the_light_and_has_poissons_and_the_read_outs_variance() {
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
    fn noise_is_its_seeds_and_differs_from_value_to_value() {
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
    fn low_light_is_dark_by_what_gain_does_not_make_up_for() {
        let (mean, variance) = moments(&low_light(&flat(200), 5.0, 3.0, 4));
        let level = f64::from(srgb().light[200]);
        assert!((mean / (level / 4.0) - 1.0).abs() < 0.03, "{mean}");
        let (_, of_gain) = moments(&gain_noise(&flat(200), 5.0, 4));
        assert!(
            (variance * 16.0 / of_gain - 1.0).abs() < 0.1,
            "as noisy as its photons are few"
        );
    }

    #[test]
    fn bands_are_as_many_as_asked_for_and_keep_the_mean() {
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
