//! The losses of logistic regression and their derivatives by the scores.

use super::linalg::Real;

/// The loss of the one score of two classes; the score becomes p − label.
pub(super) fn logistic_error(score: &mut f64, label: usize) -> f64 {
    let (s, y) = (*score, if label == 1 { 1.0 } else { 0.0 });
    // log(1 + eˢ) without overflow.
    let loss = s.max(0.0) + (-s.abs()).exp().ln_1p() - y * s;
    *score = 1.0 / (1.0 + (-s).exp()) - y;
    loss
}

/// The loss of an example's scores; the scores become p − one-hot. Exponentials are computed in T.
pub(super) fn softmax_errors<T: Real>(scores: &mut [f64], label: usize) -> f64 {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let own = scores[label] - most;
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        let power: T = nalgebra::convert(*score - most);
        *score = power.exp().in_f64();
        sum += *score;
    }
    for score in scores.iter_mut() {
        *score /= sum;
    }
    scores[label] -= 1.0;
    sum.ln() - own
}
