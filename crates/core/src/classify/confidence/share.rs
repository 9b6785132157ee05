//! Bounds of a share that was counted on few images, several answers each.

/// A share and the number of independent observations that it is worth.
///
/// Answers of one image under several interventions are not independent. As Korn and Graubard (1998) do for surveys,
/// the variance between images says how many independent observations would vary as much, and these go into Clopper and
/// Pearson's exact bound. They are never more than the images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// `0..=1`.
    pub estimate: f64,
    /// The effective number of observations.
    pub effective: f64,
}

impl Share {
    /// The share of hits in `groups` of (weight of all answers, weight of hits).
    ///
    /// ```
    /// use constancy_core::classify::Share;
    ///
    /// // 100 images with ten answers each: all or none of an image's answers are hits.
    /// let groups: Vec<(f64, f64)> = (0..100).map(|i| (10.0, if i < 20 { 10.0 } else { 0.0 })).collect();
    /// let share = Share::of(&groups);
    /// assert!((share.estimate - 0.2).abs() < 1e-12 && (share.effective - 97.0).abs() < 3.0);
    /// assert!(share.upper(0.95) > 0.26);
    /// ```
    #[must_use]
    pub fn of(groups: &[(f64, f64)]) -> Self {
        let images = kish(groups.iter().map(|g| g.0));
        let total: f64 = groups.iter().map(|g| g.0).sum();
        if total <= 0.0 {
            return Self {
                estimate: 0.0,
                effective: 0.0,
            };
        }
        let estimate = (groups.iter().map(|g| g.1).sum::<f64>() / total).clamp(0.0, 1.0);
        let m = groups.len() as f64;
        let squares: f64 = groups
            .iter()
            .map(|(all, hits)| (hits - estimate * all).powi(2))
            .sum();
        let variance = squares / (total * total) * m / (m - 1.0).max(1.0);
        let worth = estimate * (1.0 - estimate) / variance / few(m);
        let effective = if worth.is_finite() {
            worth.min(images)
        } else {
            images
        };
        Self {
            estimate,
            effective,
        }
    }

    /// The one-sided upper bound (Clopper and Pearson 1934) that the share stays below with probability `level`.
    #[must_use]
    pub fn upper(&self, level: f64) -> f64 {
        upper_bound(self.estimate * self.effective, self.effective, level)
    }

    /// The one-sided lower bound.
    #[must_use]
    pub fn lower(&self, level: f64) -> f64 {
        1.0 - upper_bound(
            (1.0 - self.estimate) * self.effective,
            self.effective,
            level,
        )
    }
}

/// By how much a variance that was estimated from `groups` widens an interval, squared: Student's t at 97.5 % over the
/// normal quantile (Abramowitz and Stegun 26.7.5).
fn few(groups: f64) -> f64 {
    let (z, freedom) = (1.96, (groups - 1.0).max(1.0));
    let first = (z * z * z + z) / (4.0 * freedom);
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * freedom * freedom);
    (1.0 + (first + second) / z).powi(2)
}

/// Kish's effective number of observations with these weights: (Σw)² / Σw².
fn kish(weights: impl Iterator<Item = f64>) -> f64 {
    let (sum, squares) = weights.fold((0.0, 0.0), |(s, q), w| (s + w, q + w * w));
    if squares > 0.0 {
        sum * sum / squares
    } else {
        0.0
    }
}

/// Clopper and Pearson's one-sided upper bound of a share of which `hits` of `n` were counted; both may be fractions.
///
/// ```
/// use constancy_core::classify::upper_bound;
///
/// // No hit among 59: below 5 % with probability 95 %, the "rule of three".
/// assert!((upper_bound(0.0, 59.0, 0.95) - 0.0495).abs() < 1e-4);
/// assert_eq!(upper_bound(3.0, 3.0, 0.95), 1.0);
/// ```
#[must_use]
pub fn upper_bound(hits: f64, n: f64, level: f64) -> f64 {
    if n <= 0.0 || hits >= n {
        return 1.0;
    }
    // The quantile of the beta distribution with parameters hits + 1 and n − hits.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if beta_cdf(hits + 1.0, n - hits, middle) < level {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The regularised incomplete beta function I_x(a, b) by its continued fraction (DLMF 8.17.22), evaluated by Lentz's
/// method.
pub(super) fn beta_cdf(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_cdf(b, a, 1.0 - x);
    }
    let front =
        (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let nonzero = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut fraction, mut above, mut below) = (1.0, 1.0, 0.0);
    for i in 0..1000u32 {
        let m = f64::from(i / 2);
        let numerator = if i == 0 {
            1.0
        } else if i % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        below = 1.0 / nonzero(1.0 + numerator * below);
        above = nonzero(1.0 + numerator / above);
        fraction *= above * below;
        if (above * below - 1.0).abs() < 1e-14 {
            break;
        }
    }
    (front * (fraction - 1.0)).clamp(0.0, 1.0)
}

/// ln Γ(x) for x > 0: Stirling's series above 10 (DLMF 5.11.1), reached by the recurrence.
pub(super) fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 0.0);
    while x < 10.0 {
        below += x.ln();
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    let series = (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_clopper_and_pearson() {
        // scipy.stats.beta.ppf(level, hits + 1, n - hits)
        for (hits, n, level, expected) in GOLDEN {
            let found = upper_bound(hits, n, level);
            assert!((found - expected).abs() < 1e-9, "{hits} of {n}: {found}");
        }
    }

    #[test]
    fn many_answers_of_few_images_are_worth_no_more_than_the_images() {
        let independent: Vec<(f64, f64)> = (0..100)
            .map(|i| (1.0, f64::from(u8::from(i < 5))))
            .collect();
        let several: Vec<(f64, f64)> = independent
            .iter()
            .map(|g| (20.0 * g.0, 20.0 * g.1))
            .collect();
        let (a, b) = (Share::of(&independent), Share::of(&several));
        assert!((a.effective - b.effective).abs() < 1e-9 && (85.0..=100.0).contains(&a.effective));
        let none: Vec<(f64, f64)> = (0..100).map(|_| (20.0, 0.0)).collect();
        assert!((Share::of(&none).effective - 100.0).abs() < 1e-9);
        assert!(Share::of(&[]).upper(0.9) >= 1.0);
    }

    const GOLDEN: [(f64, f64, f64, f64); 6] = [
        (0.0, 10.0, 0.9, 0.205_671_765_275_718_5),
        (3.0, 50.0, 0.95, 0.147_837_176_364_181_23),
        (2.5, 40.25, 0.95, 0.165_139_442_750_962_1),
        (190.0, 200.0, 0.9, 0.968_673_268_028_122_6),
        (700.0, 20_000.0, 0.95, 0.037_213_191_214_240_16),
        (0.1, 3.2, 0.99, 0.785_133_427_417_031_6),
    ];
}
