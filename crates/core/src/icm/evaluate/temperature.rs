//! The temperature that makes a softmax true on images that its head was not learnt from (Guo et
//! al., *On Calibration of Modern Neural Networks*, ICML 2017).

use nalgebra::{DMatrix, DVectorView};

/// The inverse temperatures that are searched between.
const LIMITS: [f64; 2] = [1e-3, 1e3];
/// Halvings of the search: 2⁻⁴⁰ of ln 10⁶ is far below what matters.
const STEPS: usize = 40;

/// Logits `[classes, n]` and the row of each column's class.
pub(super) struct KnownAnswers {
    pub logits: DMatrix<f64>,
    pub truth: Vec<usize>,
}

/// The temperature of the greatest likelihood; 1 without answers. One more answer is supposed, for
/// which every class is as likely, because a few answers that are all right would make any other
/// certain. The likelihood is concave in the inverse temperature, so its derivative has one zero, or
/// none within the limits.
pub(super) fn temperature(answers: &[KnownAnswers]) -> f64 {
    if answers.iter().all(|known| known.truth.is_empty()) {
        return 1.0;
    }
    let [mut low, mut high] = LIMITS.map(f64::ln);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if slope(answers, middle.exp()) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    (-f64::midpoint(low, high)).exp()
}

/// The derivative of the log-likelihood by the inverse temperature: Σ over answers of the right
/// class's logit minus the expected logit.
fn slope(answers: &[KnownAnswers], inverse: f64) -> f64 {
    let count: usize = answers.iter().map(|known| known.truth.len()).sum();
    let of_any = 1.0 / count as f64;
    let of = |known: &KnownAnswers| -> f64 {
        let columns = known.logits.column_iter().zip(&known.truth);
        columns
            .map(|(logits, &truth)| {
                let expected = expected(logits, inverse);
                logits[truth] - expected + of_any * (logits.mean() - expected)
            })
            .sum()
    };
    answers.iter().map(of).sum()
}

fn expected(logits: DVectorView<'_, f64>, inverse: f64) -> f64 {
    let most = logits.max();
    let (mut sum, mut total) = (0.0, 0.0);
    for logit in &logits {
        let weight = (inverse * (logit - most)).exp();
        sum += weight * logit;
        total += weight;
    }
    sum / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temperature_makes_the_mean_probability_that_of_being_right() {
        // The logit of the answer is 3 above the other; three of four are right.
        let logits = DMatrix::from_fn(2, 40, |row, _| if row == 0 { 3.0 } else { 0.0 });
        let truth = (0..40).map(|i| usize::from(i % 4 == 0)).collect();
        let found = temperature(&[KnownAnswers { logits, truth }]);
        // 1 / (1 + exp(−3 / T)) = 30.5 / 41, with half of the answer that is supposed
        assert!(
            (found - 3.0 / (30.5 / 10.5f64).ln()).abs() < 1e-6,
            "{found}"
        );
    }

    #[test]
    fn a_few_right_answers_make_none_certain_and_wrong_ones_all_doubtful() {
        let all = |truth: usize| KnownAnswers {
            logits: DMatrix::from_column_slice(2, 1, &[1.0, 0.0]),
            truth: vec![truth],
        };
        // Probability 3/4 for a single right answer.
        assert!((temperature(&[all(0)]) - 1.0 / 3f64.ln()).abs() < 1e-6);
        assert!(temperature(&[all(1)]) > 0.9e3);
        assert!((temperature(&[]) - 1.0).abs() < 1e-12);
    }
}
