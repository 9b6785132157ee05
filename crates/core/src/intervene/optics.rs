//! The lens: vignetting, and drops of water on it.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions are clamped to the image, counts are small"
)]

use super::blur::defocus;
use super::srgb::{per_light, shorter_side, srgb};
use crate::numeric::Rng;
use crate::preprocess::RgbImage;

/// Natural vignetting: light falls with cos⁴ of the angle to the lens's axis; the corners keep the
/// share `corner` (above 0, at most 1). The axis passes through `centre`, in shares of width and
/// height.
#[must_use]
pub fn vignetting(image: &RgbImage, corner: f32, centre: [f32; 2]) -> RgbImage {
    let (width, height) = (image.width as f32, image.height as f32);
    let (cx, cy) = (centre[0] * width - 0.5, centre[1] * height - 0.5);
    // cos⁴ a = 1 / (1 + tan² a)², and tan² a grows with the square of the distance.
    let tan2 = 1.0 / corner.clamp(1e-3, 1.0).sqrt() - 1.0;
    let scale = tan2 / (0.25 * (width * width + height * height)).max(1.0);
    per_light(image, |x, y, light| {
        let (dx, dy) = (x as f32 - cx, y as f32 - cy);
        let widened = 1.0 + scale * (dx * dx + dy * dy);
        let share = 1.0 / (widened * widened);
        light.map(|l| l * share)
    })
}

/// Range of the radius of the disc that a drop, far out of focus, becomes; shares of the shorter
/// side.
const DROP_RADIUS: (f32, f32) = (0.03, 0.11);

/// Defocus radius of the scene behind a drop; share of the shorter side.
const DROP_DEFOCUS: f32 = 0.015;

/// A drop is a strong lens: it shows the scene around it upside down, out to this distance; share
/// of the shorter side.
const DROP_VIEW: f32 = 0.45;

/// `count` drops of water on the lens, with places and sizes drawn from `seed`. Each refracts a
/// wide, inverted view of the scene into a disc with a soft edge and a dark rim (after Halimeh and
/// Roser, *Raindrop detection on car windshields using geometric-photometric environment
/// construction*, IV 2009, with the cap's refraction taken as linear).
#[must_use]
pub fn water_drops(image: &RgbImage, count: usize, seed: u64) -> RgbImage {
    let mut result = image.clone();
    if image.data.is_empty() {
        return result;
    }
    let behind = defocus(image, DROP_DEFOCUS);
    let mut rng = Rng::new(seed);
    for _ in 0..count {
        let centre = [
            rng.unit() * image.width as f32,
            rng.unit() * image.height as f32,
        ];
        // Small drops are more frequent than large ones.
        let size = rng.unit() * rng.unit();
        let radius = DROP_RADIUS.0 + (DROP_RADIUS.1 - DROP_RADIUS.0) * size;
        drop_at(&mut result, &behind, centre, radius * shorter_side(image));
    }
    result
}

fn drop_at(image: &mut RgbImage, behind: &RgbImage, [cx, cy]: [f32; 2], radius: f32) {
    let srgb = srgb();
    let (width, height) = (image.width as usize, image.height as usize);
    let view = DROP_VIEW * shorter_side(image);
    let ends = |c: f32, len: usize| {
        (
            (c - radius).max(0.0) as usize,
            ((c + radius).max(0.0) as usize + 1).min(len),
        )
    };
    let ((left, right), (top, bottom)) = (ends(cx, width), ends(cy, height));
    for y in top..bottom {
        for x in left..right {
            let (u, v) = (
                (x as f32 + 0.5 - cx) / radius,
                (y as f32 + 0.5 - cy) / radius,
            );
            let r2 = u * u + v * v;
            if r2 >= 1.0 {
                continue;
            }
            let from_x = (cx - u * view).clamp(0.0, width as f32 - 1.0) as usize;
            let from_y = (cy - v * view).clamp(0.0, height as f32 - 1.0) as usize;
            let from = 3 * (from_y * width + from_x);
            // Opaque in the middle, fading over the outer third of the radius; darker towards the
            // rim.
            let opaque = ((1.0 - r2) * 2.0).min(1.0);
            let bright = 1.0 - 0.5 * r2 * r2;
            let at = 3 * (y * width + x);
            for c in 0..3 {
                let (own, refracted) = (image.data[at + c], behind.data[from + c]);
                let own = srgb.light[usize::from(own)];
                let refracted = srgb.light[usize::from(refracted)] * bright;
                image.data[at + c] = srgb.level(own + (refracted - own) * opaque);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn white(width: u32, height: u32) -> RgbImage {
        RgbImage {
            width,
            height,
            data: vec![255; (width * height * 3) as usize],
        }
    }

    #[test]
    fn the_corner_has_the_share_of_light_that_was_asked_for() {
        for corner in [0.9, 0.5, 0.1] {
            let shaded = vignetting(&white(201, 101), corner, [0.5, 0.5]).data;
            let middle = shaded[3 * (50 * 201 + 100)];
            let share = srgb().light[usize::from(shaded[0])];
            assert_eq!(middle, 255);
            assert!((share - corner).abs() < 0.02, "{share} for {corner}");
        }
        assert_eq!(vignetting(&white(9, 9), 1.0, [0.5, 0.5]), white(9, 9));
    }

    #[test]
    fn light_falls_off_from_the_axis() {
        let shaded = vignetting(&white(99, 99), 0.3, [0.0, 0.5]).data;
        let middle_row: Vec<u8> = shaded[3 * 49 * 99..3 * 50 * 99]
            .iter()
            .step_by(3)
            .copied()
            .collect();
        assert!(middle_row.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn drops_change_only_what_they_cover() {
        let data = (0..120 * 90)
            .flat_map(|i| [(i % 120 * 2) as u8, (i / 120 * 2) as u8, 90])
            .collect();
        let image = RgbImage {
            width: 120,
            height: 90,
            data,
        };
        let changed = |count| {
            let wet = water_drops(&image, count, 3);
            let (a, b) = (wet.data.as_chunks::<3>().0, image.data.as_chunks::<3>().0);
            a.iter().zip(b).filter(|(a, b)| a != b).count()
        };
        assert_eq!(changed(0), 0);
        assert!(
            changed(4) > 50 && changed(4) < 120 * 90 / 4,
            "{}",
            changed(4)
        );
        assert!(changed(25) > 2 * changed(4));
    }

    #[test]
    fn a_drop_shows_the_scene_upside_down() {
        // Dark in the upper half, bright in the lower.
        let data = (0..100 * 100)
            .flat_map(|i| [if i < 5000 { 20 } else { 220 }; 3])
            .collect();
        let mut image = RgbImage {
            width: 100,
            height: 100,
            data,
        };
        let behind = image.clone();
        drop_at(&mut image, &behind, [50.0, 50.0], 15.0);
        let at = |y: usize| image.data[3 * (100 * y + 50)];
        assert!(at(45) > 150 && at(55) < 60, "{} {}", at(45), at(55));
    }
}
