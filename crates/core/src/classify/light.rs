//! How far the light of a camera is from that of the calibration, over many frames.
//!
//! [`Drift`](super::Drift) measures one embedding; an object that passes moves it, too. [`DriftMeter`] keeps the median of
//! the recent frames, and [`Light`] says what it means, by quantiles of the calibration itself.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Distances are counted in bins, this many per factor of two, from 2^-6 to 2^10 times the usual distance.
const PER_OCTAVE: f32 = 8.0;
const LOWEST_OCTAVE: f32 = -6.0;
const BINS: usize = 128;
/// Older frames count less, by this time constant, but never fewer than so many frames, nor more.
const MEMORY: Duration = Duration::from_secs(20);
const LEAST_FRAMES: f32 = 10.0;
const MOST_FRAMES: f32 = 200.0;

/// The exponentially weighted median of the distances that [`Drift::distance`](super::Drift::distance) gives.
///
/// ```
/// use constancy_core::classify::DriftMeter;
///
/// let mut meter = DriftMeter::default();
/// for frame in 0..100u64 {
///     // Every tenth frame, a hand is in the picture.
///     meter.update(if frame % 10 == 0 { 90.0 } else { 1.0 }, frame * 200_000_000);
/// }
/// let level = meter.level().expect("it has seen frames");
/// assert!((0.9..1.1).contains(&level), "{level}");
/// ```
#[derive(Debug, Clone)]
pub struct DriftMeter {
    /// The weight of the frames in each bin; the sum is 1 after the first frame.
    bins: Vec<f32>,
    frames: f32,
    last_ns: u64,
}

impl Default for DriftMeter {
    fn default() -> Self {
        Self {
            bins: vec![0.0; BINS],
            frames: 0.0,
            last_ns: 0,
        }
    }
}

impl DriftMeter {
    /// Takes the distance of a frame captured at `monotonic_ns`.
    pub fn update(&mut self, distance: f32, monotonic_ns: u64) {
        let waited = Duration::from_nanos(monotonic_ns.saturating_sub(self.last_ns));
        self.last_ns = monotonic_ns;
        self.frames = (self.frames + 1.0).min(MOST_FRAMES);
        let by_time = 1.0 - (-waited.as_secs_f32() / MEMORY.as_secs_f32()).exp();
        // The first frames all weigh the same.
        let weight = by_time
            .clamp(1.0 / MOST_FRAMES, 1.0 / LEAST_FRAMES)
            .max(1.0 / self.frames);
        self.bins.iter_mut().for_each(|b| *b *= 1.0 - weight);
        self.bins[bin(distance)] += weight;
    }

    /// The median; `None` before the first frame.
    #[must_use]
    pub fn level(&self) -> Option<f32> {
        let half = self.bins.iter().sum::<f32>() / 2.0;
        let mut below = 0.0;
        for (i, &weight) in self.bins.iter().enumerate() {
            if weight > 0.0 && below + weight >= half {
                let inside = (half - below) / weight;
                return Some(((i as f32 + inside) / PER_OCTAVE + LOWEST_OCTAVE).exp2());
            }
            below += weight;
        }
        None
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the number of bins"
)]
fn bin(distance: f32) -> usize {
    let at = (distance.max(f32::MIN_POSITIVE).log2() - LOWEST_OCTAVE) * PER_OCTAVE;
    at.clamp(0.0, (BINS - 1) as f32) as usize
}

/// Distances that say what a median of distances means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LightLimits {
    /// Nearer than this, light is as calibrated again: 85 % of clean calibration images are.
    pub near: f32,
    /// Farther than this, it is drifting: 95 % of clean calibration images are nearer.
    pub usual: f32,
    /// Farther than this, it is unlike the calibration's: almost no calibration image is, under interventions neither.
    pub tail: f32,
}

/// The light of a camera beside that of the calibration.
///
/// ```
/// use constancy_core::classify::{Light, LightLimits};
///
/// let limits = LightLimits { near: 1.3, usual: 1.6, tail: 3.6 };
/// let light = Light::AsCalibrated.next(1.5, &limits);
/// assert_eq!(light, Light::AsCalibrated);
/// assert_eq!(light.next(1.7, &limits), Light::Drifting);
/// // It does not flicker.
/// assert_eq!(Light::Drifting.next(1.5, &limits), Light::Drifting);
/// assert_eq!(Light::Drifting.next(4.0, &limits), Light::Unlike);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Light {
    #[default]
    #[serde(rename = "as calibrated")]
    AsCalibrated,
    Drifting,
    Unlike,
}

impl Light {
    /// The light after frames with this median distance.
    #[must_use]
    pub fn next(self, level: f32, limits: &LightLimits) -> Self {
        let tail = limits.tail.max(limits.usual);
        // Back from unlike half the way between both limits, as factors.
        let back = (tail * limits.usual).sqrt();
        if level > tail || (self == Self::Unlike && level > back) {
            Self::Unlike
        } else if level > limits.usual || (self != Self::AsCalibrated && level > limits.near) {
            Self::Drifting
        } else {
            Self::AsCalibrated
        }
    }

    /// As in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsCalibrated => "as calibrated",
            Self::Drifting => "drifting",
            Self::Unlike => "unlike",
        }
    }
}

impl fmt::Display for Light {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn new_light_is_told_within_half_a_minute_at_any_rate() {
        for frames_per_s in [1, 5, 30] {
            let mut meter = DriftMeter::default();
            let mut now = 0;
            let mut feed = |meter: &mut DriftMeter, distance: f32, seconds: u64| {
                for _ in 0..seconds * frames_per_s {
                    now += SECOND / frames_per_s;
                    meter.update(distance, now);
                }
            };
            feed(&mut meter, 1.0, 300);
            feed(&mut meter, 8.0, 3);
            assert!(meter.level().unwrap() < 1.1, "a lorry passed");
            feed(&mut meter, 1.0, 60);
            feed(&mut meter, 8.0, 30);
            let level = meter.level().unwrap();
            assert!(level > 7.0, "{frames_per_s} frames a second: {level}");
        }
    }

    #[test]
    fn nothing_is_known_before_the_first_frame() {
        assert_eq!(DriftMeter::default().level(), None);
    }

    proptest! {
        #[test]
        fn the_level_lies_among_the_distances(
            distances in prop::collection::vec(0.02f32..900.0, 1..60),
            step_ms in 0u64..20_000,
        ) {
            let mut meter = DriftMeter::default();
            for (i, &d) in distances.iter().enumerate() {
                meter.update(d, i as u64 * step_ms * 1_000_000);
            }
            let level = meter.level().unwrap();
            let low = distances.iter().copied().fold(f32::INFINITY, f32::min);
            let high = distances.iter().copied().fold(0.0, f32::max);
            // A bin is 9 % wide.
            prop_assert!(level >= low / 1.1 && level <= high * 1.1, "{} of {:?}", level, distances);
        }

        #[test]
        fn no_distance_makes_it_panic(distances: Vec<f32>, times: Vec<u64>) {
            let mut meter = DriftMeter::default();
            for (&d, &t) in distances.iter().zip(&times) {
                meter.update(d, t);
                prop_assert!(meter.level().is_some_and(f32::is_finite));
            }
        }
    }
}
