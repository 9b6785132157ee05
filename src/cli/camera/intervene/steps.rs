//! The values that a control is moved to: a sensible part of its range, on both sides of where it stands.

use crate::capture::{Effect, SensorControl};

/// Exposure goes to 1/2.5 and to 2.5 of what it was: 1.3 stops either way, as between a cloudy and a clear sky.
const EXPOSURE_FACTOR: f64 = 2.5;
/// White balance goes to 1/1.4 and to 1.4 of what it was: from daylight to a lamp, and to shade.
const WHITE_BALANCE_FACTOR: f64 = 1.4;
/// Other controls have no unit: they move by this share of their range, either way.
const SHARE_OF_RANGE: f64 = 0.25;

/// Up to `count` values on each side of `base`, the lowest first; fewer where the range ends or steps are coarse.
#[expect(
    clippy::cast_possible_truncation,
    reason = "controls have ranges far below 2⁵²"
)]
pub(super) fn values(effect: Effect, control: &SensorControl, base: i64, count: u32) -> Vec<i64> {
    let (minimum, maximum) = (control.minimum as f64, control.maximum as f64);
    let at = |share: f64| match effect {
        Effect::Exposure => base as f64 * EXPOSURE_FACTOR.powf(share),
        Effect::WhiteBalance => base as f64 * WHITE_BALANCE_FACTOR.powf(share),
        _ => base as f64 + SHARE_OF_RANGE * share * (maximum - minimum),
    };
    let count = i64::from(count);
    let shares = (-count..=count).map(|k| k as f64 / count as f64);
    let possible = |value: f64| {
        let steps = (value.clamp(minimum, maximum) - minimum) / control.step as f64;
        (control.minimum + steps.round() as i64 * control.step).min(control.maximum)
    };
    let mut values: Vec<i64> = shares.map(|share| possible(at(share))).collect();
    values.dedup();
    values.retain(|&value| value != base);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(effect: Effect, minimum: i64, maximum: i64, step: i64) -> SensorControl {
        SensorControl {
            id: effect.id(),
            name: effect.name().into(),
            minimum,
            maximum,
            step,
        }
    }

    #[test]
    fn exposure_and_colour_temperature_move_by_factors_and_others_by_shares() {
        let exposure = control(Effect::Exposure, 1, 5000, 1);
        assert_eq!(
            values(Effect::Exposure, &exposure, 100, 2),
            [40, 63, 158, 250]
        );
        let kelvin = control(Effect::WhiteBalance, 2000, 6500, 10);
        assert_eq!(values(Effect::WhiteBalance, &kelvin, 4600, 1), [3290, 6440]);
        let hue = control(Effect::Hue, -128, 127, 1);
        assert_eq!(values(Effect::Hue, &hue, 0, 2), [-64, -32, 32, 64]);
    }

    #[test]
    fn the_ends_of_the_range_and_its_steps_are_kept() {
        let gain = control(Effect::Gain, 0, 255, 1);
        assert_eq!(values(Effect::Gain, &gain, 0, 2), [32, 64]);
        assert_eq!(values(Effect::Gain, &gain, 255, 2), [191, 223]);
        let coarse = control(Effect::Contrast, 0, 8, 8);
        assert_eq!(values(Effect::Contrast, &coarse, 0, 2), Vec::<i64>::new());
        let stuck = control(Effect::Exposure, 100, 100, 1);
        assert_eq!(values(Effect::Exposure, &stuck, 100, 2), Vec::<i64>::new());
    }
}
