//! Which of the known lights a camera is in.

use super::super::Classifier;

/// The mean of recent frames moves by this share of the way to each new one.
const STEP: f32 = 1.0 / 12.0;
/// A frame this many times farther from the mean than usual moves it no farther than such a one would.
const FAR: f32 = 3.0;
/// Another light must be nearer than the present one by this factor, so that the choice does not flicker.
const NEARER: f32 = 0.7;

/// Chooses among known lights by the place of recent frames inside the directions that light moves. Light 0 is that of the
/// calibration.
#[derive(Debug, Clone, Default)]
pub struct Chooser {
    mean: Vec<f32>,
    /// The usual distance of a frame from the mean.
    usual: f32,
    frames: u32,
    present: usize,
}

impl Chooser {
    /// Begins in one of the lights, whose place `[q]` is known.
    #[must_use]
    pub fn at(present: usize, place: &[f32]) -> Self {
        Self {
            mean: place.to_vec(),
            present,
            ..Self::default()
        }
    }

    /// The light that was chosen last.
    #[must_use]
    pub fn present(&self) -> usize {
        self.present
    }

    /// Takes a frame's place, and chooses among the lights at `places`, each `[q]`; the calibration's first. `weights`
    /// `[q]` make a distance of coordinates.
    pub fn update(&mut self, place: &[f32], places: &[Vec<f32>], weights: &[f32]) -> usize {
        let distance = |a: &[f32], b: &[f32]| {
            let terms = a.iter().zip(b).zip(weights);
            terms
                .map(|((a, b), w)| w * (a - b) * (a - b))
                .sum::<f32>()
                .sqrt()
        };
        if place.iter().any(|v| !v.is_finite()) || place.len() != weights.len() {
            return self.present;
        }
        if self.mean.len() != place.len() {
            self.mean = place.to_vec();
        }
        let away = distance(place, &self.mean);
        self.frames = self.frames.saturating_add(1);
        let weight = STEP.max(1.0 / self.frames as f32);
        self.usual += (away.min(FAR * self.usual.max(away * weight)) - self.usual) * weight;
        let bounded = (FAR * self.usual / away.max(f32::MIN_POSITIVE)).min(1.0);
        for (m, p) in self.mean.iter_mut().zip(place) {
            *m += (p - *m) * STEP * bounded;
        }
        let home = places
            .first()
            .map_or(f32::INFINITY, |p| distance(&self.mean, p));
        let reach = |i: usize| {
            i == 0 || distance(&self.mean, &places[i]) <= distance(&places[i], &places[0])
        };
        let candidates = (0..places.len()).filter(|&i| reach(i));
        let nearest = candidates
            .map(|i| (i, distance(&self.mean, &places[i])))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or((0, home));
        let stays = places.get(self.present).filter(|_| reach(self.present));
        let own = stays.map_or(f32::INFINITY, |p| distance(&self.mean, p));
        if nearest.0 != self.present && nearest.1 < NEARER * own {
            self.present = nearest.0;
        }
        self.present
    }
}

impl Classifier {
    /// The place `[q]` of an embedding `[D]` inside the directions of drift, for a [`Chooser`]; `None` if the bank does not
    /// measure drift.
    #[must_use]
    pub fn variant_place(&self, embedding: &[f32]) -> Option<Vec<f32>> {
        let drift = self.drift()?;
        let unit = crate::numeric::unit(embedding);
        let along = |axis: &Vec<f32>| crate::numeric::dot(axis, &unit);
        Some(drift.axes.iter().map(along).collect())
    }

    /// The place `[q]` of the calibration's light, and the weights `[q]` of distances there.
    #[must_use]
    pub fn calibration_place(&self) -> Option<(&[f32], &[f32])> {
        let drift = self.drift()?;
        Some((&drift.center, &drift.weights))
    }
}
