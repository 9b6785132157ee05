//! The effects of lens and sensor: defocus and noise.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "weights are 12 bits, grey levels are clamped"
)]

use super::causes::Sensor;
use crate::numeric::Rng;

/// Fractional bits of the blur's weights.
const WEIGHT_BITS: u32 = 12;

/// Blurs RGB8 `pixels` with a biweight kernel whose standard deviation is the sensor's.
pub(super) fn blur(pixels: &mut [u8], width: usize, height: usize, sensor: &Sensor) {
    let sigma = sensor.blur * width.min(height) as f32;
    let weights = kernel(sigma);
    if weights.len() < 2 {
        return;
    }
    let mut other = vec![0; pixels.len()];
    convolve(pixels, &mut other, width * 3, 3, &weights);
    // Vertically, the whole image is one run whose neighbours are one row apart.
    convolve(&other, pixels, pixels.len(), width * 3, &weights);
}

/// Half of a symmetric kernel, the middle first, in units of 2⁻¹². The whole kernel sums to 1.
fn kernel(sigma: f32) -> Vec<i32> {
    // The variance of (1 - x²/r²)² on -r..r is r²/7.
    let radius = (7.0 * sigma * sigma).sqrt();
    let raw: Vec<f32> = (0..=radius.clamp(0.0, 40.0) as usize)
        .map(|i| {
            let rest = 1.0 - (i * i) as f32 / (radius * radius).max(1e-6);
            if i == 0 {
                1.0
            } else {
                rest.max(0.0) * rest.max(0.0)
            }
        })
        .collect();
    let total = raw[0] + 2.0 * raw[1..].iter().sum::<f32>();
    let scale = (1 << WEIGHT_BITS) as f32 / total;
    let mut weights: Vec<i32> = raw.iter().map(|w| (w * scale + 0.5) as i32).collect();
    let sum: i32 = weights[1..].iter().sum();
    weights[0] = (1 << WEIGHT_BITS) - 2 * sum;
    weights
}

/// Convolves each run of `run` bytes. Neighbours are `step` bytes apart; a run's ends repeat.
fn convolve(from: &[u8], to: &mut [u8], run: usize, step: usize, weights: &[i32]) {
    for (source, target) in from.chunks_exact(run).zip(to.chunks_exact_mut(run)) {
        for (i, out) in target.iter_mut().enumerate() {
            let mut sum = weights[0] * i32::from(source[i]) + (1 << (WEIGHT_BITS - 1));
            for (n, weight) in weights.iter().enumerate().skip(1) {
                let before = if i >= n * step {
                    i - n * step
                } else {
                    i % step
                };
                let after = if i + n * step < run {
                    i + n * step
                } else {
                    run - step + i % step
                };
                sum += weight * (i32::from(source[before]) + i32::from(source[after]));
            }
            *out = (sum >> WEIGHT_BITS).clamp(0, 255) as u8;
        }
    }
}

/// Adds shot and read noise to RGB8 `pixels`.
///
/// After a gamma of 2, shot noise is the same at every level, and read noise falls with the level.
pub(super) fn noise(pixels: &mut [u8], sensor: &Sensor, seed: u64) {
    // Standard deviation of the sum of four uniform numbers in 0..=31.
    const SPREAD: f32 = 18.466;
    let strength: [i32; 256] = std::array::from_fn(|v| {
        let read = sensor.read_noise * 128.0 / (v as f32 + 24.0);
        let sigma = (sensor.shot_noise * sensor.shot_noise + read * read).sqrt();
        (sigma.min(60.0) / SPREAD * 4096.0) as i32
    });
    let mut rng = Rng::new(seed);
    for pixel in pixels.chunks_exact_mut(3) {
        let mut bits = rng.next_u64();
        for value in pixel {
            let sum = (bits & 31) + (bits >> 5 & 31) + (bits >> 10 & 31) + (bits >> 15 & 31);
            bits >>= 20;
            let off = ((sum as i32 - 62) * strength[usize::from(*value)] + 2048) >> 12;
            *value = (i32::from(*value) + off).clamp(0, 255) as u8;
        }
    }
}

/// Sets all channels of each pixel to its luma. Applied after the noise, because an infrared sensor's noise is grey.
pub(super) fn grey(pixels: &mut [u8]) {
    for pixel in pixels.chunks_exact_mut(3) {
        let luma =
            (u32::from(pixel[0]) * 77 + u32::from(pixel[1]) * 150 + u32::from(pixel[2]) * 29 + 128)
                >> 8;
        pixel.fill(luma as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_sums_to_one() {
        for sigma in [0.0, 0.3, 0.5, 1.0, 2.5, 9.0] {
            let k = kernel(sigma);
            assert_eq!(
                k[0] + 2 * k[1..].iter().sum::<i32>(),
                1 << WEIGHT_BITS,
                "{sigma}"
            );
        }
    }

    #[test]
    fn a_blur_leaves_a_flat_image() {
        let sensor = Sensor {
            exposure: 1.0,
            white_balance: 0.0,
            white_point: None,
            shot_noise: 0.0,
            read_noise: 0.0,
            blur: 0.1,
            vignette: 0.0,
            jpeg_quality: 100,
            monochrome: false,
        };
        let mut pixels = vec![77; 20 * 16 * 3];
        blur(&mut pixels, 20, 16, &sensor);
        noise(&mut pixels, &sensor, 1);
        assert!(pixels.iter().all(|&v| v == 77));
    }
}
