//! Confidence intervals of figures: the percentile bootstrap over images (Efron and Tibshirani, *An
//! Introduction to the Bootstrap*, chapter 13), and standard errors.
//!
//! A figure is the mean over groups (environments, families) of the mean over each group's images.
//! Images are resampled within their group, so that a large environment does not outweigh a small
//! one.

use crate::numeric::Rng;
use crate::stats::{Interval, quantile};

/// The default number of bootstrap draws: enough for the second digit of a bound at 95 %.
pub const DEFAULT_DRAWS: usize = 2_000;
/// The default level: the share of the draws between the bounds.
pub const DEFAULT_LEVEL: f64 = 0.95;

/// A percentile bootstrap: its seed, number of draws and level.
///
/// ```
/// use constancy_core::icm::Bootstrap;
///
/// // Hits of two environments, before and after a change that fixes one image of the first.
/// let before = [vec![1.0, 0.0, 0.0, 1.0], vec![1.0, 1.0]];
/// let after = [vec![1.0, 1.0, 0.0, 1.0], vec![1.0, 1.0]];
/// let bootstrap = Bootstrap::new(7);
/// let accuracy = bootstrap.mean(&after).ok_or("an empty group")?;
/// assert!((accuracy.estimate - 0.875).abs() < 1e-12);
/// assert!(accuracy.low <= accuracy.estimate && accuracy.estimate <= accuracy.high);
/// let gain = bootstrap.difference(&before, &after).ok_or("groups differ")?;
/// assert!((gain.estimate - 0.125).abs() < 1e-12 && gain.low >= 0.0);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    pub seed: u64,
    pub draws: usize,
    /// The share of the draws between the bounds, `0..1`.
    pub level: f64,
}

impl Bootstrap {
    /// [`DEFAULT_DRAWS`] draws at [`DEFAULT_LEVEL`].
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            draws: DEFAULT_DRAWS,
            level: DEFAULT_LEVEL,
        }
    }

    /// The interval of the mean over groups of `groups[group][image]`; `None` if a group is empty,
    /// or there is none.
    #[must_use]
    pub fn mean(&self, groups: &[Vec<f64>]) -> Option<Interval> {
        let (estimate, _) = mean_and_error(groups)?;
        let mut rng = Rng::new(self.seed);
        let mut draws: Vec<f64> = (0..self.draws.max(1))
            .map(|_| draw(groups, &mut rng))
            .collect();
        draws.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Some(Interval {
            estimate,
            low: quantile(&draws, tail),
            high: quantile(&draws, 1.0 - tail),
        })
    }

    /// The interval of the mean of `after − before`, paired image by image, so that shared
    /// variation cancels. `None` if the two do not have the same groups of the same sizes, or a
    /// group is empty.
    #[must_use]
    pub fn difference(&self, before: &[Vec<f64>], after: &[Vec<f64>]) -> Option<Interval> {
        self.mean(&differences(before, after)?)
    }
}

/// `after − before`, image by image; `None` if the groups or their sizes differ.
pub(super) fn differences(before: &[Vec<f64>], after: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let same =
        before.len() == after.len() && before.iter().zip(after).all(|(b, a)| b.len() == a.len());
    let group = |(b, a): (&Vec<f64>, &Vec<f64>)| b.iter().zip(a).map(|(b, a)| a - b).collect();
    same.then(|| before.iter().zip(after).map(group).collect())
}

/// The mean over groups of the groups' means, and its standard error over images; `None` if a group
/// is empty, or there is none.
#[must_use]
pub fn mean_and_error(groups: &[Vec<f64>]) -> Option<(f64, f64)> {
    if groups.is_empty() || groups.iter().any(Vec::is_empty) {
        return None;
    }
    let count = groups.len() as f64;
    let mean = groups.iter().map(|g| mean(g)).sum::<f64>() / count;
    let variance: f64 = groups.iter().map(|g| variance(g) / g.len() as f64).sum();
    Some((mean, variance.sqrt() / count))
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The variance of a sample; 0 for a single value.
fn variance(values: &[f64]) -> f64 {
    let center = mean(values);
    let squares: f64 = values.iter().map(|v| (v - center).powi(2)).sum();
    squares / (values.len() - 1).max(1) as f64
}

/// The mean of one resample.
fn draw(groups: &[Vec<f64>], rng: &mut Rng) -> f64 {
    // 32 random bits times a length, shifted: this saves a division in each of millions of draws.
    let mut index = |len: usize| (((rng.next_u64() >> 32) * len as u64) >> 32) as usize;
    let mut group =
        |g: &Vec<f64>| (0..g.len()).map(|_| g[index(g.len())]).sum::<f64>() / g.len() as f64;
    groups.iter().map(&mut group).sum::<f64>() / groups.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` values of which the first `ones` are 1.
    fn hits(ones: usize, n: usize) -> Vec<f64> {
        (0..n).map(|i| if i < ones { 1.0 } else { 0.0 }).collect()
    }

    #[test]
    fn a_share_has_the_binomial_interval() {
        let interval = Bootstrap::new(1).mean(&[hits(120, 400)]).unwrap();
        // 0.3 ± 1.96·√(0.3·0.7/400)
        assert!((interval.estimate - 0.3).abs() < 1e-12);
        assert!(
            (interval.low - 0.255).abs() < 0.005 && (interval.high - 0.345).abs() < 0.005,
            "{interval:?}"
        );
    }

    #[test]
    fn groups_of_any_size_have_the_same_weight() {
        let (mean, error) = mean_and_error(&[hits(900, 1000), hits(1, 10)]).unwrap();
        assert!((mean - 0.5).abs() < 1e-12);
        let expected = ((0.9 * 0.1 / 999.0) + (0.1 * 0.9 / 9.0f64)).sqrt() / 2.0;
        assert!((error - expected).abs() < 1e-9, "{error} for {expected}");
    }

    #[test]
    fn a_paired_difference_of_correlated_values_has_a_narrower_interval() {
        let (before, after) = (vec![hits(100, 400)], vec![hits(120, 400)]);
        let paired = Bootstrap::new(1).difference(&before, &after).unwrap();
        let alone = Bootstrap::new(1).mean(&after).unwrap();
        assert!(
            (paired.estimate - 0.05).abs() < 1e-12 && paired.low > 0.0,
            "{paired:?}"
        );
        assert!(paired.high - paired.low < alone.high - alone.low);
    }

    #[test]
    fn a_seed_gives_the_same_bounds_again() {
        let groups = [hits(3, 7), hits(2, 9)];
        assert_eq!(
            Bootstrap::new(9).mean(&groups),
            Bootstrap::new(9).mean(&groups)
        );
        assert_ne!(
            Bootstrap::new(9).mean(&groups),
            Bootstrap::new(10).mean(&groups)
        );
    }

    #[test]
    fn empty_groups_have_no_interval() {
        assert_eq!(Bootstrap::new(1).mean(&[]), None);
        assert_eq!(Bootstrap::new(1).mean(&[vec![1.0], vec![]]), None);
        assert_eq!(
            Bootstrap::new(1).difference(&[vec![1.0]], &[vec![1.0, 0.0]]),
            None
        );
    }
}
