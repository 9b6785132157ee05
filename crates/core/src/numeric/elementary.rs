//! Elementary functions that are bit-identical on every machine.
//!
//! The standard library's `powf` and `exp` are the platform's and may differ in the last bit between processors, but a
//! fit must give the same result on every machine. So these functions use only `+ - * /`, whose results IEEE 754 fixes.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "exponents are clamped to the range of f64"
)]

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

/// `e^x`, relative error below 1e-13. Beyond f64's range the result stays finite and above 0.
///
/// ```
/// use constancy_core::numeric::exp;
///
/// assert_eq!(exp(0.0), 1.0);
/// assert!((exp(1.0) - std::f64::consts::E).abs() < 1e-12);
/// ```
#[must_use]
pub fn exp(x: f64) -> f64 {
    /// |rest| is at most ln 2 / 2: its 14th power over 14! is below f64's resolution.
    const TERMS: u32 = 14;
    let doublings = (x * LOG2_E).round().clamp(-1022.0, 1022.0);
    let rest = (x - doublings * LN_2).clamp(-1.0, 1.0);
    let series = (1..=TERMS)
        .rev()
        .fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    let scale = f64::from_bits(((doublings as i64 + 1023) as u64) << 52);
    series * scale
}

/// `2^x`, rounded to f32.
#[must_use]
pub fn exp2(x: f32) -> f32 {
    exp(f64::from(x) * LN_2) as f32
}

/// `x^y` for `y` above 0; 0 if `x` is not above 0.
///
/// ```
/// use constancy_core::numeric::pow;
///
/// assert!((pow(9.0, 0.5) - 3.0).abs() < 1e-12);
/// assert_eq!(pow(-1.0, 2.0), 0.0);
/// ```
#[must_use]
pub fn pow(x: f64, y: f64) -> f64 {
    if x < f64::MIN_POSITIVE {
        0.0
    } else {
        exp(y * ln(x))
    }
}

/// The natural logarithm of a normal `x` above 0.
fn ln(x: f64) -> f64 {
    /// The series runs in squares of |t| ≤ (√2 − 1) / (√2 + 1); its 13th term is below f64's resolution.
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

/// Sine of an angle in turns (1 is a full circle). A Taylor polynomial, absolute error below 4e-6.
///
/// ```
/// use constancy_core::numeric::sine;
///
/// assert!((sine(0.25) - 1.0).abs() < 1e-5);
/// ```
#[must_use]
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
