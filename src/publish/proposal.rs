//! What a calibration would change, or changed.

use constancy_core::classify::condition::{Comparison, Offset, OffsetKind, Refusal, Summary};
use serde::Serialize;

/// Below this share, a person is told that another mix of classes may be what moved.
const MOSTLY_LIGHT: f32 = 0.5;

/// What a calibration on a camera's recent frames would change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proposal {
    /// Frames that it rests on.
    pub frames: usize,
    /// Whether these frames can be calibrated on.
    pub possible: bool,
    /// `None` where it is not possible.
    pub before: Option<Shown>,
    pub after: Option<Shown>,
    /// The share of frames that would be answered as before, `0..=1`.
    pub agreement: Option<f32>,
    /// The same in words, or why it is not possible.
    pub detail: String,
}

/// A summary, rounded for people.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shown {
    /// The mean confidence, `0..=1`.
    pub confidence: Option<f32>,
    /// The share of known answers, `0..=1`.
    pub known: f32,
    /// The median drift.
    pub drift: Option<f32>,
}

impl From<Summary> for Shown {
    fn from(summary: Summary) -> Self {
        Self {
            confidence: summary.confidence.map(rounded),
            known: rounded(summary.known),
            drift: summary.drift.map(rounded),
        }
    }
}

fn rounded(value: f32) -> f32 {
    (value * 1e3).round() / 1e3
}

impl Proposal {
    /// From an estimate on so many frames and, where there is one, what it changes.
    pub(crate) fn new(
        frames: usize,
        offset: &Result<Offset, Refusal>,
        shown: Option<&Comparison>,
    ) -> Self {
        let detail = match (offset, shown) {
            (Ok(offset), Some(shown)) => format!(
                "send the command `calibrate` to take it: {}",
                Self::text(offset, shown)
            ),
            (Err(refusal), _) => format!("it cannot be calibrated on its recent frames: {refusal}"),
            (Ok(_), None) => String::new(),
        };
        Self {
            frames,
            possible: offset.is_ok(),
            before: shown.map(|s| s.before.into()),
            after: shown.map(|s| s.after.into()),
            agreement: shown.map(|s| rounded(s.agreement)),
            detail,
        }
    }

    /// What changes, for a person.
    pub(crate) fn text(offset: &Offset, shown: &Comparison) -> String {
        let frames = offset.frames;
        let limited = match offset.kind {
            OffsetKind::Whole if offset.light < MOSTLY_LIGHT => {
                ", whose move may be another mix of classes, so little of it is undone"
            }
            OffsetKind::Whole => "",
            OffsetKind::Limited => " of few classes, so only where light moves most",
        };
        let Comparison {
            before,
            after,
            agreement,
        } = shown;
        let percent = |v: f32| v * 100.0;
        let pair = |name: &str, before: Option<f32>, after: Option<f32>| match before.zip(after) {
            Some((before, after)) => format!(", {name} {before:.2} → {after:.2}"),
            None => String::new(),
        };
        format!(
            "{frames} frames{limited}: known {:.0} → {:.0} %{}{}; {:.0} % answered as before",
            percent(before.known),
            percent(after.known),
            pair("confidence", before.confidence, after.confidence),
            pair("drift", before.drift, after.drift),
            percent(*agreement),
        )
    }
}
