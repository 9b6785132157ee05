//! An offset that follows the light.

use super::offset::shrunk;
use super::reference::Reference;
use crate::classify::confidence::narrow;
use std::collections::VecDeque;

/// The mean of the last frames along the few directions that light moves most, mixed with the calibration's light.
#[derive(Debug, Clone)]
pub struct RunningOffset {
    window: usize,
    shrink: f64,
    /// Coordinates `[q]` of each frame.
    recent: VecDeque<Vec<f32>>,
    sums: Vec<f64>,
}

impl RunningOffset {
    /// With the window and the shrinkage that the bank's simulation chose.
    #[must_use]
    pub fn new(reference: &Reference) -> Self {
        Self::with(
            reference,
            reference.running.window,
            reference.running.shrink,
        )
    }

    pub(in crate::classify) fn with(reference: &Reference, window: u32, shrink: u32) -> Self {
        Self {
            window: window.clamp(1, 10_000) as usize,
            shrink: f64::from(shrink),
            recent: VecDeque::new(),
            sums: vec![0.0; reference.axes.len()],
        }
    }

    /// Takes a frame's unit embedding `[D]`.
    pub fn push(&mut self, reference: &Reference, unit: &[f32]) {
        self.push_coordinates(reference.coordinates(unit));
    }

    pub(in crate::classify) fn push_coordinates(&mut self, coordinates: Vec<f32>) {
        if coordinates.iter().any(|c| !c.is_finite()) {
            return;
        }
        self.recent.push_back(coordinates);
        if self.recent.len() > self.window {
            self.recent.pop_front();
        }
        // Summed anew: a running sum would keep its rounding errors for ever.
        self.sums.fill(0.0);
        for frame in &self.recent {
            self.sums
                .iter_mut()
                .zip(frame)
                .for_each(|(s, &c)| *s += f64::from(c));
        }
    }

    /// The offset `[D]` at present.
    #[must_use]
    pub fn offset(&self, reference: &Reference) -> Vec<f32> {
        reference.vector(&self.along())
    }

    /// The offset along the reference's axes, `[q]`.
    pub(in crate::classify) fn along(&self) -> Vec<f32> {
        let n = self.recent.len();
        let factor = f64::from(shrunk(n, self.shrink)) / n.max(1) as f64;
        self.sums.iter().map(|s| narrow(s * factor)).collect()
    }
}
