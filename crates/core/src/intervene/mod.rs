//! Interventions: image changes that preserve what makes a thing what it is.
//!
//! An image and the result of [`intervene`] form a pair that shares its invariant causes and
//! differs in one variant cause. The differences of such pairs' embeddings show in which directions
//! a change of environment moves them (`Δ = E[δ δᵀ]`; see [`icm`](crate::icm)).
//!
//! - [`Family`] names the kinds and says what strength `0..=1` means for each: the paper's seven
//!   ([`Family::PAPER`]) as `torchvision.transforms.functional` computes them on `uint8` tensors,
//!   and the changes that cameras suffer ([`Family::CAMERA`]), computed in linear light if they
//!   change light.
//! - [`Draw`] draws interventions from a seed and an image's index.
//! - The functions below, such as [`exposure`] or [`jpeg`], take parameters in their own units.
//!
//! Everything is deterministic: the same image, family, strength and seed give the same bytes on
//! every machine. Random numbers come from [`numeric::Rng`](crate::numeric::Rng). Pixels are
//! computed with `+ - * /` and square roots only, and powers are computed from these.
//!
//! Images may have any size. The cost of a blur grows with its length in pixels: changing the crop
//! that the encoder gets (`Preprocessor::crop`) is cheaper than changing the camera's frame, and
//! changes it equally.

mod blur;
mod colour;
mod draw;
mod family;
mod light;
mod optics;
mod sensor;
mod srgb;
mod tones;

pub use blur::{defocus, gaussian_blur, motion_blur};
pub use colour::{Jitter, grey_scale, jitter};
pub use draw::{Draw, Intervention};
pub use family::{Family, UnknownFamily};
pub use light::{DAYLIGHT_KELVIN, exposure, gamma, haze, white_balance};
pub use optics::{vignetting, water_drops};
pub use sensor::{banding, gain_noise, infrared, jpeg, low_light};
pub use tones::{equalise, invert, posterise, solarise};

use crate::numeric::{Rng, exp2};
use crate::preprocess::RgbImage;
use srgb::shorter_side;

/// Applies an intervention of `family` to `image`; the result has the same size.
///
/// `strength` is clamped to `0..=1`; 0 and NaN return the image unchanged. `seed` decides what
/// [`Family`] leaves to the seed.
///
/// ```
/// use constancy_core::intervene::{Family, intervene};
/// use constancy_core::preprocess::RgbImage;
///
/// let image = RgbImage { width: 2, height: 1, data: vec![10, 20, 30, 200, 210, 220] };
/// let negative = intervene(&image, Family::Inversion, 1.0, 0);
/// assert_eq!(negative.data, [245, 235, 225, 55, 45, 35]);
/// assert_eq!(intervene(&image, Family::Haze, 0.0, 0), image);
/// ```
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bits, levels, qualities and counts"
)]
pub fn intervene(image: &RgbImage, family: Family, strength: f32, seed: u64) -> RgbImage {
    let s = strength.clamp(0.0, 1.0);
    if s.is_nan() || s <= 0.0 || image.data.is_empty() {
        return image.clone();
    }
    let mut rng = Rng::new(seed);
    match family {
        Family::ColourJitter => jitters(s, &mut rng)
            .into_iter()
            .fold(image.clone(), |i, step| jitter(&i, step)),
        Family::GreyScale => grey_scale(image),
        Family::GaussianBlur => {
            let sigma_px = 0.022 * s * shorter_side(image);
            gaussian_blur(image, 2 * (3.0 * sigma_px).ceil() as usize + 1, sigma_px)
        }
        Family::Inversion => invert(image),
        Family::Posterise => posterise(image, 8 - (6.0 * s).round() as u32),
        Family::Solarise => solarise(image, 256 - (192.0 * s).round() as u16),
        Family::Equalise => equalise(image),
        Family::Exposure => exposure(image, if rng.chance(0.5) { -4.0 * s } else { 2.0 * s }),
        Family::Gamma => gamma(image, exp2(random_sign(1.2 * s, &mut rng))),
        Family::WhiteBalance => {
            let end = if rng.chance(0.5) { 2500.0 } else { 15_000.0 };
            let kelvin = 1.0 / (1.0 / DAYLIGHT_KELVIN + s * (1.0 / end - 1.0 / DAYLIGHT_KELVIN));
            white_balance(image, kelvin, 1.0 + rng.between(-0.15, 0.15) * s)
        }
        Family::GainNoise => gain_noise(image, 6.0 * s, rng.next_u64()),
        Family::MotionBlur => motion_blur(image, 0.1 * s, rng.unit()),
        Family::Defocus => defocus(image, 0.03 * s),
        Family::Jpeg => jpeg(image, (75.0 - 70.0 * s).round() as u8),
        Family::Vignetting => vignetting(image, 1.0 - 0.9 * s, near_centre(&mut rng)),
        Family::Banding => banding(image, 0.9 * s, rng.between(1.0, 12.0), rng.unit()),
        Family::Haze => haze(image, 1.0 - 0.8 * s, air(&mut rng)),
        Family::WaterDrops => water_drops(image, (30.0 * s).ceil() as usize, rng.next_u64()),
        Family::Infrared => {
            let red = rng.between(0.4, 0.7);
            let green = rng.between(0.1, 0.3);
            infrared(
                image,
                [red, green, 1.0 - red - green],
                2.5 * s,
                near_centre(&mut rng),
            )
        }
        Family::LowLight => low_light(image, 7.0 * s, 3.5 * s, rng.next_u64()),
    }
}

/// The four steps of a colour jitter in random order.
fn jitters(strength: f32, rng: &mut Rng) -> [Jitter; 4] {
    let mut around = |width: f32| rng.between(-width, width) * strength;
    let mut steps = [
        Jitter::Brightness(1.0 + around(0.8)),
        Jitter::Contrast(1.0 + around(0.8)),
        Jitter::Saturation(1.0 + around(0.8)),
        Jitter::Hue(around(0.2)),
    ];
    rng.shuffle(&mut steps);
    steps
}

fn random_sign(value: f32, rng: &mut Rng) -> f32 {
    if rng.chance(0.5) { value } else { -value }
}

/// A point off the centre by up to a tenth of width and height.
fn near_centre(rng: &mut Rng) -> [f32; 2] {
    [rng.between(0.4, 0.6), rng.between(0.4, 0.6)]
}

/// Linear light of hazy air: bluish by day, brownish with smoke and dust.
fn air(rng: &mut Rng) -> [f32; 3] {
    let (level, warmth) = (rng.between(0.45, 0.85), rng.between(-0.12, 0.12));
    [level * (1.0 + warmth), level, level * (1.0 - warmth)]
}

#[cfg(test)]
mod tests;
