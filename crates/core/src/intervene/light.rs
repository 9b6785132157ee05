//! Light before it reaches the camera, and the exposure and tone curve of the camera.

use super::srgb::{per_channel, per_light, srgb};
use crate::numeric::{exp2, pow};
use crate::preprocess::RgbImage;

/// `ev` stops more light; each stop doubles it, as one step of aperture or shutter does. Highlights
/// clip, as in a sensor.
#[must_use]
pub fn exposure(image: &RgbImage, ev: f32) -> RgbImage {
    let gain = exp2(ev);
    let table = srgb().table(|light| light * gain);
    per_channel(image, [&table; 3])
}

/// Raises values `0..=1` to the power of `exponent` (above 0): below 1 lifts the shadows, above 1
/// deepens them. This is the error of a camera whose tone curve differs from the display's.
#[must_use]
pub fn gamma(image: &RgbImage, exponent: f32) -> RgbImage {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "powers of 0..=1 stay within 0..=1"
    )]
    let table: [u8; 256] =
        std::array::from_fn(|v| (pow(v as f64 / 255.0, f64::from(exponent)) * 255.0 + 0.5) as u8);
    per_channel(image, [&table; 3])
}

/// The colour temperature that a camera balanced for daylight renders white, kelvin.
pub const DAYLIGHT_KELVIN: f32 = 6504.0;

/// The light of a black body of `kelvin` (`1667..=25000`) seen by a camera that is balanced for
/// daylight, or the error of an automatic white balance. `green` multiplies the green channel:
/// above 1 for fluorescent light, below 1 for its overcorrection. White keeps its luminance. Each
/// channel is scaled independently (von Kries, in sRGB's primaries).
#[must_use]
pub fn white_balance(image: &RgbImage, kelvin: f32, green: f32) -> RgbImage {
    let (light, white) = (black_body(kelvin), black_body(DAYLIGHT_KELVIN));
    let tint = [1.0, green, 1.0];
    let gain: [f32; 3] = std::array::from_fn(|c| light[c] / white[c] * tint[c]);
    let luminance = 0.2126 * gain[0] + 0.7152 * gain[1] + 0.0722 * gain[2];
    let [red, green, blue] =
        gain.map(|g| srgb().table(|light| light * g / luminance.max(f32::MIN_POSITIVE)));
    per_channel(image, [&red, &green, &blue])
}

/// Linear sRGB of a black body of luminance 1; out-of-gamut values are clipped at 0.
fn black_body(kelvin: f32) -> [f32; 3] {
    let [x, y] = planckian(kelvin);
    let (big_x, big_z) = (x / y, (1.0 - x - y) / y);
    // CIE XYZ to sRGB's primaries (IEC 61966-2-1).
    let rgb = [
        3.240_625 * big_x - 1.537_208 - 0.498_629 * big_z,
        -0.968_931 * big_x + 1.875_756 + 0.041_518 * big_z,
        0.055_710 * big_x - 0.204_021 + 1.056_996 * big_z,
    ];
    rgb.map(|c| c.max(0.0))
}

/// CIE 1931 chromaticity of a black body, by the cubic splines of Kim et al., *Color temperature
/// conversion system and method using the same*, US patent 7,024,034 (2006): 1667 to 25,000 K.
fn planckian(kelvin: f32) -> [f32; 2] {
    let kelvin = if kelvin.is_nan() {
        DAYLIGHT_KELVIN
    } else {
        kelvin.clamp(1667.0, 25_000.0)
    };
    let cubic = |x: f32, [a, b, c, d]: [f32; 4]| ((a * x + b) * x + c) * x + d;
    let of_inverse = if kelvin < 4000.0 {
        [-0.266_123_9, -0.234_358_9, 0.877_695_6, 0.179_91]
    } else {
        [-3.025_847, 2.107_038, 0.222_634_7, 0.240_39]
    };
    let x = cubic(1000.0 / kelvin, of_inverse);
    let of_x = if kelvin < 2222.0 {
        [-1.106_381_4, -1.348_110_2, 2.185_558_3, -0.202_196_83]
    } else if kelvin < 4000.0 {
        [-0.954_947_6, -1.374_185_9, 2.091_37, -0.167_488_67]
    } else {
        [3.081_758, -5.873_387, 3.751_13, -0.370_014_83]
    };
    [x, cubic(x, of_x)]
}

/// Haze: the scene's light J attenuated over the distance, plus the air's own light A (Koschmieder
/// 1924; Narasimhan and Nayar, *Vision and the atmosphere*, IJCV 2002): `J t + A (1 − t)`, with t =
/// e^(−βd).
///
/// `transmission` (`0..=1`) is t at the top of the image, `air` the linear light A. An image alone
/// does not reveal depth: here the lower edge is half as far away as the upper one, as for a camera
/// that looks slightly down.
#[must_use]
pub fn haze(image: &RgbImage, transmission: f32, air: [f32; 3]) -> RgbImage {
    let last = (image.height.max(2) - 1) as f32;
    let transmission = f64::from(transmission.clamp(0.0, 1.0));
    let depth = |y: u32| 1.0 - 0.5 * y as f32 / last;
    #[expect(clippy::cast_possible_truncation, reason = "a share between 0 and 1")]
    let through: Vec<f32> = (0..image.height)
        .map(|y| pow(transmission, f64::from(depth(y))) as f32)
        .collect();
    per_light(image, |_, row, light| {
        let t = through[row];
        std::array::from_fn(|c| light[c] * t + air[c] * (1.0 - t))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> RgbImage {
        let data = (0..=255u8).flat_map(|v| [v, v / 2, 255 - v]).collect();
        RgbImage {
            width: 16,
            height: 16,
            data,
        }
    }

    fn patch(rgb: [u8; 3]) -> RgbImage {
        RgbImage {
            width: 1,
            height: 1,
            data: rgb.to_vec(),
        }
    }

    #[test]
    fn one_stop_less_halves_the_light_and_one_more_doubles_it() {
        let light = srgb().light;
        for (ev, factor) in [(-1.0, 0.5), (1.0, 2.0), (-3.0, 0.125)] {
            let exposed = exposure(&ramp(), ev);
            for (&was, &is) in ramp().data.iter().zip(&exposed.data) {
                let wanted = (light[usize::from(was)] * factor).min(1.0);
                // Within half a step of the neighbouring levels.
                let (below, above) = (is.saturating_sub(1), is.saturating_add(1));
                let low = f32::midpoint(light[usize::from(below)], light[usize::from(is)]);
                let high = f32::midpoint(light[usize::from(above)], light[usize::from(is)]);
                assert!(
                    (low - 1e-3..=high + 1e-3).contains(&wanted),
                    "{was} at {ev} EV gave {is}"
                );
            }
        }
    }

    #[test]
    fn gamma_keeps_black_and_white_and_moves_what_is_between() {
        for exponent in [0.4, 2.5] {
            assert_eq!(gamma(&patch([0, 255, 0]), exponent), patch([0, 255, 0]));
        }
        let (lifted, deepened) = (gamma(&patch([100; 3]), 0.5), gamma(&patch([100; 3]), 2.0));
        assert_eq!((lifted.data[0], deepened.data[0]), (160, 39));
    }

    #[test]
    fn black_bodies_have_the_chromaticity_of_standard_light() {
        // CIE illuminant A is a black body of 2856 K; 6504 K and 2000 K follow Planck's law.
        for (kelvin, expected) in [
            (2856.0, [0.4476, 0.4074]),
            (6504.0, [0.3135, 0.3237]),
            (2000.0, [0.5267, 0.4133]),
        ] {
            let got = planckian(kelvin);
            for (a, b) in got.iter().zip(expected) {
                assert!((a - b).abs() < 0.001, "{kelvin} K: {got:?}");
            }
        }
    }

    #[test]
    fn the_splines_of_the_black_body_locus_meet() {
        for joint in [2222.0, 4000.0] {
            let (below, above) = (planckian(joint - 0.01), planckian(joint));
            assert!(
                (below[0] - above[0]).abs() + (below[1] - above[1]).abs() < 0.001,
                "{joint} K"
            );
        }
    }

    #[test]
    fn daylight_changes_nothing_and_lamps_are_warm() {
        assert_eq!(white_balance(&ramp(), DAYLIGHT_KELVIN, 1.0), ramp());
        let tinted = |kelvin, green| white_balance(&patch([128; 3]), kelvin, green).data;
        let (warm, cold) = (tinted(2856.0, 1.0), tinted(15_000.0, 1.0));
        assert!(warm[0] > warm[1] && warm[1] > warm[2], "{warm:?}");
        assert!(cold[0] < cold[1] && cold[1] < cold[2], "{cold:?}");
        assert!(tinted(DAYLIGHT_KELVIN, 1.2)[1] > 128 && tinted(DAYLIGHT_KELVIN, 0.8)[1] < 128);
    }

    #[test]
    fn white_balance_keeps_the_luminance_of_grey() {
        for kelvin in [2500.0, 4000.0, 12_000.0] {
            let light = white_balance(&patch([100; 3]), kelvin, 1.1);
            let light: Vec<f32> = light
                .data
                .iter()
                .map(|&v| srgb().light[usize::from(v)])
                .collect();
            let luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
            assert!(
                (luminance / srgb().light[100] - 1.0).abs() < 0.02,
                "{kelvin} K: {luminance}"
            );
        }
    }

    #[test]
    fn haze_hides_distant_parts() {
        let image = RgbImage {
            width: 1,
            height: 3,
            data: vec![0; 9],
        };
        let hazy = haze(&image, 0.25, [1.0; 3]).data;
        // Black shows the air only: 1 − 0.25 at the top, 1 − √0.25 at the bottom.
        assert_eq!([hazy[0], hazy[6]], [0.75, 0.5].map(|air| srgb().level(air)));
        assert!(hazy[0] > hazy[3] && hazy[3] > hazy[6]);
        assert_eq!(haze(&ramp(), 1.0, [0.8; 3]), ramp());
    }
}
