//! Conversion between grey levels and linear light (sRGB, IEC 61966-2-1), and operations on every
//! pixel.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "light is clamped before it is a level"
)]

use crate::numeric::pow;
use crate::preprocess::RgbImage;
use std::sync::LazyLock;

/// Steps from black to full light in [`Srgb::level`]; a grey level spans at least 20 of them.
const STEPS: f32 = 65_535.0;

/// The tables between grey levels and linear light.
pub(super) struct Srgb {
    /// The linear light `0..=1` of each grey level.
    pub(super) light: [f32; 256],
    /// The grey level of linear light in steps of 1/65535.
    levels: Vec<u8>,
}

static SRGB: LazyLock<Srgb> = LazyLock::new(Srgb::new);

/// The tables, computed on first use.
pub(super) fn srgb() -> &'static Srgb {
    &SRGB
}

impl Srgb {
    fn new() -> Self {
        let light = std::array::from_fn(|v| decode(v as f64 / 255.0) as f32);
        let mut levels = Vec::with_capacity(STEPS as usize + 1);
        for v in 0..255 {
            let above = decode((f64::from(v) + 0.5) / 255.0);
            levels.resize((above * f64::from(STEPS)).ceil() as usize, v as u8);
        }
        levels.resize(STEPS as usize + 1, 255);
        Self { light, levels }
    }

    /// The grey level nearest to `light`, which is clipped to `0..=1` as in a sensor; 0 for NaN.
    pub(super) fn level(&self, light: f32) -> u8 {
        self.levels[(light.clamp(0.0, 1.0) * STEPS + 0.5) as usize]
    }

    /// The new grey level of each grey level after `change` of its linear light.
    pub(super) fn table(&self, change: impl Fn(f32) -> f32) -> [u8; 256] {
        self.light.map(|l| self.level(change(l)))
    }
}

/// sRGB's transfer function, `0..=1` to `0..=1`.
fn decode(value: f64) -> f64 {
    if value <= 0.04045 {
        value / 12.92
    } else {
        pow((value + 0.055) / 1.055, 2.4)
    }
}

/// `image` with every value replaced through the tables of red, green and blue.
pub(super) fn per_channel(image: &RgbImage, tables: [&[u8; 256]; 3]) -> RgbImage {
    let [red, green, blue] = tables;
    let (pixels, _) = image.data.as_chunks::<3>();
    let data = pixels.iter().flat_map(|&[r, g, b]| {
        [
            red[usize::from(r)],
            green[usize::from(g)],
            blue[usize::from(b)],
        ]
    });
    with_pixels(image, data.collect())
}

/// `image` with every pixel replaced by `change`.
pub(super) fn per_pixel(image: &RgbImage, mut change: impl FnMut([u8; 3]) -> [u8; 3]) -> RgbImage {
    let (pixels, _) = image.data.as_chunks::<3>();
    with_pixels(image, pixels.iter().flat_map(|&p| change(p)).collect())
}

/// `image` with the linear light of each pixel replaced by `change`, which gets column, row and
/// light (R, G, B).
pub(super) fn per_light(
    image: &RgbImage,
    change: impl Fn(usize, usize, [f32; 3]) -> [f32; 3],
) -> RgbImage {
    let srgb = srgb();
    let width = image.width as usize;
    let mut result = image.clone();
    for (y, row) in result.data.chunks_exact_mut(3 * width.max(1)).enumerate() {
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let light = pixel.map(|v| srgb.light[usize::from(v)]);
            *pixel = change(x, y, light).map(|l| srgb.level(l));
        }
    }
    result
}

/// An image of the size of `image` with pixels `data`.
pub(super) fn with_pixels(image: &RgbImage, data: Vec<u8>) -> RgbImage {
    RgbImage {
        width: image.width,
        height: image.height,
        data,
    }
}

/// The shorter side in pixels, the unit of relative lengths.
pub(super) fn shorter_side(image: &RgbImage) -> f32 {
    image.width.min(image.height) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_round_trips() {
        for v in 0..=255u8 {
            assert_eq!(srgb().level(srgb().light[usize::from(v)]), v);
        }
    }

    #[test]
    fn light_beyond_the_range_is_clipped() {
        assert_eq!(
            [-1.0, f32::NAN, 1.7, f32::INFINITY].map(|l| srgb().level(l)),
            [0, 0, 255, 255]
        );
    }

    #[test]
    fn known_levels_have_known_light() {
        // 188 is the level of half the light, 118 that of 18 % grey.
        assert!((srgb().light[188] - 0.5).abs() < 0.005);
        assert_eq!([0.5, 0.18].map(|l| srgb().level(l)), [188, 118]);
    }
}
