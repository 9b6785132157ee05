//! The reference picture of a camera: what it usually shows, as far as light does not change it.

use super::glance::{CELL_COLUMNS, CELLS, Glance, TILES};
use std::time::Duration;

/// A reference is learnt from at least this many frames in at least this time.
const LEAST_FRAMES: u32 = 40;
const LEAST_TIME: Duration = Duration::from_secs(60);
/// A cell belongs to the background if it is visible this often, and nearly always lighter, or nearly always darker, than
/// what is around it.
const VISIBLE: f32 = 0.3;
const STEADY: f32 = 0.7;
/// The least share of cells that make a background by which a move can be told.
const BACKGROUND: f32 = 0.1;
/// The background is compared in 4 × 3 regions: what lies in front of it hides some of them, a move changes all.
const REGION_COLUMNS: usize = 4;
pub(super) const REGIONS: usize = REGION_COLUMNS * 3;
/// A frame with less structure shows nothing: cells differ by less than 0.3 %.
const BLANK: f32 = 1e-5;
/// If more frames than this showed nothing, a covered lens would not be told from what is usual.
const MOST_BLANK: f32 = 0.02;

/// What a camera usually shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The number of frames that it was learnt from.
    pub frames: u32,
    /// The share of frames that showed nothing.
    pub(super) blank: f32,
    /// The mean logarithm of [`Glance::structure`].
    pub(super) structure: f32,
    /// The mean sharpness; 0 if it was never seen.
    pub(super) sharpness: f32,
    /// The mean [`Glance::signs`] of the cells that make the background; 0 for others. `[CELLS]`.
    pub(super) background: Vec<f32>,
    /// The mean [`Glance::profile`], `[TILES]`; 0 for tiles that were never judged.
    pub(super) profile: Vec<f32>,
}

impl Reference {
    /// Whether something in the picture always stays where it is, so that a move can be told.
    #[must_use]
    pub fn has_background(&self) -> bool {
        let cells = self.background.iter().filter(|&&m| m != 0.0).count();
        cells as f32 >= BACKGROUND * CELLS as f32
    }

    /// Whether a picture without detail is unusual.
    pub(super) fn is_never_blank(&self) -> bool {
        self.blank <= MOST_BLANK
    }
}

/// The region of a cell.
pub(super) fn region(cell: usize) -> usize {
    let (x, y) = (cell % CELL_COLUMNS, cell / CELL_COLUMNS);
    y * (REGIONS / REGION_COLUMNS) / (CELLS / CELL_COLUMNS) * REGION_COLUMNS
        + x * REGION_COLUMNS / CELL_COLUMNS
}

/// Learns a [`Reference`].
#[derive(Debug, Clone)]
pub(super) struct Learner {
    started_ns: Option<u64>,
    frames: u32,
    blank: u32,
    structure: f32,
    sharpness: Mean,
    signs: Steadiness,
    profile: Vec<Mean>,
}

impl Learner {
    pub(super) fn new() -> Self {
        Self {
            started_ns: None,
            frames: 0,
            blank: 0,
            structure: 0.0,
            sharpness: Mean::default(),
            signs: Steadiness::new(),
            profile: vec![Mean::default(); TILES],
        }
    }

    /// Takes a frame that shows no fault; returns the reference when there is enough.
    pub(super) fn learn(&mut self, glance: &Glance, monotonic_ns: u64) -> Option<Reference> {
        let started_ns = *self.started_ns.get_or_insert(monotonic_ns);
        if glance.structure < BLANK {
            self.blank += 1;
            return None;
        }
        self.frames += 1;
        self.structure += glance.structure.ln();
        if let Some(sharpness) = glance.statistics.sharpness {
            self.sharpness.add(sharpness);
        }
        self.signs.add(&glance.signs, 1.0 / self.frames as f32);
        for (mean, &value) in self.profile.iter_mut().zip(&glance.profile) {
            mean.add(value);
        }
        let learnt = Duration::from_nanos(monotonic_ns.saturating_sub(started_ns));
        (self.frames >= LEAST_FRAMES && learnt >= LEAST_TIME).then(|| self.reference())
    }

    fn reference(&self) -> Reference {
        let frames = self.frames.max(1) as f32;
        Reference {
            frames: self.frames,
            blank: self.blank as f32 / (self.blank as f32 + frames),
            structure: self.structure / frames,
            sharpness: self.sharpness.value(),
            background: self.signs.steady(),
            profile: self.profile.iter().map(|m| m.value()).collect(),
        }
    }
}

/// A mean of the values that are numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f32,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f32) {
        if !value.is_nan() {
            self.sum += value;
            self.count += 1;
        }
    }

    /// The mean; 0 without values.
    fn value(self) -> f32 {
        self.sum / self.count.max(1) as f32
    }
}

/// Which cells stay lighter or darker than what is around them.
#[derive(Debug, Clone)]
pub(super) struct Steadiness {
    /// The mean of the signs, and of their absolute values.
    mean: Vec<f32>,
    size: Vec<f32>,
}

impl Steadiness {
    pub(super) fn new() -> Self {
        Self {
            mean: vec![0.0; CELLS],
            size: vec![0.0; CELLS],
        }
    }

    /// Takes a frame's signs with this weight in the means.
    pub(super) fn add(&mut self, signs: &[f32], weight: f32) {
        for ((mean, size), &sign) in self.mean.iter_mut().zip(&mut self.size).zip(signs) {
            *mean += weight * (sign - *mean);
            *size += weight * (sign.abs() - *size);
        }
    }

    /// The means of steady cells, 0 for others.
    pub(super) fn steady(&self) -> Vec<f32> {
        let steady = |(&mean, &size): (&f32, &f32)| {
            let keeps = size >= VISIBLE && mean.abs() >= STEADY * size;
            if keeps { mean } else { 0.0 }
        };
        self.mean.iter().zip(&self.size).map(steady).collect()
    }
}
