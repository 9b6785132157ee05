//! Elementary functions that are bit-identical on every machine.
//!
//! The standard library's `powf` and `exp` are the platform's own and differ in the last bit between processors; a
//! fit that one machine made must be the same on another. IEEE 754 fixes `+ - * /`, so only these are used.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "exponents are clamped to f64's"
)]

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

/// `e^x`, right to 1e-13 of its value; finite and above 0 beyond the ends of f64's range, too.
pub fn exp(x: f64) -> f64 {
    /// The rest is at most ln 2 / 2: its 14th power over 14! is below f64's resolution.
    const TERMS: u32 = 14;
    let doublings = (x * LOG2_E).round().clamp(-1022.0, 1022.0);
    let rest = (x - doublings * LN_2).clamp(-1.0, 1.0);
    let series = (1..=TERMS)
        .rev()
        .fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    let scale = f64::from_bits(((doublings as i64 + 1023) as u64) << 52);
    series * scale
}

/// `2^x`.
pub fn exp2(x: f32) -> f32 {
    exp(f64::from(x) * LN_2) as f32
}

/// `x^y` of a `y` above zero; 0 where `x` is not above zero.
pub fn pow(x: f64, y: f64) -> f64 {
    if x < f64::MIN_POSITIVE {
        0.0
    } else {
        exp(y * ln(x))
    }
}

/// The natural logarithm of a normal `x` above zero.
fn ln(x: f64) -> f64 {
    /// (√2 − 1)² to the 13th is below f64's resolution, and the series runs in squares.
    const TERMS: u32 = 13;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    // ln m = 2 artanh((m − 1) / (m + 1)).
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = (0..TERMS)
        .rev()
        .fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    2.0 * t * series + f64::from(exponent) * LN_2
}

/// Sine of `turns`; a Taylor polynomial, right to 4e-6.
pub fn sine(turns: f32) -> f32 {
    let x = turns - (turns + 0.5).floor();
    let x = if x > 0.25 {
        0.5 - x
    } else if x < -0.25 {
        -0.5 - x
    } else {
        x
    };
    let a = x * std::f32::consts::TAU;
    let s = a * a;
    a * (1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_the_standard_library() {
        for i in -400..=400 {
            let x = f64::from(i) / 16.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "e^{x}");
            assert!(
                (ln(x.exp()) - x).abs() < 1e-13 * x.abs().max(1.0),
                "ln e^{x}"
            );
        }
        for i in 1..=255 {
            let x = f64::from(i) / 255.0;
            for y in [0.3, 1.0 / 2.4, 1.0, 2.4] {
                assert!((pow(x, y) / x.powf(y) - 1.0).abs() < 1e-13, "{x}^{y}");
            }
        }
        assert_eq!(pow(0.0, 2.4).to_bits(), 0.0f64.to_bits());
        assert_eq!(
            [exp2(-1.0), exp2(0.0), exp2(3.0)].map(f32::to_bits),
            [0.5f32, 1.0, 8.0].map(f32::to_bits)
        );
    }

    #[test]
    fn the_ends_of_the_range_stay_finite() {
        for x in [-1e9, -800.0, 800.0, 1e9] {
            assert!(exp(x).is_finite(), "{x}");
        }
    }

    #[test]
    fn sine_is_a_sine() {
        for i in -200..200 {
            let turns = i as f32 / 37.0;
            assert!(
                (sine(turns) - (turns * std::f32::consts::TAU).sin()).abs() < 2e-5,
                "{turns}"
            );
        }
    }
}
