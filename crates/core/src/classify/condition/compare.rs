//! What an offset changes: answers to the same frames before and after.

use super::super::Classifier;
use crate::stats::quantile;
use serde::{Deserialize, Serialize};

/// The answers to some frames, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The mean confidence, `0..=1`; `None` without calibration.
    pub confidence: Option<f32>,
    /// The share of known answers, `0..=1`.
    pub known: f32,
    /// The median drift of what is left after the offset; `None` if the bank does not measure it.
    pub drift: Option<f32>,
}

/// The same frames with two offsets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub before: Summary,
    pub after: Summary,
    /// The share of frames that are answered alike, `0..=1`.
    pub agreement: f32,
}

impl Classifier {
    /// Compares the answers to embeddings `[D]` under two offsets.
    #[must_use]
    pub fn compare(
        &self,
        window: &[Vec<f32>],
        before: Option<&[f32]>,
        after: Option<&[f32]>,
    ) -> Comparison {
        let (before, first) = self.summary(window, before);
        let (after, second) = self.summary(window, after);
        let same = first.iter().zip(&second).filter(|(a, b)| a == b).count();
        Comparison {
            before,
            after,
            agreement: same as f32 / window.len().max(1) as f32,
        }
    }

    fn summary(&self, window: &[Vec<f32>], offset: Option<&[f32]>) -> (Summary, Vec<String>) {
        let (mut confidences, mut drifts) = (Vec::new(), Vec::new());
        let (mut known, mut answers) = (0, Vec::new());
        for embedding in window {
            let mut decision = self.classify_in(embedding, offset);
            confidences.extend(decision.confidence);
            drifts.extend(self.drift_left(embedding, offset).map(f64::from));
            known += usize::from(decision.known);
            answers.push(std::mem::take(&mut decision.top[0].class));
        }
        drifts.sort_by(f64::total_cmp);
        let count = window.len().max(1) as f32;
        let mean = confidences.iter().sum::<f32>() / confidences.len().max(1) as f32;
        let median = || crate::classify::confidence::narrow(quantile(&drifts, 0.5));
        let summary = Summary {
            confidence: (!confidences.is_empty()).then_some(mean),
            known: known as f32 / count,
            drift: (!drifts.is_empty()).then(median),
        };
        (summary, answers)
    }
}
