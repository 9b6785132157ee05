//! What is said of many numbers.

/// The value below which `share` (`0..=1`) of `sorted` lies, ascending and at least one: on the line between the two
/// nearest (Hyndman and Fan's type 7, as NumPy's default).
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
    fn quantiles_lie_between_the_nearest() {
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
