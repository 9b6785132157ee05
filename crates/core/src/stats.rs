//! Statistics of samples.

use serde::Serialize;

/// The standard normal quantile of 97.5 %, for intervals at 95 %.
const Z_95: f64 = 1.959_963_984_540_054;

/// An estimate and the bounds of its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    pub estimate: f64,
    pub low: f64,
    pub high: f64,
}

/// The share of `hits` in `of`, with Wilson's interval at 95 % (Wilson 1927). It holds for small
/// counts and for shares near 0 and 1, where a bootstrap gives too narrow a one. Without any, the
/// interval is all of `0..=1`.
///
/// ```
/// use constancy_core::stats::wilson;
///
/// let share = wilson(10.0, 10.0);
/// assert!(share.estimate > 0.999 && share.high > 0.999 && (share.low - 0.7225).abs() < 1e-4);
/// ```
#[must_use]
pub fn wilson(hits: f64, of: f64) -> Interval {
    if of <= 0.0 {
        let (low, high) = (0.0, 1.0);
        return Interval {
            estimate: 0.5,
            low,
            high,
        };
    }
    let (share, z2) = (hits / of, Z_95 * Z_95);
    let centre = (share + z2 / (2.0 * of)) / (1.0 + z2 / of);
    let spread = share * (1.0 - share) / of + z2 / (4.0 * of * of);
    let half = Z_95 * spread.max(0.0).sqrt() / (1.0 + z2 / of);
    Interval {
        estimate: share,
        low: (centre - half).clamp(0.0, share),
        high: (centre + half).clamp(share, 1.0),
    }
}

/// The quantile at `share` (`0..=1`) of `sorted`, which is ascending and not empty. Interpolates
/// linearly between neighbours (Hyndman and Fan's type 7, NumPy's default).
///
/// # Panics
///
/// If `sorted` is empty.
///
/// ```
/// use constancy_core::stats::quantile;
///
/// assert!((quantile(&[0.0, 1.0, 2.0, 3.0], 0.5) - 1.5).abs() < 1e-12);
/// ```
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 ≤ at < len"
    )]
    let below = at as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_interpolate_between_neighbours() {
        let sorted = [0.0, 1.0, 2.0, 3.0];
        let found = [0.0, 0.5, 0.9, 1.0].map(|share| quantile(&sorted, share));
        let expected = [0.0, 1.5, 2.7, 3.0];
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(f, e)| (f - e).abs() < 1e-12),
            "{found:?}"
        );
        assert!((quantile(&[7.0], 0.3) - 7.0).abs() < 1e-12);
    }
}
