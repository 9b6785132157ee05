//! Blurs: the paper's Gaussian blur of grey levels; motion blur and defocus of linear light.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "lengths are below an image's side, weighted means of levels are levels"
)]

use super::srgb::{shorter_side, srgb, with_pixels};
use crate::numeric::{exp, sine};
use crate::preprocess::RgbImage;

/// The largest reach of a blur, pixels: beyond it, the cost grows and the effect does not.
const MAX_REACH_PX: f32 = 512.0;

/// torchvision's `gaussian_blur` of a `uint8` tensor: a kernel of `size` × `size` pixels (made odd)
/// with standard deviation `sigma_px` and mirrored edges. torchvision refuses an image smaller than
/// the kernel; here it is mirrored repeatedly.
#[must_use]
pub fn gaussian_blur(image: &RgbImage, size: usize, sigma_px: f32) -> RgbImage {
    let half = gaussian(size.min(2 * MAX_REACH_PX as usize) / 2, sigma_px);
    let (reach, width) = (half.len() - 1, image.width as usize);
    if reach == 0 || image.data.is_empty() {
        return image.clone();
    }
    let rows: Vec<f32> = image.data.iter().map(|&v| f32::from(v)).collect();
    let row = |y: isize| &rows[mirrored(y, image.height as usize) * 3 * width..][..3 * width];
    let mut wide = vec![0.0; 3 * (width + 2 * reach)];
    let mut sums = vec![0.0; 3 * width];
    let mut data = Vec::with_capacity(image.data.len());
    for y in 0..image.height as isize {
        symmetric(
            &half,
            |n| (row(y - n as isize), row(y + n as isize)),
            &mut sums,
        );
        for (x, pixel) in wide.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let from = 3 * mirrored(x as isize - reach as isize, width);
            pixel.copy_from_slice(&sums[from..from + 3]);
        }
        let shifted = |n: usize| {
            (
                &wide[3 * (reach - n)..][..3 * width],
                &wide[3 * (reach + n)..][..3 * width],
            )
        };
        symmetric(&half, shifted, &mut sums);
        data.extend(sums.iter().map(|&v| nearest(v)));
    }
    with_pixels(image, data)
}

/// The weighted sum of slices at both sides of the middle: `at(n)` gives the pair at distance n,
/// `half[n]` its weight.
fn symmetric<'a>(half: &[f32], at: impl Fn(usize) -> (&'a [f32], &'a [f32]), sums: &mut [f32]) {
    for (sum, v) in sums.iter_mut().zip(at(0).0) {
        *sum = half[0] * v;
    }
    for (n, weight) in half.iter().enumerate().skip(1) {
        let (before, after) = at(n);
        for ((sum, a), b) in sums.iter_mut().zip(before).zip(after) {
            *sum += weight * (a + b);
        }
    }
}

/// Half of a Gaussian kernel, the middle first; the whole kernel sums to 1.
fn gaussian(reach: usize, sigma: f32) -> Vec<f32> {
    if sigma.is_nan() || sigma <= 0.0 {
        return vec![1.0];
    }
    let raw: Vec<f64> = (0..=reach)
        .map(|n| {
            let x = n as f64 / f64::from(sigma);
            exp(-0.5 * x * x)
        })
        .collect();
    let total = raw[0] + 2.0 * raw[1..].iter().sum::<f64>();
    raw.iter().map(|w| (w / total) as f32).collect()
}

/// The index within `0..len` of a position outside: mirrored at the ends, which are not repeated.
fn mirrored(at: isize, len: usize) -> usize {
    let period = (2 * len as isize - 2).max(1);
    let at = at.rem_euclid(period);
    at.min(period - at).min(len as isize - 1) as usize
}

/// The byte nearest to a value within `0..=255`; ties go to the even one, as torch rounds.
fn nearest(value: f32) -> u8 {
    /// From 2²³ on, an f32 has no fraction: adding this rounds, and leaves the number in the lowest
    /// bits.
    const WHOLE: f32 = 8_388_608.0;
    (value + WHOLE).to_bits() as u8
}

/// Motion blur: camera or thing moves by `length` (a share of the shorter side) while the shutter
/// is open, in the direction `turns` (0 to the right, 0.25 downwards). Averages linear light along
/// the path; edges repeat.
#[must_use]
pub fn motion_blur(image: &RgbImage, length: f32, turns: f32) -> RgbImage {
    let length_px = (length * shorter_side(image)).clamp(0.0, MAX_REACH_PX);
    let (dx, dy) = (length_px * sine(turns + 0.25), length_px * sine(turns));
    let mut kernel = Kernel::new((length_px / 2.0) as usize + 1);
    let samples = 2 * length_px.ceil() as usize + 1;
    for i in 0..samples {
        let along = (i as f32 + 0.5) / samples as f32 - 0.5;
        kernel.add(dx * along, dy * along);
    }
    kernel.convolve(image)
}

/// Defocus: a point becomes an even disc of `radius` (a share of the shorter side), the image of a
/// round aperture (Potmesil and Chakravarty, *A lens and aperture camera model for synthetic image
/// generation*, SIGGRAPH 1981). Averages linear light over the disc; edges repeat.
#[must_use]
pub fn defocus(image: &RgbImage, radius: f32) -> RgbImage {
    /// Sample points per pixel and axis: the disc's rim covers pixels partly.
    const POINTS: usize = 4;
    let radius_px = (radius * shorter_side(image)).clamp(0.0, MAX_REACH_PX);
    let reach = (radius_px + 0.5) as usize;
    let mut kernel = Kernel::new(reach);
    let side = POINTS * (2 * reach + 1);
    let at = |i: usize| (i as f32 + 0.5) / POINTS as f32 - reach as f32 - 0.5;
    for y in 0..side {
        for x in 0..side {
            // The disc has at least the middle pixel, so that it never vanishes.
            let within = at(x) * at(x) + at(y) * at(y) <= radius_px * radius_px;
            let (column, row) = (x / POINTS, y / POINTS);
            if within || (column == reach && row == reach) {
                *kernel.weight(column, row) += 1.0;
            }
        }
    }
    kernel.convolve(image)
}

/// The weights of a kernel over the square `-reach..=reach`, row by row.
struct Kernel {
    reach: usize,
    weights: Vec<f32>,
}

/// Neighbours in one row with the same weight.
struct Run {
    dy: isize,
    /// The first neighbour, counted from the left end of the kernel.
    from: usize,
    len: usize,
    /// The weight of each neighbour, per step of [`LightSums`].
    weight: f32,
}

impl Kernel {
    fn new(reach: usize) -> Self {
        Self {
            reach,
            weights: vec![0.0; (2 * reach + 1) * (2 * reach + 1)],
        }
    }

    fn side(&self) -> usize {
        2 * self.reach + 1
    }

    fn weight(&mut self, column: usize, row: usize) -> &mut f32 {
        let side = self.side();
        &mut self.weights[row * side + column]
    }

    /// Adds a point between pixels: spreads it over the four around it.
    fn add(&mut self, x: f32, y: f32) {
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        for (dy, wy) in [(0.0, 1.0 - fy), (1.0, fy)] {
            for (dx, wx) in [(0.0, 1.0 - fx), (1.0, fx)] {
                let (column, row) = (left + dx + self.reach as f32, top + dy + self.reach as f32);
                let (column, row) = (column as usize, row as usize);
                if column < self.side() && row < self.side() {
                    *self.weight(column, row) += wx * wy;
                }
            }
        }
    }

    /// The kernel as runs of equal weights; all weights sum to 1.
    fn runs(&self) -> Vec<Run> {
        let total: f32 = self.weights.iter().sum();
        let mut runs = Vec::new();
        for (dy, row) in (-(self.reach as isize)..).zip(self.weights.chunks_exact(self.side())) {
            let mut from = 0;
            for equal in row.chunk_by(|a, b| a.to_bits() == b.to_bits()) {
                if equal[0] > 0.0 {
                    runs.push(Run {
                        dy,
                        from,
                        len: equal.len(),
                        weight: equal[0] / total / LIGHT_STEPS,
                    });
                }
                from += equal.len();
            }
        }
        runs
    }

    /// Convolves the linear light of `image`.
    fn convolve(&self, image: &RgbImage) -> RgbImage {
        let width = image.width as usize;
        if image.data.is_empty() || self.reach == 0 {
            return image.clone();
        }
        let srgb = srgb();
        let light = LightSums::new(image, self.reach);
        let runs = self.runs();
        let mut sums = vec![0.0f32; 3 * width];
        let mut data = Vec::with_capacity(image.data.len());
        for y in 0..image.height as isize {
            sums.fill(0.0);
            for run in &runs {
                light.add(run, y, &mut sums);
            }
            data.extend(sums.iter().map(|&sum| srgb.level(sum)));
        }
        with_pixels(image, data)
    }
}

/// Running sums of an image's light along each row, in steps. Rows are extended by the kernel's
/// reach on both sides. The sum over a run is then the difference of two numbers.
struct LightSums {
    /// `[height, (width + 2 reach + 1) · 3]`; sums may wrap around, their differences do not.
    sums: Vec<i32>,
    stride: usize,
    height: usize,
}

/// The steps of full light: the darkest grey levels are 20 steps apart, and a run of 32,000 pixels
/// stays within an i32.
const LIGHT_STEPS: f32 = 65_535.0;

impl LightSums {
    fn new(image: &RgbImage, reach: usize) -> Self {
        let (width, height) = (image.width as usize, image.height as usize);
        let steps = srgb().light.map(|l| (l * LIGHT_STEPS + 0.5) as i32);
        let stride = 3 * (width + 2 * reach + 1);
        let mut sums = Vec::with_capacity(stride * height);
        for row in image.data.chunks_exact(3 * width) {
            let (pixels, _) = row.as_chunks::<3>();
            let mut sum = [0i32; 3];
            sums.extend(sum);
            for x in 0..width + 2 * reach {
                let pixel = pixels[x.saturating_sub(reach).min(width - 1)];
                for (s, v) in sum.iter_mut().zip(pixel) {
                    *s = s.wrapping_add(steps[usize::from(v)]);
                }
                sums.extend(sum);
            }
        }
        Self {
            sums,
            stride,
            height,
        }
    }

    /// Adds the contribution of one run to each value of row `y`.
    fn add(&self, run: &Run, y: isize, sums: &mut [f32]) {
        let row = (y + run.dy).clamp(0, self.height as isize - 1) as usize;
        let row = &self.sums[row * self.stride..][..self.stride];
        let (before, after) = (&row[3 * run.from..], &row[3 * (run.from + run.len)..]);
        for ((sum, a), b) in sums.iter_mut().zip(before).zip(after) {
            *sum += run.weight * b.wrapping_sub(*a) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square of `value` on black.
    fn square(side: u32, inner: u32, value: u8) -> RgbImage {
        let start = (side - inner) / 2;
        let within = start..start + inner;
        let lit = |i: u32| within.contains(&(i % side)) && within.contains(&(i / side));
        let data = (0..side * side)
            .flat_map(|i| [if lit(i) { value } else { 0 }; 3])
            .collect();
        RgbImage {
            width: side,
            height: side,
            data,
        }
    }

    fn mean_light(image: &RgbImage) -> f32 {
        image
            .data
            .iter()
            .map(|&v| srgb().light[usize::from(v)])
            .sum::<f32>()
            / image.data.len() as f32
    }

    #[test]
    fn positions_outside_are_mirrored() {
        let seen = |len| (-5..9).map(|at| mirrored(at, len)).collect::<Vec<_>>();
        assert_eq!(seen(4), [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]);
        assert_eq!((seen(1), seen(2)), (vec![0; 14], [1, 0].repeat(7)));
    }

    #[test]
    fn values_round_to_the_nearest_and_ties_to_even() {
        assert_eq!(
            [0.0, 0.49, 0.5, 1.5, 254.5, 254.6, 255.0].map(nearest),
            [0, 0, 0, 2, 254, 255, 255]
        );
    }

    #[test]
    fn blurs_leave_a_flat_image_unchanged() {
        let flat = RgbImage {
            width: 23,
            height: 17,
            data: [40, 200, 5].repeat(23 * 17),
        };
        for blurred in [
            gaussian_blur(&flat, 9, 2.0),
            defocus(&flat, 0.1),
            motion_blur(&flat, 0.3, 0.1),
        ] {
            assert_eq!(blurred, flat);
        }
    }

    #[test]
    fn motion_and_defocus_keep_the_mean_of_light() {
        let image = square(64, 12, 200);
        let blurred = |b: &RgbImage| mean_light(b) / mean_light(&image) - 1.0;
        for radius in [0.01, 0.05, 0.12] {
            let off = blurred(&defocus(&image, radius));
            assert!(off.abs() < 0.02, "{radius}: {off}");
        }
        for turns in [0.0, 0.1, 0.25, 0.6] {
            let off = blurred(&motion_blur(&image, 0.2, turns));
            assert!(off.abs() < 0.02, "{turns}: {off}");
        }
    }

    #[test]
    fn defocus_makes_a_point_an_even_disc() {
        let point = RgbImage {
            data: square(41, 1, 255).data,
            width: 41,
            height: 41,
        };
        let disc = defocus(&point, 6.0 / 41.0);
        let covered = disc.data.iter().step_by(3).filter(|&&v| v > 0).count() as f32;
        assert!(
            (covered / (std::f32::consts::PI * 36.0) - 1.0).abs() < 0.25,
            "{covered}"
        );
        let at = |x: usize, y: usize| disc.data[(y * 41 + x) * 3];
        assert_eq!([at(20, 20), at(24, 20), at(20, 16)], [at(17, 18); 3]);
        assert_eq!(at(27, 27), 0);
    }

    #[test]
    fn motion_blurs_along_its_direction_only() {
        let mut data = vec![0; 3 * 31 * 31];
        data[3 * (15 * 31 + 15)..][..3].fill(255);
        let point = RgbImage {
            width: 31,
            height: 31,
            data,
        };
        let lit = |turns, x: usize, y: usize| {
            motion_blur(&point, 10.0 / 31.0, turns).data[(y * 31 + x) * 3] > 0
        };
        assert!(lit(0.0, 12, 15) && lit(0.0, 18, 15) && !lit(0.0, 15, 18));
        assert!(lit(0.25, 15, 12) && lit(0.25, 15, 18) && !lit(0.25, 18, 15));
    }
}
