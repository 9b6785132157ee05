//! What a class bank knows of the light that it was calibrated in.

use super::mix::ClassMix;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most directions of the offset of frames of one class, and of a running one.
pub const MAX_AXES: usize = 3;

/// Points that make an offset worth the risk.
const WORTH: f32 = 1.0;

/// The light of the calibration. It belongs to the [`Confidence`](crate::classify::Confidence) that it was made with.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The mean of the clean calibration images' unit embeddings, every class weighing the same: `[D]`.
    pub mean: Vec<f32>,
    /// The directions that light moves most in proportion to how far images lie apart: orthonormal, `[q, D]`, q from 0 to
    /// [`MAX_AXES`].
    pub axes: Vec<Vec<f32>>,
    /// Where the classes lie around the mean.
    pub mix: ClassMix,
    /// Windows of frames whose scatter between classes is a larger share than this show several classes: the logarithm of
    /// the share that 99 % of windows of one class do not exceed, if simulated ones are told by their mean and deviation.
    pub limit: f32,
    /// The usual logarithm of that share for all classes, and for one.
    pub usual: [f32; 2],
    pub running: Running,
}

/// An offset that follows the light, as it was simulated when the bank was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// Frames that it is estimated from.
    pub window: u32,
    /// Frames of the calibration's light that it is mixed with.
    pub shrink: u32,
    /// Whether no stream lost more than a point.
    pub allowed: bool,
    /// What streams of the bank's images gained.
    pub streams: Vec<StreamResult>,
}

/// A kind of stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// All classes in random order.
    Mixed,
    /// One class after another.
    ClassAfterClass,
    /// One class alone; of all classes, the one that lost most.
    OneClass,
    /// One class, and one in twenty images of others, which count as much.
    RareDefect,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mixed => "mixed",
            Self::ClassAfterClass => "class after class",
            Self::OneClass => "one class",
            Self::RareDefect => "rare defect",
        })
    }
}

/// The share of right answers to a simulated stream, `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamResult {
    pub stream: Stream,
    pub without: f32,
    pub with: f32,
}

impl StreamResult {
    /// Percentage points.
    #[must_use]
    pub fn gain(&self) -> f32 {
        100.0 * (self.with - self.without)
    }
}

impl Running {
    /// Whether a stream of one class may be followed, and following gains something.
    #[must_use]
    pub fn helps(&self) -> bool {
        let mixed = self.streams.iter().find(|r| r.stream == Stream::Mixed);
        self.allowed && mixed.is_some_and(|r| r.gain() >= WORTH)
    }
}

impl Reference {
    /// What a person is told of the running offset.
    #[must_use]
    pub fn describe(&self) -> String {
        let gain = |r: &StreamResult| format!("{} {:+.1}", r.stream, r.gain());
        let gains: Vec<String> = self.running.streams.iter().map(gain).collect();
        let verdict = if self.running.allowed {
            "may follow the light by itself"
        } else {
            "may not follow the light by itself"
        };
        if gains.is_empty() {
            return format!("{verdict} (no interventions were simulated)");
        }
        format!(
            "{verdict} (simulated streams, points: {})",
            gains.join(", ")
        )
    }

    /// The coordinates of a unit embedding `[D]` along the axes, less those of the mean.
    #[must_use]
    pub fn coordinates(&self, unit: &[f32]) -> Vec<f32> {
        let along = |axis: &Vec<f32>| {
            let terms = axis.iter().zip(unit).zip(&self.mean);
            terms.map(|((a, u), m)| a * (u - m)).sum()
        };
        self.axes.iter().map(along).collect()
    }

    /// The vector `[D]` with these coordinates.
    #[must_use]
    pub fn vector(&self, coordinates: &[f32]) -> Vec<f32> {
        let mut vector = vec![0.0; self.mean.len()];
        for (axis, c) in self.axes.iter().zip(coordinates) {
            vector.iter_mut().zip(axis).for_each(|(v, a)| *v += c * a);
        }
        vector
    }

    /// Says what is wrong with values that no calibration gives; `width` is D.
    pub(super) fn check(&self, width: usize) -> Result<(), String> {
        let finite = |v: &[f32]| v.len() == width && v.iter().all(|v| v.abs() < 1e3);
        let axes_fit = self.axes.len() <= MAX_AXES && self.axes.iter().all(|a| finite(a));
        if !finite(&self.mean) || !axes_fit || self.mix.is_impossible(width) {
            return Err("has an impossible light of its calibration".into());
        }
        let numbers = [self.limit, self.usual[0], self.usual[1]];
        if !numbers.iter().all(|v| v.is_finite()) || self.running.window == 0 {
            return Err("has impossible limits of what frames of one class are".into());
        }
        Ok(())
    }
}
