//! Statistics of samples.

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
