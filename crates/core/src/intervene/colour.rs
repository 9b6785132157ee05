//! Colour jitter and grey scale, as torchvision defines them for `uint8` tensors
//! (`torchvision.transforms.functional`): f32 arithmetic in torchvision's order, truncated to whole
//! levels, not rounded.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "levels are clamped before they are truncated"
)]

use super::srgb::{per_channel, per_pixel};
use crate::preprocess::RgbImage;

/// One step of a colour jitter, with torchvision's factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    /// 0 gives black, 1 the image, 2 twice the brightness (`adjust_brightness`).
    Brightness(f32),
    /// 0 gives the mean grey, 1 the image (`adjust_contrast`).
    Contrast(f32),
    /// 0 gives grey, 1 the image (`adjust_saturation`).
    Saturation(f32),
    /// Turns of the colour wheel, `-0.5..=0.5` (`adjust_hue`).
    Hue(f32),
}

/// `image` after one step of a colour jitter.
#[must_use]
pub fn jitter(image: &RgbImage, step: Jitter) -> RgbImage {
    match step {
        Jitter::Brightness(factor) => blended(image, factor, 0.0),
        Jitter::Contrast(factor) => blended(image, factor, mean_luma(image)),
        Jitter::Saturation(factor) => per_pixel(image, |pixel| {
            let grey = f32::from(luma(pixel));
            pixel.map(|v| blend(f32::from(v), grey, factor))
        }),
        Jitter::Hue(turns) => per_pixel(image, |pixel| rotate_hue(pixel, turns.clamp(-0.5, 0.5))),
    }
}

/// Sets every channel to the luma (ITU-R BT.601) of its pixel (`rgb_to_grayscale`).
#[must_use]
pub fn grey_scale(image: &RgbImage) -> RgbImage {
    per_pixel(image, |pixel| [luma(pixel); 3])
}

fn blended(image: &RgbImage, factor: f32, other: f32) -> RgbImage {
    let table: [u8; 256] = std::array::from_fn(|v| blend(v as f32, other, factor));
    per_channel(image, [&table; 3])
}

fn blend(value: f32, other: f32, factor: f32) -> u8 {
    (factor * value + (1.0 - factor) * other).clamp(0.0, 255.0) as u8
}

fn luma([r, g, b]: [u8; 3]) -> u8 {
    (0.2989 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)) as u8
}

fn mean_luma(image: &RgbImage) -> f32 {
    let (pixels, _) = image.data.as_chunks::<3>();
    let sum: u64 = pixels.iter().map(|&p| u64::from(luma(p))).sum();
    sum as f32 / pixels.len().max(1) as f32
}

/// Rotates the hue by `turns`, through HSV and back.
fn rotate_hue(pixel: [u8; 3], turns: f32) -> [u8; 3] {
    let [r, g, b] = pixel;
    let (brightest, darkest) = (r.max(g).max(b), r.min(g).min(b));
    if brightest == darkest {
        return pixel;
    }
    let unit = |v: u8| f32::from(v) / 255.0;
    let most = unit(brightest);
    let spread = most - unit(darkest);
    let saturation = spread / most;
    let [rc, gc, bc] = pixel.map(|v| (most - unit(v)) / spread);
    let sixths = if r == brightest {
        bc - gc
    } else if g == brightest {
        2.0 + rc - bc
    } else {
        4.0 + gc - rc
    };
    let hue = wrap_turn(wrap_turn(sixths / 6.0 + 1.0) + turns);
    to_rgb(hue, saturation, most).map(level)
}

/// Wraps a number of turns in `-1..2` into `0..=1`.
fn wrap_turn(x: f32) -> f32 {
    if x >= 1.0 {
        x - 1.0
    } else if x < 0.0 {
        x + 1.0
    } else {
        x
    }
}

fn to_rgb(hue: f32, saturation: f32, value: f32) -> [f32; 3] {
    let sixth = (hue * 6.0) as u8;
    let rest = hue * 6.0 - f32::from(sixth);
    let low = (value * (1.0 - saturation)).clamp(0.0, 1.0);
    let falling = (value * (1.0 - saturation * rest)).clamp(0.0, 1.0);
    let rising = (value * (1.0 - saturation * (1.0 - rest))).clamp(0.0, 1.0);
    match sixth {
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        5 => [value, low, falling],
        // A hue that rounds up to a full turn is red, like 0.
        _ => [value, rising, low],
    }
}

/// torchvision's conversion from `0..=1` to bytes: times 255.999, truncated.
fn level(value: f32) -> u8 {
    (value * 255.999) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RgbImage {
        let data = (0..3 * 32 * 8).map(|i| (i * 41 % 256) as u8).collect();
        RgbImage {
            width: 32,
            height: 8,
            data,
        }
    }

    #[test]
    fn a_factor_of_one_changes_nothing() {
        for step in [
            Jitter::Brightness(1.0),
            Jitter::Contrast(1.0),
            Jitter::Saturation(1.0),
        ] {
            assert_eq!(jitter(&image(), step), image(), "{step:?}");
        }
        let turned = jitter(&image(), Jitter::Hue(0.0));
        assert!(
            turned
                .data
                .iter()
                .zip(&image().data)
                .all(|(a, b)| a.abs_diff(*b) <= 1)
        );
    }

    #[test]
    fn a_factor_of_zero_gives_black_the_mean_or_grey() {
        assert!(
            jitter(&image(), Jitter::Brightness(0.0))
                .data
                .iter()
                .all(|&v| v == 0)
        );
        let flat = jitter(&image(), Jitter::Contrast(0.0));
        assert!(flat.data.iter().all(|&v| v == flat.data[0]));
        assert_eq!(
            jitter(&image(), Jitter::Saturation(0.0)),
            grey_scale(&image())
        );
    }

    #[test]
    fn grey_scale_has_equal_channels() {
        let grey = grey_scale(&image());
        assert!(
            grey.data
                .as_chunks::<3>()
                .0
                .iter()
                .all(|[r, g, b]| r == g && g == b)
        );
    }

    #[test]
    fn a_third_of_a_turn_makes_red_green() {
        let red = RgbImage {
            width: 1,
            height: 1,
            data: vec![200, 0, 0],
        };
        let turned = jitter(&red, Jitter::Hue(1.0 / 3.0)).data;
        assert!(
            turned[0] <= 1 && turned[1] >= 199 && turned[2] == 0,
            "{turned:?}"
        );
        let grey = RgbImage {
            width: 1,
            height: 1,
            data: vec![90; 3],
        };
        assert_eq!(jitter(&grey, Jitter::Hue(0.3)), grey);
    }
}
