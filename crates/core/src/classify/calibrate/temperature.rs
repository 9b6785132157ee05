//! The temperature of a softmax by maximum likelihood (Guo et al. 2017, *On Calibration of Modern Neural Networks*).

/// 1/T is searched for between these.
const RANGE: (f64, f64) = (1e-4, 1e4);

/// An answer whose class is known.
pub struct Labelled<'a> {
    /// `[C]`.
    pub logits: &'a [f32],
    pub truth: usize,
    pub weight: f64,
}

/// The temperature by which the answers are most likely. Half a right and half a wrong answer with two classes and the
/// mean gap are added, as Jeffreys' prior does for shares, so that few answers, or all right ones, give a temperature,
/// too. 1 if there is nothing to learn from.
///
/// ```
/// use constancy_core::classify::calibrate::{Labelled, temperature};
///
/// // Three of four answers are right where the logits' gap says e¹⁰ of them.
/// let logits = [10.0, 0.0];
/// let answers: Vec<Labelled<'_>> =
///     (0..1000).map(|i| Labelled { logits: &logits, truth: usize::from(i % 4 == 0), weight: 1.0 }).collect();
/// assert!((temperature(&answers) - 10.0 / 3.0f64.ln()).abs() < 0.03);
/// ```
#[must_use]
pub fn temperature(answers: &[Labelled<'_>]) -> f64 {
    let gap = |a: &Labelled<'_>| {
        let most = a.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mean = a.logits.iter().map(|&l| f64::from(l)).sum::<f64>() / a.logits.len() as f64;
        a.weight * (f64::from(most) - mean)
    };
    let weight: f64 = answers.iter().map(|a| a.weight).sum();
    let mean_gap = answers.iter().map(gap).sum::<f64>() / weight;
    if !(mean_gap.is_finite() && mean_gap > 0.0) {
        return 1.0;
    }
    // The slope of the negative log-likelihood by 1/T, which rises with it.
    let slope = |inverse: f64| {
        let prior = mean_gap * (0.5 - 1.0 / (1.0 + (inverse * mean_gap).exp()));
        prior
            + answers
                .iter()
                .map(|a| a.weight * excess(a, inverse))
                .sum::<f64>()
    };
    let (mut low, mut high) = (RANGE.0.ln(), RANGE.1.ln());
    for _ in 0..48 {
        let middle = 0.5 * (low + high);
        if slope(middle.exp()) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    (-0.5 * (low + high)).exp()
}

/// The mean logit under the softmax at 1/T, less that of the true class.
fn excess(answer: &Labelled<'_>, inverse: f64) -> f64 {
    let most = answer
        .logits
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for &l in answer.logits {
        let below = f64::from(l - most);
        let weight = (inverse * below).exp();
        sum += weight;
        weighted += weight * below;
    }
    weighted / sum - f64::from(answer.logits[answer.truth] - most)
}
